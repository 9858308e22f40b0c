//! The model: embedding, blocks, norm, head.

mod adapters;
mod parameters;
mod vocabulary;

use burn::module::{Module, Param, ParamId};
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::attention::Attention;
use crate::block::Block;
use crate::config::LlamaConfig;
use crate::kernels::{self, TokenScores};
use crate::layers::{Linear, RmsNorm, SwiGlu};
use crate::lora::{LoraConfig, TokenRows};
use crate::parameters::ParameterMap;
use crate::random::Stream;
use crate::rope::{Rotary, RotaryTable};
use crate::token_input::TokenInput;

/// A causal language model of the Llama family.
#[derive(Module, Debug)]
pub struct Llama {
    pub(crate) embed_tokens: Param<Tensor<2>>,
    pub(crate) layers: Vec<Block>,
    pub(crate) norm: RmsNorm,
    /// Absent where the embedding is the head as well.
    pub(crate) lm_head: Option<Linear>,
    /// Trained rows of a frozen embedding, and of a frozen head that is not the embedding.
    pub(crate) embed_rows: Option<TokenRows>,
    pub(crate) head_rows: Option<TokenRows>,
    /// Present where adapters are; everything else is then frozen.
    #[module(skip)]
    pub(crate) lora: Option<LoraConfig>,
    #[module(skip)]
    pub(crate) config: LlamaConfig,
    #[module(skip)]
    pub(crate) rotary: RotaryTable,
}

impl Llama {
    /// Random weights: N(0, `initializer_range`²), norms 1, biases 0. They depend on seed and parameter names alone.
    pub fn init(config: &LlamaConfig, seed: u64, device: &Device) -> Self {
        Self::blank(config, device).map_parameters(&mut Random { seed, deviation: config.initializer_range, device })
    }

    /// The shape.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.embed_tokens.val().device()
    }

    /// How many numbers the model has; a tied head counts once.
    pub fn num_parameters(&self) -> usize {
        self.num_params()
    }

    /// Hidden states `[rows, width, hidden]` after the final norm.
    pub fn hidden(&self, tokens: &TokenInput) -> Tensor<3> {
        let rotary = self.rotary(tokens);
        let mut x = self.embed(tokens.ids.clone());
        for block in &self.layers {
            x = block.forward_rows(x, &rotary, tokens);
        }
        self.normed(x, tokens)
    }

    pub(crate) fn rotary(&self, tokens: &TokenInput) -> Rotary {
        self.rotary.at(&tokens.positions, &tokens.ids.device())
    }

    /// The final norm of `[cells, hidden]`, as `[rows, width, hidden]`.
    pub(crate) fn normed(&self, x: Tensor<2>, tokens: &TokenInput) -> Tensor<3> {
        self.norm.forward(x).reshape([tokens.rows, tokens.width, self.config.hidden_size])
    }

    /// Embeddings `[n, hidden]` of ids `[n]`.
    pub(crate) fn embed(&self, ids: Tensor<1, Int>) -> Tensor<2> {
        let x = kernels::embedding(self.embed_tokens.val(), ids.clone());
        self.embed_rows.iter().fold(x, |x, rows| rows.embed(x, &ids))
    }

    /// Whether a gradient of [`Llama::embed`] is of use to anyone.
    pub(crate) fn trains_embedding(&self) -> bool {
        self.embed_tokens.val().is_require_grad() || self.embed_rows.as_ref().is_some_and(|rows| rows.rows.val().is_require_grad())
    }

    /// Logits `[n, vocab]` of hidden states `[n, hidden]`.
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        let logits = kernels::linear(hidden.clone(), self.head());
        self.rows_of_head().fold(logits, |logits, rows| rows.logits(hidden.clone(), logits))
    }

    /// The output embedding `[vocab, hidden]`, without the rows that are trained alone.
    fn head(&self) -> Tensor<2> {
        self.lm_head.as_ref().map_or_else(|| self.embed_tokens.val(), |head| head.weight.val())
    }

    fn rows_of_head(&self) -> impl Iterator<Item = &TokenRows> {
        if self.lm_head.is_some() { self.head_rows.iter() } else { self.embed_rows.iter() }
    }

    /// Log-probs of `targets` `[n]` given the hidden states `[n, hidden]` that predict them, with f32 log-softmax.
    /// Select the rows that have a target first: nothing else should pay for the head.
    pub fn token_log_probs(&self, hidden: Tensor<2>, targets: Tensor<1, Int>) -> TokenScores {
        match self.rows_of_head().next() {
            None => kernels::token_log_probs(hidden, self.head(), targets),
            Some(rows) => rows.token_log_probs(hidden, self.head(), targets),
        }
    }

    /// The model's shape without numbers: each parameter knows its own, and nothing is allocated. Whoever asks for it has to
    /// replace every parameter.
    pub(crate) fn blank(config: &LlamaConfig, device: &Device) -> Self {
        let linear = |out, input| Linear::new(without_numbers([out, input], device));
        let biased = |out, input| Linear { bias: config.family.has_bias().then(|| without_numbers([out], device)), ..linear(out, input) };
        let norm_of = |width| RmsNorm { weight: without_numbers([width], device), epsilon: config.rms_norm_eps };
        let norm = || norm_of(config.hidden_size);
        let head_norm = || config.family.norms_heads().then(|| norm_of(config.head_dim));
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let (queries, keys) = (config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim);
        let block = || Block {
            input_layernorm: norm(),
            self_attn: Attention {
                q_proj: biased(queries, hidden),
                k_proj: biased(keys, hidden),
                v_proj: biased(keys, hidden),
                o_proj: linear(hidden, queries),
                q_norm: head_norm(),
                k_norm: head_norm(),
                heads: config.num_attention_heads,
                kv_heads: config.num_key_value_heads,
                head_dim: config.head_dim,
            },
            post_attention_layernorm: norm(),
            mlp: SwiGlu { gate_proj: linear(inner, hidden), up_proj: linear(inner, hidden), down_proj: linear(hidden, inner) },
        };
        Self {
            embed_tokens: without_numbers([config.vocab_size, hidden], device),
            layers: (0..config.num_hidden_layers).map(|_| block()).collect(),
            norm: norm(),
            lm_head: (!config.tie_word_embeddings).then(|| linear(config.vocab_size, hidden)),
            embed_rows: None,
            head_rows: None,
            lora: None,
            config: config.clone(),
            rotary: RotaryTable::new(config),
        }
    }
}

/// A parameter of a model without numbers: see [`Llama::blank`].
pub(crate) fn without_numbers<const D: usize>(shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    Param::uninitialized(ParamId::new(), move |device, _| Tensor::zeros(shape, device), device.clone(), true, shape.into())
}

/// Fresh weights.
struct Random<'a> {
    seed: u64,
    deviation: f64,
    device: &'a Device,
}

impl ParameterMap for Random<'_> {
    fn map<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let shape = param.lazy_shape();
        let values: Vec<f32> = if name.ends_with("norm.weight") {
            vec![1.0; shape.num_elements()]
        } else if name.ends_with("proj.bias") {
            vec![0.0; shape.num_elements()]
        } else {
            let mut stream = Stream::new(self.seed, name);
            (0..shape.num_elements()).map(|_| (stream.normal() * self.deviation) as f32).collect()
        };
        Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), self.device))
    }
}
