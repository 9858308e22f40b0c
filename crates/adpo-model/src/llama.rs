//! The model; read top to bottom it is the figure of the paper.

use burn::module::{Module, Param, ParamId};
use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};

use crate::attention::{Attention, attend};
use crate::config::LlamaConfig;
use crate::kernels::{self, AttentionMask, TokenScores};
use crate::lora::{Lora, LoraConfig, TokenRows};
use crate::parameters::ParameterMap;
use crate::random::Stream;
use crate::rope::{Rotary, RotaryTable};

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

/// Attention and feed-forward, each on a normed input, each added to the residual stream.
#[derive(Module, Debug)]
pub(crate) struct Block {
    pub(crate) input_layernorm: RmsNorm,
    pub(crate) self_attn: Attention,
    pub(crate) post_attention_layernorm: RmsNorm,
    pub(crate) mlp: SwiGlu,
}

/// `x / sqrt(mean(x²) + ε) · weight` (Zhang & Sennrich 2019).
#[derive(Module, Debug)]
pub(crate) struct RmsNorm {
    pub(crate) weight: Param<Tensor<1>>,
    #[module(skip)]
    pub(crate) epsilon: f64,
}

/// `x · Wᵀ` with `W` `[out, in]`, as checkpoints store it, and what a low-rank adapter adds.
#[derive(Module, Debug)]
pub(crate) struct Linear {
    pub(crate) weight: Param<Tensor<2>>,
    pub(crate) adapter: Option<Lora>,
}

/// `(silu(x·Gᵀ) ⊙ x·Uᵀ)·Dᵀ` (Shazeer 2020).
#[derive(Module, Debug)]
#[expect(clippy::struct_field_names, reason = "the names of the checkpoint's tensors")]
pub(crate) struct SwiGlu {
    pub(crate) gate_proj: Linear,
    pub(crate) up_proj: Linear,
    pub(crate) down_proj: Linear,
}

impl RmsNorm {
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        kernels::rms_norm(x, self.weight.val(), self.epsilon)
    }
}

impl Linear {
    pub(crate) fn new(weight: Param<Tensor<2>>) -> Self {
        Self { weight, adapter: None }
    }

    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let y = kernels::linear(x.clone(), self.weight.val());
        match &self.adapter {
            None => y,
            Some(adapter) => y + adapter.forward(x),
        }
    }
}

impl SwiGlu {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.down_proj.forward(kernels::swiglu(self.gate_proj.forward(x.clone()), self.up_proj.forward(x)))
    }
}

/// A batch of token ids with everything that the model has to know of them; all `[rows, width]`.
#[derive(Debug, Clone)]
pub struct TokenInput {
    pub(crate) ids: Tensor<1, Int>,
    positions: Vec<u32>,
    mask: AttentionMask,
    rows: usize,
    width: usize,
}

impl TokenInput {
    /// From row-major arrays of `rows · width` cells. A cell attends to the cells of its own segment up to itself;
    /// segment 0 is padding by convention, and what is computed for it means nothing.
    ///
    /// # Panics
    /// If an array is not of `rows · width` cells.
    pub fn new(rows: usize, width: usize, ids: &[u32], positions: &[u32], segments: &[u32], device: &Device) -> Self {
        let cells = rows * width;
        assert!([ids.len(), positions.len(), segments.len()] == [cells; 3], "ids, positions and segments need {cells} cells each");
        let ids: Vec<i32> = ids.iter().map(|id| *id as i32).collect();
        Self {
            ids: Tensor::from_data(TensorData::new(ids, [cells]), device),
            positions: positions.to_vec(),
            mask: AttentionMask::new(segments, &vec![0; cells], rows, width, device),
            rows,
            width,
        }
    }

    /// Answers that share their prompt's cells: within a segment, cells of branch 0 are seen by all that follow, those of
    /// another branch by their own alone. Row-major, `rows · width` cells.
    ///
    /// # Panics
    /// If there is not one branch per cell.
    #[must_use]
    pub fn with_branches(self, branches: &[u32]) -> Self {
        Self { mask: self.mask.with_branches(branches), ..self }
    }
}

impl Llama {
    /// Random weights: N(0, `initializer_range`²), norms 1. They depend on seed and parameter names alone.
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

