//! Rotary positions in the split-half form of Hugging Face checkpoints (`RoFormer`, arXiv 2104.09864, equation 34):
//! `(y₁, y₂) = (x₁·cos − x₂·sin, x₂·cos + x₁·sin)` with `x = (x₁, x₂)` the halves of a head.

mod autodiff;
#[cfg(feature = "_cube")]
mod cube;
mod flex;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};
use burn::tensor::{Shape, Slice, Tensor};

use super::composed::{narrow, shape, widen};

#[cfg(feature = "_source")]
pub(in crate::kernels) use cube::sources;

/// `x` `[n, heads, dim]` turned by the angles whose `cos` and `sin` are `[n, dim / 2]`; computed in f32 at least.
pub fn rope(x: Tensor<3>, cos: Tensor<2>, sin: Tensor<2>) -> Tensor<3> {
    use burn::backend::Dispatch;
    Tensor::from_dispatch(<Dispatch as RopeOps>::fused_rope(x.into_dispatch(), cos.into_dispatch(), sin.into_dispatch(), false))
}

/// The backend's side of [`rope`]; the body here defines it.
#[backend_extension(Autodiff, Flex, Cube: cfg(feature = "_cube"))]
pub trait RopeOps: Backend {
    /// `x` turned, or turned back if `inverse`, which is the derivative: a rotation's transpose is its inverse. The angles are
    /// constants.
    fn fused_rope(x: FloatTensor<Self>, cos: FloatTensor<Self>, sin: FloatTensor<Self>, inverse: bool) -> FloatTensor<Self> {
        composed::<Self>(x, cos, sin, inverse)
    }
}

fn composed<B: Backend>(x: FloatTensor<B>, cos: FloatTensor<B>, sin: FloatTensor<B>, inverse: bool) -> FloatTensor<B> {
    let [n, heads, dim] = shape::<B, 3>(&x);
    let (x, dtype) = widen::<B>(x);
    let [cos, sin] = [cos, sin].map(|angle| B::float_reshape(widen::<B>(angle).0, Shape::from([n, 1, dim / 2])));
    let sin = if inverse { B::float_neg(sin) } else { sin };
    let half = |from: usize, to: usize| B::float_slice(x.clone(), &[0..n, 0..heads, from..to].map(Slice::from));
    let (x1, x2) = (half(0, dim / 2), half(dim / 2, dim));
    let y1 = B::float_sub(B::float_mul(x1.clone(), cos.clone()), B::float_mul(x2.clone(), sin.clone()));
    let y2 = B::float_add(B::float_mul(x2, cos), B::float_mul(x1, sin));
    narrow::<B>(B::float_cat(vec![y1, y2], 2), dtype)
}
