//! The linear map of a checkpoint: `y = x · Wᵀ` with `W` `[out, in]`.
//!
//! Burn's `matmul` of a transposed view gives the weight's gradient transposed, which whoever reads it then has to copy;
//! here both gradients come out as their tensors lie in memory.

mod autodiff;
#[cfg(feature = "_cube")]
mod cube;
mod flex;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};
use burn::tensor::Tensor;

/// `x` `[n, in]` times the transpose of `weight` `[out, in]`.
pub fn linear(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    use burn::backend::Dispatch;
    Tensor::from_dispatch(<Dispatch as LinearOps>::fused_linear(x.into_dispatch(), weight.into_dispatch()))
}

/// The backend's side of [`linear`]; the bodies here define it.
#[backend_extension(Autodiff, Flex, Cube: cfg(feature = "_cube"))]
pub trait LinearOps: Backend {
    /// `y` `[n, out]`.
    fn fused_linear(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::<Self>(x, weight)
    }

    /// `dx = dy · W`, `[n, in]`.
    fn fused_linear_backward_input(grad: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_matmul(grad, weight)
    }

    /// `dW = dyᵀ · x`, `[out, in]`.
    fn fused_linear_backward_weight(grad: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_matmul(Self::float_transpose(grad), x)
    }
}

fn composed<B: Backend>(x: FloatTensor<B>, weight: FloatTensor<B>) -> FloatTensor<B> {
    B::float_matmul(x, B::float_transpose(weight))
}