    /// Another vocabulary. New rows of embedding and head start as the mean of the old ones, which makes a new token
    /// as likely as an average one (Hewitt 2021); rows beyond a smaller vocabulary are cut off. Adapters are merged first.
    #[must_use]
    pub fn resize_vocab(self, vocab: usize) -> Self {
        let mut model = self.merge_lora();
        let resize = |param: Param<Tensor<2>>| {
            param.map(|rows| {
                let rows = rows.without_autodiff();
                let old = rows.dims()[0];
                if vocab <= old {
                    return rows.slice(0..vocab);
                }
                let mean = mean_row(&rows).repeat_dim(0, vocab - old);
                Tensor::cat(vec![rows, mean], 0)
            })
        };
        model.embed_tokens = resize(model.embed_tokens);
        model.lm_head = model.lm_head.map(|head| Linear::new(resize(head.weight)));
        model.config.vocab_size = vocab;
        model
    }

    /// The model with a new token: it starts as the mean of all others, see [`Llama::resize_vocab`], also where the
    /// checkpoint has a spare row for its id.
    #[must_use]
    pub fn with_new_token(self, id: u32) -> Self {
        let id = id as usize;
        if id < self.config.vocab_size { self.with_mean_row(id) } else { self.resize_vocab(id + 1) }
    }

    /// The model without a token. Its rows of embedding and head are cut off where they are the last ones; elsewhere
    /// they become the mean of all others, which says nothing of it.
    #[must_use]
    pub fn without_token(self, id: u32) -> Self {
        let id = id as usize;
        if id + 1 == self.config.vocab_size { self.resize_vocab(id) } else { self.with_mean_row(id) }
    }

    /// Makes an id one of those that end a sequence for `generate` of transformers.
    #[must_use]
    pub fn ending_at(mut self, id: u32) -> Self {
        if !self.config.eos_token_ids.contains(&id) {
            self.config.eos_token_ids.push(id);
        }
        self
    }

    fn with_mean_row(self, id: usize) -> Self {
        let vocab = self.config.vocab_size;
        if id >= vocab {
            return self;
        }
        let replace = |param: Param<Tensor<2>>| {
            param.map(|rows| {
                let rows = rows.without_autodiff();
                let others = Tensor::cat(vec![rows.clone().slice(0..id), rows.clone().slice(id + 1..vocab)], 0);
                let mean = mean_row(&others);
                Tensor::cat(vec![rows.clone().slice(0..id), mean, rows.slice(id + 1..vocab)], 0)
            })
        };
        let mut model = self.merge_lora();
        model.embed_tokens = replace(model.embed_tokens);
        model.lm_head = model.lm_head.map(|head| Linear::new(replace(head.weight)));
        model
    }

    /// The model's shape without numbers: each parameter knows its own, and nothing is allocated. Whoever asks for it has to
    /// replace every parameter.
    pub(crate) fn blank(config: &LlamaConfig, device: &Device) -> Self {
        let linear = |out, input| Linear::new(without_numbers([out, input], device));
        let norm = || RmsNorm { weight: without_numbers([config.hidden_size], device), epsilon: config.rms_norm_eps };
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let (queries, keys) = (config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim);
        let block = || Block {
            input_layernorm: norm(),
            self_attn: Attention {
                q_proj: linear(queries, hidden),
                k_proj: linear(keys, hidden),
                v_proj: linear(keys, hidden),
                o_proj: linear(hidden, queries),
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

/// The mean of rows, `[1, hidden]`, in their type; summed in f32, since in bf16 the sum of a vocabulary would stand still.
fn mean_row(rows: &Tensor<2>) -> Tensor<2> {
    rows.clone().cast(FloatDType::F32).mean_dim(0).cast(rows.dtype())
}

fn without_numbers<const D: usize>(shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
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
        } else {
            let mut stream = Stream::new(self.seed, name);
            (0..shape.num_elements()).map(|_| (stream.normal() * self.deviation) as f32).collect()
        };
        Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), self.device))
    }
}

impl Block {
    /// `x` is `[cells, hidden]`; `mix` is attention over `q`, `k`, `v` `[cells, heads, head_dim]`.
    pub(crate) fn forward(
        &self,
        x: Tensor<2>,
        rotary: &Rotary,
        mix: impl FnOnce(Tensor<3>, Tensor<3>, Tensor<3>) -> Tensor<3>,
    ) -> Tensor<2> {
        let x = x.clone() + self.self_attn.forward(self.input_layernorm.forward(x), rotary, mix);
        x.clone() + self.mlp.forward(self.post_attention_layernorm.forward(x))
    }

    /// The block over the cells of a whole batch.
    pub(crate) fn forward_rows(&self, x: Tensor<2>, rotary: &Rotary, tokens: &TokenInput) -> Tensor<2> {
        self.forward(x, rotary, |q, k, v| attend(q, k, v, tokens.rows, &tokens.mask))
    }
}
