//! One query per row and head against the cells of the cache, which is read once, as it lies.
#![expect(clippy::inline_always, reason = "what is not inlined is not compiled for the wider vectors")]

use burn::backend::Flex;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::kernels::composed::shape;
use crate::kernels::cpu::{CpuTensor, contiguous, dispatch, exp, floats, ids, max, sum, tensor, vectorised};

pub(super) fn cached(q: CpuTensor, keys: CpuTensor, values: CpuTensor, first: &CpuTensor, used: usize) -> CpuTensor {
    let [rows, heads, dim] = shape::<Flex, 3>(&q);
    let [_, capacity, kv_heads, _] = shape::<Flex, 4>(&keys);
    let [q, keys, values] = [q, keys, values].map(contiguous);
    let [q, keys, values] = [&q, &keys, &values].map(floats);
    let first = ids(first);
    let (width, stride) = (heads * dim, kv_heads * dim);
    let mut o = vec![0.0; rows * width];
    o.par_chunks_mut(width.max(1)).zip(q.par_chunks(width.max(1))).enumerate().for_each(|(row, (o, q))| {
        let cells = (row * capacity + first[row]) * stride..(row * capacity + used) * stride;
        let n = used - first[row];
        let (keys, values) = (&keys[cells.clone()], &values[cells]);
        let mut weights = vec![0.0; heads * n];
        dispatch(AttentionScores { weights: &mut weights, q, keys, dim, stride });
        weights.chunks_exact_mut(n.max(1)).for_each(soften);
        dispatch(Mix { o, weights: &weights, values, dim, stride });
    });
    tensor(o, [rows, heads, dim])
}

/// `weights[head · cells + cell] = q[head] · keys[cell] / √dim`.
struct AttentionScores<'a> {
    weights: &'a mut [f32],
    q: &'a [f32],
    keys: &'a [f32],
    dim: usize,
    stride: usize,
}

impl WithSimd for AttentionScores<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { weights, q, keys, dim, stride } = self;
        let (cells, group) = (keys.len() / stride, q.len() / stride);
        let scale = (dim as f32).powf(-0.5);
        for (cell, keys) in keys.chunks_exact(stride).enumerate() {
            for (head, q) in q.chunks_exact(dim).enumerate() {
                weights[head * cells + cell] = dot(simd, q, &keys[head / group * dim..][..dim]) * scale;
            }
        }
    }
}

#[inline(always)]
fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
    let mut sum = simd.splat_f32s(0.0);
    for (a, b) in a.iter().zip(b) {
        sum = simd.mul_add_e_f32s(*a, *b, sum);
    }
    let mut rest = 0.0;
    for (a, b) in a_rest.iter().zip(b_rest) {
        rest += a * b;
    }
    simd.reduce_sum_f32s(sum) + rest
}

vectorised! {
    /// Softmax.
    fn soften(weights: &mut [f32]) {
        let n = weights.len();
        let top = max(n, |i| weights[i]);
        for weight in weights.iter_mut() {
            *weight = exp(*weight - top);
        }
        let scale = 1.0 / sum(n, |i| weights[i]);
        for weight in weights.iter_mut() {
            *weight *= scale;
        }
    }
}

/// `o[head] = Σ weights[head · cells + cell] · values[cell]`.
struct Mix<'a> {
    o: &'a mut [f32],
    weights: &'a [f32],
    values: &'a [f32],
    dim: usize,
    stride: usize,
}

/// Cells that are added to the result at once, which waits in memory in between.
const TOGETHER: usize = 4;

impl WithSimd for Mix<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { o, weights, values, dim, stride } = self;
        let (cells, group) = (values.len() / stride, o.len() / stride);
        for (block, values) in values.chunks(TOGETHER * stride).enumerate() {
            let first = block * TOGETHER;
            for (head, o) in o.chunks_exact_mut(dim).enumerate() {
                let weights = &weights[head * cells + first..(head + 1) * cells];
                let start = head / group * dim;
                if values.len() == TOGETHER * stride {
                    add::<S, TOGETHER>(simd, o, weights, &values[start..], stride);
                } else {
                    for (cell, values) in values.chunks_exact(stride).enumerate() {
                        add::<S, 1>(simd, o, &weights[cell..], &values[start..], stride);
                    }
                }
            }
        }
    }
}

/// `o += Σ weights[cell] · values[cell · stride..]` over `CELLS` cells.
#[inline(always)]
fn add<S: Simd, const CELLS: usize>(simd: S, o: &mut [f32], weights: &[f32], values: &[f32], stride: usize) {
    let dim = o.len();
    let (o, o_rest) = S::as_mut_simd_f32s(o);
    let (mut cells, mut rests) = ([&[][..]; CELLS], [&[][..]; CELLS]);
    for cell in 0..CELLS {
        let (whole, rest) = S::as_simd_f32s(&values[cell * stride..][..dim]);
        (cells[cell], rests[cell]) = (&whole[..o.len()], &rest[..o_rest.len()]);
    }
    let weights = &weights[..CELLS];
    for (i, o) in o.iter_mut().enumerate() {
        for cell in 0..CELLS {
            *o = simd.mul_add_e_f32s(simd.splat_f32s(weights[cell]), cells[cell][i], *o);
        }
    }
    for (i, o) in o_rest.iter_mut().enumerate() {
        for cell in 0..CELLS {
            *o = rests[cell][i].mul_add(weights[cell], *o);
        }
    }
}
