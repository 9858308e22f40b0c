//! One pass over the rows each way; `dw` from partial sums of fixed blocks of rows.

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;

use super::{RmsNormOps, composed, composed_backward};
use crate::kernels::composed::shape;
use crate::kernels::cpu::{all_f32, contiguous, floats, for_rows2, sum, tensor, vectorised};

/// Rows that one thread takes at once, and whose share of `dw` is summed before it joins the others.
const BLOCK: usize = 64;

impl RmsNormOps for Flex {
    fn fused_rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f64) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if !all_f32(&[&x, &weight]) {
            return composed::<Self>(x, weight, epsilon);
        }
        let [n, d] = shape::<Self, 2>(&x);
        let (x, weight) = (contiguous(x), contiguous(weight));
        let (x, weight) = (floats(&x), floats(&weight));
        let (mut y, mut scale) = (vec![0.0; n * d], vec![0.0; n]);
        for_rows2((&mut y, d), (&mut scale, 1), BLOCK, |first, y, scale| {
            norm(y, scale, &x[first * d..], weight, epsilon as f32);
        });
        (tensor(y, [n, d]), tensor(scale, [n]))
    }

    fn fused_rms_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if !all_f32(&[&x, &weight, &scale, &grad]) {
            return composed_backward::<Self>(x, weight, scale, grad);
        }
        let [n, d] = shape::<Self, 2>(&x);
        let [x, weight, scale, grad] = [x, weight, scale, grad].map(contiguous);
        let [x, weight, scale, grad] = [&x, &weight, &scale, &grad].map(floats);
        let (mut dx, mut partial) = (vec![0.0; n * d], vec![0.0; n.div_ceil(BLOCK) * d]);
        // `partial` has one row per block of rows of `dx`: BLOCK of one beside one of the other.
        for_rows2((&mut dx, d * BLOCK), (&mut partial, d), 1, |block, dx, dw| {
            let first = block * BLOCK;
            slopes(dx, dw, &x[first * d..], weight, &scale[first..], &grad[first * d..]);
        });
        let mut dw = vec![0.0; d];
        for partial in partial.chunks_exact(d) {
            dw.iter_mut().zip(partial).for_each(|(sum, part)| *sum += part);
        }
        (tensor(dx, [n, d]), tensor(dw, [d]))
    }
}

vectorised! {
    fn norm(y: &mut [f32], scales: &mut [f32], x: &[f32], weight: &[f32], epsilon: f32) {
        let d = weight.len();
        for ((y, x), scale) in y.chunks_exact_mut(d).zip(x.chunks_exact(d)).zip(scales) {
            *scale = 1.0 / (sum(d, |i| x[i] * x[i]) / d as f32 + epsilon).sqrt();
            for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
                *y = x * *scale * weight;
            }
        }
    }

    fn slopes(dx: &mut [f32], dw: &mut [f32], x: &[f32], weight: &[f32], scales: &[f32], grad: &[f32]) {
        let d = weight.len();
        let rows = x.chunks_exact(d).zip(grad.chunks_exact(d)).zip(scales);
        for (dx, ((x, grad), scale)) in dx.chunks_exact_mut(d).zip(rows) {
            let along = sum(d, |i| grad[i] * weight[i] * x[i]) * scale * scale / d as f32;
            let inputs = x.iter().zip(grad).zip(weight);
            for ((dx, dw), ((x, grad), weight)) in dx.iter_mut().zip(&mut *dw).zip(inputs) {
                *dx = scale * (grad * weight - x * along);
                *dw += grad * x * scale;
            }
        }
    }
}
