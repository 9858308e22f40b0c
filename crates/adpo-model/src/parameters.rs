//! Parameters by the names that Hugging Face checkpoints give them, and adapters by PEFT's.

use burn::module::Param;
use burn::tensor::Tensor;

use crate::Llama;
use crate::attention::Attention;
use crate::llama::{Block, Linear, RmsNorm, SwiGlu};
use crate::lora::LINEAR_LAYERS;

/// Replaces each parameter.
pub trait ParameterMap {
    /// Gets the parameter under its Hugging Face name, gives its replacement (same shape, same id).
    fn map<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>>;
}

/// Looks at each parameter.
pub trait ParameterVisitor {
    /// Gets the parameter under its Hugging Face name.
    fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>);
}

const EMBED_ROWS: &str = "model.embed_tokens.token_adapter.trainable_tokens_delta";
const HEAD_ROWS: &str = "lm_head.token_adapter.trainable_tokens_delta";

impl Llama {
    /// Shows every parameter, in a fixed order: embedding, blocks, norm, head; then adapters.
    pub fn visit_parameters(&self, visitor: &mut impl ParameterVisitor) {
        visitor.visit("model.embed_tokens.weight", &self.embed_tokens);
        for (i, block) in self.layers.iter().enumerate() {
            for (name, linear) in LINEAR_LAYERS.iter().zip(block.linears()) {
                visitor.visit(&format!("model.layers.{i}.{name}.weight"), &linear.weight);
            }
            visitor.visit(&format!("model.layers.{i}.input_layernorm.weight"), &block.input_layernorm.weight);
            visitor.visit(&format!("model.layers.{i}.post_attention_layernorm.weight"), &block.post_attention_layernorm.weight);
        }
        visitor.visit("model.norm.weight", &self.norm.weight);
        if let Some(head) = &self.lm_head {
            visitor.visit("lm_head.weight", &head.weight);
        }
        self.visit_adapters(visitor);
    }

    /// Shows what training changes: the adapters where there are any, or else every parameter.
    pub fn visit_trained_parameters(&self, visitor: &mut impl ParameterVisitor) {
        if self.lora.is_some() { self.visit_adapters(visitor) } else { self.visit_parameters(visitor) }
    }

    /// Shows adapters alone: A and B of each layer, then rows of tokens. In a PEFT file `base_model.model.` stands before the names.
    pub(crate) fn visit_adapters(&self, visitor: &mut impl ParameterVisitor) {
        for (i, block) in self.layers.iter().enumerate() {
            for (name, linear) in LINEAR_LAYERS.iter().zip(block.linears()) {
                if let Some(adapter) = &linear.adapter {
                    visitor.visit(&format!("model.layers.{i}.{name}.lora_A.weight"), &adapter.a);
                    visitor.visit(&format!("model.layers.{i}.{name}.lora_B.weight"), &adapter.b);
                }
            }
        }
        for (name, rows) in [(EMBED_ROWS, &self.embed_rows), (HEAD_ROWS, &self.head_rows)] {
            if let Some(rows) = rows {
                visitor.visit(name, &rows.rows);
            }
        }
    }

    /// Replaces every parameter, in the order of [`Llama::visit_parameters`].
    #[must_use]
    pub fn map_parameters(self, map: &mut impl ParameterMap) -> Self {
        self.map_base(map).map_adapters(map)
    }

    /// Replaces every parameter but those of adapters.
    #[must_use]
    pub(crate) fn map_base(mut self, map: &mut impl ParameterMap) -> Self {
        // Moved in and out, never cloned: who has the only handle to a weight can write it in place.
        self.embed_tokens = map.map("model.embed_tokens.weight", self.embed_tokens);
        let blocks = self.layers.into_iter().enumerate();
        self.layers = blocks.map(|(i, block)| block.map_base(&format!("model.layers.{i}"), map)).collect();
        self.norm = self.norm.map("model.norm.weight", map);
        self.lm_head = self.lm_head.map(|head| Linear { weight: map.map("lm_head.weight", head.weight), ..head });
        self
    }

    /// Replaces adapters alone, in the order of [`Llama::visit_adapters`].
    #[must_use]
    pub(crate) fn map_adapters(mut self, map: &mut impl ParameterMap) -> Self {
        for (name, linear) in self.linears_mut() {
            if let Some(adapter) = &mut linear.adapter {
                adapter.a = map.map(&format!("{name}.lora_A.weight"), adapter.a.clone());
                adapter.b = map.map(&format!("{name}.lora_B.weight"), adapter.b.clone());
            }
        }
        for (name, rows) in [(EMBED_ROWS, &mut self.embed_rows), (HEAD_ROWS, &mut self.head_rows)] {
            if let Some(rows) = rows {
                rows.rows = map.map(name, rows.rows.clone());
            }
        }
        self
    }

    /// The linear layers of the blocks by their whole names.
    pub(crate) fn linears_mut(&mut self) -> impl Iterator<Item = (String, &mut Linear)> {
        let named = |(i, block): (usize, _)| {
            LINEAR_LAYERS.iter().zip(Block::linears_mut(block)).map(move |(name, linear)| (format!("model.layers.{i}.{name}"), linear))
        };
        self.layers.iter_mut().enumerate().flat_map(named)
    }
}

impl RmsNorm {
    fn map(self, name: &str, map: &mut impl ParameterMap) -> Self {
        Self { weight: map.map(name, self.weight), ..self }
    }
}

impl Block {
    /// Replaces every parameter but those of adapters; `at` is the block's name.
    fn map_base(self, at: &str, map: &mut impl ParameterMap) -> Self {
        let Attention { q_proj, k_proj, v_proj, o_proj, .. } = self.self_attn;
        let SwiGlu { gate_proj, up_proj, down_proj } = self.mlp;
        let mut linear = |name, linear: Linear| Linear { weight: map.map(&format!("{at}.{name}.weight"), linear.weight), ..linear };
        Self {
            self_attn: Attention {
                q_proj: linear("self_attn.q_proj", q_proj),
                k_proj: linear("self_attn.k_proj", k_proj),
                v_proj: linear("self_attn.v_proj", v_proj),
                o_proj: linear("self_attn.o_proj", o_proj),
                ..self.self_attn
            },
            mlp: SwiGlu {
                gate_proj: linear("mlp.gate_proj", gate_proj),
                up_proj: linear("mlp.up_proj", up_proj),
                down_proj: linear("mlp.down_proj", down_proj),
            },
            input_layernorm: self.input_layernorm.map(&format!("{at}.input_layernorm.weight"), map),
            post_attention_layernorm: self.post_attention_layernorm.map(&format!("{at}.post_attention_layernorm.weight"), map),
        }
    }

    /// In the order of [`LINEAR_LAYERS`].
    fn linears(&self) -> [&Linear; 7] {
        let (attention, mlp) = (&self.self_attn, &self.mlp);
        [&attention.q_proj, &attention.k_proj, &attention.v_proj, &attention.o_proj, &mlp.gate_proj, &mlp.up_proj, &mlp.down_proj]
    }

    fn linears_mut(&mut self) -> [&mut Linear; 7] {
        let (attention, mlp) = (&mut self.self_attn, &mut self.mlp);
        [
            &mut attention.q_proj,
            &mut attention.k_proj,
            &mut attention.v_proj,
            &mut attention.o_proj,
            &mut mlp.gate_proj,
            &mut mlp.up_proj,
            &mut mlp.down_proj,
        ]
    }
}
