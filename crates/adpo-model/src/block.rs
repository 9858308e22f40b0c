//! One block of the model.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::attention::{Attention, attend};
use crate::layers::{RmsNorm, SwiGlu};
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
}
