//! One block of the model.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::attention::{Attention, attend};
use crate::layers::{Linear, RmsNorm, SwiGlu};
use crate::parameters::ParameterMap;
use crate::rope::Rotary;
use crate::token_input::TokenInput;

/// Attention and feed-forward, each on a normed input, each added to the residual stream.
#[derive(Module, Debug)]
pub(crate) struct Block {
    pub(crate) input_layernorm: RmsNorm,
    pub(crate) self_attn: Attention,
    pub(crate) post_attention_layernorm: RmsNorm,
    pub(crate) mlp: SwiGlu,
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

    /// Replaces every parameter but those of adapters; `at` is the block's name.
    pub(crate) fn map_base(self, at: &str, map: &mut impl ParameterMap) -> Self {
        let Attention { q_proj, k_proj, v_proj, o_proj, q_norm, k_norm, .. } = self.self_attn;
        let SwiGlu { gate_proj, up_proj, down_proj } = self.mlp;
        let mut linear = |name, linear: Linear| linear.map(&format!("{at}.{name}"), map);
        let [q_proj, k_proj, v_proj, o_proj] = [
            linear("self_attn.q_proj", q_proj),
            linear("self_attn.k_proj", k_proj),
            linear("self_attn.v_proj", v_proj),
            linear("self_attn.o_proj", o_proj),
        ];
        let mlp = SwiGlu {
            gate_proj: linear("mlp.gate_proj", gate_proj),
            up_proj: linear("mlp.up_proj", up_proj),
            down_proj: linear("mlp.down_proj", down_proj),
        };
        Self {
            self_attn: Attention {
                q_proj,
                k_proj,
                v_proj,
                o_proj,
                q_norm: q_norm.map(|norm| norm.map(&format!("{at}.self_attn.q_norm"), map)),
                k_norm: k_norm.map(|norm| norm.map(&format!("{at}.self_attn.k_norm"), map)),
                ..self.self_attn
            },
            mlp,
            input_layernorm: self.input_layernorm.map(&format!("{at}.input_layernorm"), map),
            post_attention_layernorm: self.post_attention_layernorm.map(&format!("{at}.post_attention_layernorm"), map),
        }
    }

    /// Its norms by their names within the block.
    pub(crate) fn norms(&self) -> impl Iterator<Item = (&'static str, &RmsNorm)> {
        let heads = [("self_attn.q_norm", &self.self_attn.q_norm), ("self_attn.k_norm", &self.self_attn.k_norm)];
        let heads = heads.into_iter().filter_map(|(name, norm)| Some((name, norm.as_ref()?)));
        heads.chain([("input_layernorm", &self.input_layernorm), ("post_attention_layernorm", &self.post_attention_layernorm)])
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
