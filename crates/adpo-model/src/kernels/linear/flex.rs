//! gemm, with the rows of the result over the threads; a product of few rows streams the weights once instead.
#![expect(clippy::inline_always, reason = "what is not inlined is not compiled for the wider vectors")]

use burn::backend::Flex;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;

use super::{LinearOps, composed};
use crate::kernels::composed::shape;
use crate::kernels::cpu::{LANES, Matrix, Write, all_f32, contiguous, floats, multiply_parallel, tensor, vectorised};
use rayon::prelude::*;

/// Up to so many rows, packing the weights for gemm costs more than the product.
const FEW_ROWS: usize = 16;
/// Rows of `x` that share one pass over a row of weights.
const TOGETHER: usize = 8;

impl LinearOps for Flex {
    fn fused_linear(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        if !all_f32(&[&x, &weight]) {
            return composed::<Self>(x, weight);
        }
        let ([n, inner], [out, _]) = (shape::<Self, 2>(&x), shape::<Self, 2>(&weight));
        let [x, weight] = [x, weight].map(contiguous);
        let [x, weight] = [&x, &weight].map(floats);
        if n <= FEW_ROWS {
            return tensor(few_rows(x, weight, n, inner, out), [n, out]);
        }
        let mut y = vec![0.0; n * out];
        multiply_parallel(&mut y, Write::Replace, Matrix::new(x, n, inner), Matrix::new(weight, out, inner).t());
        tensor(y, [n, out])
    }

    fn fused_linear_backward_input(grad: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        if !all_f32(&[&grad, &weight]) {
            return Self::float_matmul(grad, weight);
        }
        let ([n, out], [_, inner]) = (shape::<Self, 2>(&grad), shape::<Self, 2>(&weight));
        let [grad, weight] = [grad, weight].map(contiguous);
        let mut dx = vec![0.0; n * inner];
        multiply_parallel(&mut dx, Write::Replace, Matrix::new(floats(&grad), n, out), Matrix::new(floats(&weight), out, inner));
        tensor(dx, [n, inner])
    }

    fn fused_linear_backward_weight(grad: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self> {
        if !all_f32(&[&grad, &x]) {
            return Self::float_matmul(Self::float_transpose(grad), x);
        }
        let ([n, out], [_, inner]) = (shape::<Self, 2>(&grad), shape::<Self, 2>(&x));
        let [grad, x] = [grad, x].map(contiguous);
        let mut dw = vec![0.0; out * inner];
        multiply_parallel(&mut dw, Write::Replace, Matrix::new(floats(&grad), n, out).t(), Matrix::new(floats(&x), n, inner));
        tensor(dw, [out, inner])
    }
}

/// `x · Wᵀ` as dot products: each row of weights is read once for [`TOGETHER`] rows of `x`.
fn few_rows(x: &[f32], weight: &[f32], n: usize, inner: usize, out: usize) -> Vec<f32> {
    // One row per weight first, so that each thread writes its own memory.
    let mut columns = vec![0.0; out * n];
    let per_thread = out.div_ceil(rayon::current_num_threads());
    columns.par_chunks_mut((per_thread * n).max(1)).zip(weight.par_chunks(per_thread * inner)).for_each(|(columns, weight)| {
        dots(columns, weight, x, inner, n);
    });
    let mut y = vec![0.0; n * out];
    for (row, y) in y.chunks_exact_mut(out).enumerate() {
        for (column, y) in y.iter_mut().enumerate() {
            *y = columns[column * n + row];
        }
    }
    y
}

vectorised! {
    fn dots(columns: &mut [f32], weight: &[f32], x: &[f32], inner: usize, n: usize) {
        for (column, weight) in columns.chunks_exact_mut(n).zip(weight.chunks_exact(inner)) {
            for (column, x) in column.chunks_mut(TOGETHER).zip(x.chunks(TOGETHER * inner)) {
                dot(column, weight, x);
            }
        }
    }
}

/// `out[i] = x[i] · weight` for up to [`TOGETHER`] rows of `x`; the order of additions depends on the length alone.
#[inline(always)]
fn dot(out: &mut [f32], weight: &[f32], x: &[f32]) {
    let inner = weight.len();
    let whole = inner / LANES * LANES;
    if let Ok(out) = <&mut [f32; TOGETHER]>::try_from(&mut *out) {
        let mut sums = [[0.0_f32; LANES]; TOGETHER];
        for start in (0..whole).step_by(LANES) {
            let weight: &[f32; LANES] = weight[start..start + LANES].try_into().expect("LANES numbers");
            for (row, sums) in sums.iter_mut().enumerate() {
                let x: &[f32; LANES] = x[row * inner + start..row * inner + start + LANES].try_into().expect("LANES numbers");
                for lane in 0..LANES {
                    sums[lane] = x[lane].mul_add(weight[lane], sums[lane]);
                }
            }
        }
        for (row, out) in out.iter_mut().enumerate() {
            *out = finish(&sums[row], &weight[whole..], &x[row * inner + whole..(row + 1) * inner]);
        }
        return;
    }
    for (row, out) in out.iter_mut().enumerate() {
        let x = &x[row * inner..(row + 1) * inner];
        let mut sums = [0.0_f32; LANES];
        for start in (0..whole).step_by(LANES) {
            for lane in 0..LANES {
                sums[lane] = x[start + lane].mul_add(weight[start + lane], sums[lane]);
            }
        }
        *out = finish(&sums, &weight[whole..], &x[whole..]);
    }
}

#[inline(always)]
fn finish(lanes: &[f32; LANES], weight: &[f32], x: &[f32]) -> f32 {
    lanes.iter().sum::<f32>() + weight.iter().zip(x).map(|(w, x)| w * x).sum::<f32>()
}
