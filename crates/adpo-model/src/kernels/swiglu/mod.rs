//! The gate of SwiGLU: `y = silu(gate) ⊙ up` with `silu(g) = g·σ(g)` (Shazeer 2020, arXiv 2002.05202, equation 6).

mod autodiff;
#[cfg(feature = "_cube")]
mod cube;
mod flex;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};
use burn::tensor::Tensor;

use super::composed::{narrow, widen};

#[cfg(feature = "_source")]
pub(in crate::kernels) use cube::sources;

/// `silu(gate) ⊙ up`, all `[n, d]`; computed in f32 at least.
pub fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    use burn::backend::Dispatch;
    Tensor::from_dispatch(<Dispatch as SwiGluOps>::fused_swiglu(gate.into_dispatch(), up.into_dispatch()))
}

/// The backend's side of [`swiglu`]; the bodies here define it.
#[backend_extension(Autodiff, Flex, Cube: cfg(feature = "_cube"))]
pub trait SwiGluOps: Backend {
    /// `y` `[n, d]`.
    fn fused_swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::<Self>(gate, up)
    }

    /// (`dgate`, `dup`): with `s = σ(gate)`, `dgate = dy·up·s·(1 + gate·(1 − s))` and `dup = dy·gate·s`.
    fn fused_swiglu_backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        composed_backward::<Self>(gate, up, grad)
    }
}

fn sigmoid<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::float_recip(B::float_add_scalar(B::float_exp(B::float_neg(x)), 1.0.into()))
}

fn composed<B: Backend>(gate: FloatTensor<B>, up: FloatTensor<B>) -> FloatTensor<B> {
    let (gate, dtype) = widen::<B>(gate);
    let (up, _) = widen::<B>(up);
    narrow::<B>(B::float_mul(B::float_mul(gate.clone(), sigmoid::<B>(gate)), up), dtype)
}

fn composed_backward<B: Backend>(gate: FloatTensor<B>, up: FloatTensor<B>, grad: FloatTensor<B>) -> (FloatTensor<B>, FloatTensor<B>) {
    let (gate, dtype) = widen::<B>(gate);
    let (up, _) = widen::<B>(up);
    let (grad, _) = widen::<B>(grad);
    let s = sigmoid::<B>(gate.clone());
    let rest = B::float_add_scalar(B::float_neg(s.clone()), 1.0.into());
    let slope = B::float_mul(s.clone(), B::float_add_scalar(B::float_mul(gate.clone(), rest), 1.0.into()));
    let d_gate = B::float_mul(B::float_mul(grad.clone(), up), slope);
    let d_up = B::float_mul(grad, B::float_mul(gate, s));
    (narrow::<B>(d_gate, dtype), narrow::<B>(d_up, dtype))
}
