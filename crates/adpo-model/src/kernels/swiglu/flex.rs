//! One pass each way; results take the place of inputs that nobody else holds.

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;

use super::{SwiGluOps, composed, composed_backward};
use crate::kernels::composed::shape;
use crate::kernels::cpu::{PIECE, all_f32, contiguous, exp, floats, for_rows, for_rows2, tensor, vectorised, writable};

impl SwiGluOps for Flex {
    fn fused_swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        if !all_f32(&[&gate, &up]) {
            return composed::<Self>(gate, up);
        }
        let (mut y, up) = (writable(gate), contiguous(up));
        let up = floats(&up);
        for_rows(y.storage_mut(), 1, |first, y| gate_by(y, &up[first..]));
        y
    }

    fn fused_swiglu_backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if !all_f32(&[&gate, &up, &grad]) {
            return composed_backward::<Self>(gate, up, grad);
        }
        let [n, d] = shape::<Self, 2>(&gate);
        let [gate, up, mut grad] = [contiguous(gate), contiguous(up), writable(grad)];
        let [gate, up] = [&gate, &up].map(floats);
        let mut d_up = vec![0.0; n * d];
        for_rows2((grad.storage_mut::<f32>(), 1), (&mut d_up, 1), PIECE, |first, grad, d_up| {
            slopes(grad, d_up, &gate[first..], &up[first..]);
        });
        (grad, tensor(d_up, [n, d]))
    }
}

vectorised! {
    fn gate_by(gate: &mut [f32], up: &[f32]) {
        for (gate, up) in gate.iter_mut().zip(up) {
            *gate = *gate / (1.0 + exp(-*gate)) * up;
        }
    }

    /// `grad` becomes the gate's.
    fn slopes(grad: &mut [f32], d_up: &mut [f32], gate: &[f32], up: &[f32]) {
        for ((grad, d_up), (gate, up)) in grad.iter_mut().zip(d_up).zip(gate.iter().zip(up)) {
            let s = 1.0 / (1.0 + exp(-gate));
            *d_up = *grad * gate * s;
            *grad *= up * s * (1.0 + gate * (1.0 - s));
        }
    }
}
