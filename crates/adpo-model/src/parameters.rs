//! Parameters by the names that Hugging Face checkpoints give them.

use burn::module::Param;
use burn::tensor::Tensor;

use crate::Llama;
use crate::llama::Linear;

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

impl Llama {
    /// Shows every parameter, in a fixed order: embedding, blocks, norm, head.
    pub fn visit_parameters(&self, visitor: &mut impl ParameterVisitor) {
        visitor.visit("model.embed_tokens.weight", &self.embed_tokens);
        for (i, block) in self.layers.iter().enumerate() {
            let (attention, mlp) = (&block.self_attn, &block.mlp);
            let matrices = [
                ("self_attn.q_proj", &attention.q_proj),
                ("self_attn.k_proj", &attention.k_proj),
                ("self_attn.v_proj", &attention.v_proj),
                ("self_attn.o_proj", &attention.o_proj),
                ("mlp.gate_proj", &mlp.gate_proj),
                ("mlp.up_proj", &mlp.up_proj),
                ("mlp.down_proj", &mlp.down_proj),
            ];
            for (name, linear) in matrices {
                visitor.visit(&format!("model.layers.{i}.{name}.weight"), &linear.weight);
            }
            visitor.visit(&format!("model.layers.{i}.input_layernorm.weight"), &block.input_layernorm.weight);
            visitor.visit(&format!("model.layers.{i}.post_attention_layernorm.weight"), &block.post_attention_layernorm.weight);
        }
        visitor.visit("model.norm.weight", &self.norm.weight);
        if let Some(head) = &self.lm_head {
            visitor.visit("lm_head.weight", &head.weight);
        }
    }

    /// Replaces every parameter, in the order of [`Llama::visit_parameters`].
    #[must_use]
    pub fn map_parameters(mut self, map: &mut impl ParameterMap) -> Self {
        self.embed_tokens = map.map("model.embed_tokens.weight", self.embed_tokens);
        for (i, block) in self.layers.iter_mut().enumerate() {
            let (attention, mlp) = (&mut block.self_attn, &mut block.mlp);
            let matrices = [
                ("self_attn.q_proj", &mut attention.q_proj),
                ("self_attn.k_proj", &mut attention.k_proj),
                ("self_attn.v_proj", &mut attention.v_proj),
                ("self_attn.o_proj", &mut attention.o_proj),
                ("mlp.gate_proj", &mut mlp.gate_proj),
                ("mlp.up_proj", &mut mlp.up_proj),
                ("mlp.down_proj", &mut mlp.down_proj),
            ];
            for (name, linear) in matrices {
                linear.weight = map.map(&format!("model.layers.{i}.{name}.weight"), linear.weight.clone());
            }
            let norms =
                [("input_layernorm", &mut block.input_layernorm), ("post_attention_layernorm", &mut block.post_attention_layernorm)];
            for (name, norm) in norms {
                norm.weight = map.map(&format!("model.layers.{i}.{name}.weight"), norm.weight.clone());
            }
        }
        self.norm.weight = map.map("model.norm.weight", self.norm.weight);
        self.lm_head = self.lm_head.map(|head| Linear { weight: map.map("lm_head.weight", head.weight) });
        self
    }
}
