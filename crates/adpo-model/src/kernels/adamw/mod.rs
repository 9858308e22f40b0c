//! AdamW in place, in the arithmetic of `torch.optim.AdamW`, and the sum of squares that global clipping needs.

#[cfg(feature = "_cube")]
mod cube;
mod flex;

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};
use burn::tensor::{Shape, Tensor};

use super::composed::widen;

#[cfg(feature = "_source")]
pub(in crate::kernels) use cube::sources;

/// The numbers of one step.
#[derive(Debug, Clone, Copy)]
pub struct AdamWStep {
    /// η.
    pub learning_rate: f64,
    /// β₁.
    pub beta1: f64,
    /// β₂.
    pub beta2: f64,
    /// ε.
    pub epsilon: f64,
    /// λ; 0 for parameters that do not decay.
    pub weight_decay: f64,
    /// Steps including this one, from 1.
    pub step: u64,
    /// The gradient is multiplied by it first: the clipping factor.
    pub gradient_scale: f64,
}

impl AdamWStep {
    /// (η / (1 − β₁ᵗ), √(1 − β₂ᵗ), 1 − ηλ).
    fn factors(&self) -> (f64, f64, f64) {
        let step = i32::try_from(self.step).unwrap_or(i32::MAX);
        let correction = |beta: f64| 1.0 - beta.powi(step);
        (self.learning_rate / correction(self.beta1), correction(self.beta2).sqrt(), 1.0 - self.learning_rate * self.weight_decay)
    }
}

/// A parameter and its moments, all f32 `[n]`.
#[derive(Debug, Clone)]
pub struct AdamWState {
    /// θ; the f32 master where the model computes in less.
    pub parameter: Tensor<1>,
    /// m.
    pub first: Tensor<1>,
    /// v.
    pub second: Tensor<1>,
}

/// One step of AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101, algorithm 2) with `gradient` `[n]`:
/// `θ ← θ·(1 − ηλ)`, `m ← β₁m + (1 − β₁)g`, `v ← β₂v + (1 − β₂)g²`, `θ ← θ − η/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + ε)`.
///
/// Written in place where nobody else holds the tensors. Not differentiable: the tensors come from off the graph.
pub fn adamw(state: AdamWState, gradient: Tensor<1>, step: AdamWStep) -> AdamWState {
    use burn::backend::Dispatch;
    let AdamWState { parameter, first, second } = state;
    let (parameter, first, second) = <Dispatch as AdamWOps>::fused_adamw(
        parameter.into_dispatch(),
        gradient.into_dispatch(),
        first.into_dispatch(),
        second.into_dispatch(),
        step,
    );
    AdamWState { parameter: Tensor::from_dispatch(parameter), first: Tensor::from_dispatch(first), second: Tensor::from_dispatch(second) }
}

/// `[1]`: the sum of the squares of `x` `[n]`, accumulated in f32 at least.
pub fn sum_of_squares(x: Tensor<1>) -> Tensor<1> {
    use burn::backend::Dispatch;
    Tensor::from_dispatch(<Dispatch as AdamWOps>::fused_sum_of_squares(x.into_dispatch()))
}

/// The backend's side of [`adamw`] and [`sum_of_squares`]; the bodies here define them.
#[backend_extension(Autodiff, Flex, Cube: cfg(feature = "_cube"))]
pub trait AdamWOps: Backend {
    /// (parameter, first moment, second moment).
    fn fused_adamw(
        parameter: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        step: AdamWStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        composed::<Self>(parameter, gradient, first, second, step)
    }

    /// `[1]`.
    fn fused_sum_of_squares(x: FloatTensor<Self>) -> FloatTensor<Self> {
        composed_sum_of_squares::<Self>(x)
    }
}

impl<B: AdamWOps, C: CheckpointStrategy> AdamWOps for Autodiff<B, C> {}

fn composed<B: Backend>(
    parameter: FloatTensor<B>,
    gradient: FloatTensor<B>,
    first: FloatTensor<B>,
    second: FloatTensor<B>,
    step: AdamWStep,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let (size, root, kept) = step.factors();
    let times = |tensor: FloatTensor<B>, factor: f64| B::float_mul_scalar(tensor, factor.into());
    let gradient = times(widen::<B>(gradient).0, step.gradient_scale);
    let first = B::float_add(times(first, step.beta1), times(gradient.clone(), 1.0 - step.beta1));
    let square = B::float_mul(gradient.clone(), gradient);
    let second = B::float_add(times(second, step.beta2), times(square, 1.0 - step.beta2));
    let denominator = B::float_add_scalar(times(B::float_sqrt(second.clone()), 1.0 / root), step.epsilon.into());
    let parameter = B::float_sub(times(parameter, kept), times(B::float_div(first.clone(), denominator), size));
    (parameter, first, second)
}

fn composed_sum_of_squares<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let (x, _) = widen::<B>(x);
    B::float_reshape(B::float_sum(B::float_mul(x.clone(), x)), Shape::from([1]))
}
