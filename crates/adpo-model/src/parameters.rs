//! What looks at parameters and what replaces them, by the names that Hugging Face checkpoints give them.

use burn::module::Param;
use burn::tensor::Tensor;

use crate::attention::Attention;
use crate::block::Block;
use crate::layers::{Linear, RmsNorm, SwiGlu};

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

impl RmsNorm {
    pub(crate) fn map(self, name: &str, map: &mut impl ParameterMap) -> Self {
        Self { weight: map.map(name, self.weight), ..self }
    }
}

impl Block {
    /// Replaces every parameter but those of adapters; `at` is the block's name.
    pub(crate) fn map_base(self, at: &str, map: &mut impl ParameterMap) -> Self {
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

    /// In the order of [`LINEAR_LAYERS`](crate::lora::LINEAR_LAYERS).
    pub(crate) fn linears(&self) -> [&Linear; 7] {
        let (attention, mlp) = (&self.self_attn, &self.mlp);
        [&attention.q_proj, &attention.k_proj, &attention.v_proj, &attention.o_proj, &mlp.gate_proj, &mlp.up_proj, &mlp.down_proj]
    }

    pub(crate) fn linears_mut(&mut self) -> [&mut Linear; 7] {
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
