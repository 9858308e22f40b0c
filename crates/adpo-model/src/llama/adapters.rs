//! A model with adapters, and without them again.

use burn::module::{Module, Param};
use burn::tensor::{FloatDType, Tensor};

use super::Llama;
use crate::ModelError;
use crate::lora::{Lora, LoraConfig, TokenRows, TrainableTokens};
use crate::parameters::ParameterMap;

impl Llama {
    /// The model with fresh adapters, which change nothing yet; from now on they alone are trained. A depends on seed and names
    /// alone. A clone taken before is the reference of a preference loss: both share the base in memory.
    ///
    /// # Errors
    /// [`ModelError::Lora`] for a configuration that does not fit the model, and for a model that has adapters already: merge
    /// those first, or go on training them.
    pub fn with_lora(self, config: &LoraConfig, seed: u64) -> Result<Self, ModelError> {
        if self.lora.is_some() {
            let problem = "the model has adapters already, and adapters are never stacked; merge them into it first";
            return Err(ModelError::Lora(problem.into()));
        }
        let targets = config.modules(&self.config)?;
        let device = self.device();
        let mut model = self.no_grad();
        for (name, linear) in model.linears_mut().filter(|(name, _)| targets.contains(name)) {
            linear.adapter = Some(Lora::init(&name, linear.weight.val().dims(), config, seed, &device));
        }
        let TrainableTokens { embed_tokens, lm_head } = config.trainable_tokens(&model.config)?;
        model.embed_rows = TokenRows::copied(embed_tokens, &model.embed_tokens);
        model.head_rows = model.lm_head.as_ref().and_then(|head| TokenRows::copied(lm_head, &head.weight));
        model.lora = Some(config.clone());
        Ok(model)
    }

    /// The adapters' configuration, where the model has adapters.
    pub fn lora(&self) -> Option<&LoraConfig> {
        self.lora.as_ref()
    }

    /// The model with its adapters added to the weights, off autodiff; all of it is trainable again. One weight at a time is in
    /// memory twice, if nobody else holds the base.
    #[must_use]
    pub fn merge_lora(self) -> Self {
        if self.lora.is_none() {
            return self;
        }
        let mut model = self.valid();
        for (_, linear) in model.linears_mut() {
            if let Some(adapter) = linear.adapter.take() {
                linear.weight = linear.weight.clone().map(|weight| {
                    let dtype = weight.dtype();
                    (weight.cast(FloatDType::F32) + adapter.product()).cast(dtype)
                });
            }
        }
        if let Some(rows) = model.embed_rows.take() {
            model.embed_tokens = model.embed_tokens.map(|weight| rows.write(weight));
        }
        if let Some((rows, head)) = model.head_rows.take().zip(model.lm_head.as_mut()) {
            head.weight = head.weight.clone().map(|weight| rows.write(weight));
        }
        model.without_lora()
    }

    /// The base, as if there had never been adapters; all of it is trainable again.
    #[must_use]
    pub fn without_lora(mut self) -> Self {
        if self.lora.take().is_none() {
            return self;
        }
        self.linears_mut().for_each(|(_, linear)| linear.adapter = None);
        (self.embed_rows, self.head_rows) = (None, None);
        self.map_parameters(&mut Trainable)
    }
}

struct Trainable;

impl ParameterMap for Trainable {
    fn map<const D: usize>(&mut self, _: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.set_require_grad(true)
    }
}
