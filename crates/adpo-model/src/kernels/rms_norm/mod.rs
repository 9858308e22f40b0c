//! RMSNorm: `y = x / √(mean(x²) + ε) · w` over the last dimension (Zhang & Sennrich 2019, arXiv 1910.07467, equation 4).

mod autodiff;
#[cfg(feature = "_cube")]
mod cube;
mod flex;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};
use burn::tensor::{Shape, Tensor};

use super::composed::{narrow, shape, widen};

#[cfg(feature = "_source")]
pub(in crate::kernels) use cube::sources;

/// `x` `[n, d]` normed and scaled by `weight` `[d]`; statistics in f32 at least.
pub fn rms_norm(x: Tensor<2>, weight: Tensor<1>, epsilon: f64) -> Tensor<2> {
    use burn::backend::Dispatch;
    Tensor::from_dispatch(<Dispatch as RmsNormOps>::fused_rms_norm(x.into_dispatch(), weight.into_dispatch(), epsilon).0)
}

/// The backend's side of [`rms_norm`]; the bodies here define it.
#[backend_extension(Autodiff, Flex, Cube: cfg(feature = "_cube"))]
pub trait RmsNormOps: Backend {
    /// (`y` `[n, d]`, `1 / √(mean(x²) + ε)` `[n]`).
    fn fused_rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f64) -> (FloatTensor<Self>, FloatTensor<Self>) {
        composed::<Self>(x, weight, epsilon)
    }

    /// (`dx` `[n, d]`, `dw` `[d]`) from `dy` `[n, d]`: with `x̂ = x·r` and `g = dy·w`, `dx = r·(g − x̂·mean(g·x̂))` and
    /// `dw = Σₙ dy·x̂`.
    fn fused_rms_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        composed_backward::<Self>(x, weight, scale, grad)
    }
}

fn composed<B: Backend>(x: FloatTensor<B>, weight: FloatTensor<B>, epsilon: f64) -> (FloatTensor<B>, FloatTensor<B>) {
    let [n, d] = shape::<B, 2>(&x);
    let (x, dtype) = widen::<B>(x);
    let (weight, _) = widen::<B>(weight);
    let mean_square = B::float_mean_dim(B::float_mul(x.clone(), x.clone()), 1);
    let scale = B::float_recip(B::float_sqrt(B::float_add_scalar(mean_square, epsilon.into())));
    let weight = B::float_reshape(weight, Shape::from([1, d]));
    let y = B::float_mul(B::float_mul(x, scale.clone()), weight);
    (narrow::<B>(y, dtype), B::float_reshape(scale, Shape::from([n])))
}

fn composed_backward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    scale: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let [n, d] = shape::<B, 2>(&x);
    let (x, dtype) = widen::<B>(x);
    let (weight, weight_dtype) = widen::<B>(weight);
    let (grad, _) = widen::<B>(grad);
    let scale = B::float_reshape(scale, Shape::from([n, 1]));
    let normed = B::float_mul(x, scale.clone());
    let g = B::float_mul(grad.clone(), B::float_reshape(weight, Shape::from([1, d])));
    let along = B::float_mean_dim(B::float_mul(g.clone(), normed.clone()), 1);
    let dx = B::float_mul(B::float_sub(g, B::float_mul(normed.clone(), along)), scale);
    let dw = B::float_reshape(B::float_sum_dim(B::float_mul(grad, normed), 0), Shape::from([d]));
    (narrow::<B>(dx, dtype), narrow::<B>(dw, weight_dtype))
}
