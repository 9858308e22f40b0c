//! A forward pass with the way back: every activation kept, or only what each block got.
//!
//! Block-wise recompute is known as gradient checkpointing (Chen et al. 2016, arXiv 1604.06174): the loss's gradient with respect
//! to the last block's output comes first; then each block, from the last one, computes its activations again from its input and
//! passes the gradient down; the embedding comes last. One block's activations are in memory at a time, for one more forward
//! pass. Gradients are the same to the last bit: every block runs the same operations on the same numbers.

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::Tensor;

use crate::{Llama, TokenInput};

/// A forward pass of a model on an autodiff device.
#[derive(Debug)]
pub struct Forward<'a> {
    model: &'a Llama,
    hidden: Tensor<3>,
    /// Absent where the graph reaches from the hidden states down to the weights.
    kept: Option<Kept<'a>>,
}

/// What is left of the blocks' pass.
#[derive(Debug)]
struct Kept<'a> {
    tokens: &'a TokenInput,
    /// What each block got, `[cells, hidden]`, outside of any graph.
    inputs: Vec<Tensor<2>>,
    /// What the last one gave: here the loss's graph ends.
    output: Tensor<2>,
}

impl Llama {
    /// A forward pass whose loss can be gone back from; with `recompute`, blocks keep their inputs alone.
    pub fn forward<'a>(&'a self, tokens: &'a TokenInput, recompute: bool) -> Forward<'a> {
        if !recompute {
            return Forward { model: self, hidden: self.hidden(tokens), kept: None };
        }
        // On the device of the graph, though nothing is recorded: operations off it might round differently.
        let untracked = self.clone().no_grad();
        let rotary = self.rotary(tokens);
        let mut inputs = Vec::with_capacity(self.layers.len());
        let mut x = untracked.embed(tokens.ids.clone());
        for block in &untracked.layers {
            inputs.push(x.clone().inner());
            x = block.forward_rows(x, &rotary, tokens);
        }
        let output = Tensor::from_inner(x.inner()).require_grad();
        let hidden = self.normed(output.clone(), tokens);
        Forward { model: self, hidden, kept: Some(Kept { tokens, inputs, output }) }
    }
}

impl Forward<'_> {
    /// Hidden states `[rows, width, hidden]` after the final norm, as [`Llama::hidden`] gives them.
    pub fn hidden(&self) -> Tensor<3> {
        self.hidden.clone()
    }

    /// The gradients of `loss` `[1]`, which is a function of the hidden states and of the model's head.
    pub fn backward(self, loss: Tensor<1>) -> GradientsParams {
        let Self { model, hidden, kept } = self;
        drop(hidden);
        let mut gradients = loss.backward();
        let Some(Kept { tokens, inputs, output }) = kept else { return GradientsParams::from_grads(gradients, model) };
        let mut sum = GradientsAccumulator::new();
        let slope = output.grad_remove(&mut gradients);
        sum.accumulate(model, GradientsParams::from_grads(gradients, model));
        // A loss that looks at no hidden state has nothing to pass down.
        let Some(mut slope) = slope else { return sum.grads() };
        let rotary = model.rotary(tokens);
        for (block, input) in model.layers.iter().zip(inputs).rev() {
            let x = Tensor::from_inner(input).require_grad();
            let mut gradients = along(block.forward_rows(x.clone(), &rotary, tokens), slope).backward();
            let below = x.grad_remove(&mut gradients);
            sum.accumulate(model, GradientsParams::from_grads(gradients, block));
            // A block adds to its input, which therefore has a gradient.
            let Some(below) = below else { return sum.grads() };
            slope = below;
        }
        if model.trains_embedding() {
            let gradients = along(model.embed(tokens.ids.clone()), slope).backward();
            sum.accumulate(model, GradientsParams::from_grads(gradients, model));
        }
        sum.grads()
    }
}

/// A number whose gradient with respect to `y` is `slope`.
fn along(y: Tensor<2>, slope: Tensor<2>) -> Tensor<1> {
    (y * Tensor::from_inner(slope)).sum()
}

#[cfg(test)]
mod tests;
