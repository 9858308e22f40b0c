//! LoRA (Hu et al. 2021, arXiv 2106.09685): the base is frozen, and beside some of its weights `W` lies a trained product of
//! two thin matrices, `y = x·Wᵀ + s·(x·Aᵀ)·Bᵀ`. `W + s·B·A` is made when adapters are merged, and never in training.

mod config;
mod token_rows;

use burn::module::{Module, Param};
use burn::tensor::{Device, FloatDType, Tensor, TensorData};

pub(crate) use config::LINEAR_LAYERS;
pub use config::{LoraConfig, TargetModules, TrainableTokens};
pub(crate) use token_rows::TokenRows;

use crate::kernels;
use crate::parameters::ParameterMap;
use crate::random::Stream;
use crate::{Llama, ModelError};

/// The thin matrices beside one weight `[out, in]`.
#[derive(Module, Debug)]
pub(crate) struct Lora {
    /// A, `[r, in]`.
    pub(crate) a: Param<Tensor<2>>,
    /// B, `[out, r]`.
    pub(crate) b: Param<Tensor<2>>,
    /// s.
    #[module(skip)]
    scaling: f64,
}

impl Lora {
    /// As in PEFT, A is uniform in ±1/√in (He et al. 2015 with a = √5) and B zero, so that nothing changes before the first step.
    fn init(name: &str, [out, input]: [usize; 2], config: &LoraConfig, seed: u64, device: &Device) -> Self {
        let bound = 1.0 / (input as f64).sqrt();
        let mut stream = Stream::new(seed, &format!("{name}.lora_A.weight"));
        let a: Vec<f32> = (0..config.r * input).map(|_| ((2.0 * stream.uniform() - 1.0) * bound) as f32).collect();
        Self {
            a: Param::from_tensor(Tensor::from_data(TensorData::new(a, [config.r, input]), device)),
            b: Param::from_tensor(Tensor::zeros([out, config.r], device)),
            scaling: config.scaling(),
        }
    }

    /// `s·(x·Aᵀ)·Bᵀ`, `[n, out]` of `x` `[n, in]`, computed in the type of `x`; A and B are f32, so that small steps move them.
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let [a, b] = [&self.a, &self.b].map(|matrix| matrix.val().cast(x.dtype()));
        kernels::linear(kernels::linear(x, a) * self.scaling, b)
    }

    /// `s·B·A`, `[out, in]`.
    fn product(&self) -> Tensor<2> {
        self.b.val().matmul(self.a.val()) * self.scaling
    }
}

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
