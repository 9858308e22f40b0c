//! gemm, over the threads; a product of few rows streams the weights once instead.
#![expect(clippy::inline_always, reason = "what is not inlined is not compiled for the wider vectors")]

use burn::backend::Flex;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{LinearOps, composed};
use crate::kernels::composed::shape;
use crate::kernels::cpu::{Matrix, all_f32, batch_product, contiguous, dispatch, floats, prefetch, product, tensor};

/// Up to so many rows, packing the weights for gemm costs more than the product.
const FEW_ROWS: usize = 16;
/// Up to so many, gemm's packing costs more than that of [`batch_product`] …
const BATCH: usize = 96;
/// … where the weights come from memory, because the second-level cache (2 MiB) does not hold them.
const CACHED: usize = 512 * 1024;

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
        if n <= BATCH && weight.len() > CACHED {
            return tensor(batch_product(x, weight, n, inner, out), [n, out]);
        }
        tensor(product(Matrix::new(x, n, inner), Matrix::new(weight, out, inner).t()), [n, out])
    }

    fn fused_linear_backward_input(grad: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        if !all_f32(&[&grad, &weight]) {
            return Self::float_matmul(grad, weight);
        }
        let ([n, out], [_, inner]) = (shape::<Self, 2>(&grad), shape::<Self, 2>(&weight));
        let [grad, weight] = [grad, weight].map(contiguous);
        tensor(product(Matrix::new(floats(&grad), n, out), Matrix::new(floats(&weight), out, inner)), [n, inner])
    }

    fn fused_linear_backward_weight(grad: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self> {
        if !all_f32(&[&grad, &x]) {
            return Self::float_matmul(Self::float_transpose(grad), x);
        }
        let ([n, out], [_, inner]) = (shape::<Self, 2>(&grad), shape::<Self, 2>(&x));
        let [grad, x] = [grad, x].map(contiguous);
        tensor(product(Matrix::new(floats(&grad), n, out).t(), Matrix::new(floats(&x), n, inner)), [out, inner])
    }
}

/// `x · Wᵀ` as dot products: each row of weights is read once for all rows of `x`.
fn few_rows(x: &[f32], weight: &[f32], n: usize, inner: usize, out: usize) -> Vec<f32> {
    // One row per weight first, so that each thread writes its own memory.
    let mut columns = vec![0.0; out * n];
    let per_thread = out.div_ceil(rayon::current_num_threads()).next_multiple_of(SIDE);
    columns.par_chunks_mut((per_thread * n).max(1)).zip(weight.par_chunks(per_thread * inner)).for_each(|(columns, weight)| {
        dispatch(Dots { columns, weight, x, inner, n });
    });
    let mut y = vec![0.0; n * out];
    for (row, y) in y.chunks_exact_mut(out).enumerate() {
        for (column, y) in y.iter_mut().enumerate() {
            *y = columns[column * n + row];
        }
    }
    y
}

/// `columns[w · n + row] = x[row] · weight[w]`.
struct Dots<'a> {
    columns: &'a mut [f32],
    weight: &'a [f32],
    x: &'a [f32],
    inner: usize,
    n: usize,
}

impl WithSimd for Dots<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { columns, weight, x, inner, n } = self;
        for (columns, weight) in columns.chunks_mut(SIDE * n).zip(weight.chunks(SIDE * inner)) {
            let mut row = 0;
            while row < n {
                let (columns, x) = (&mut columns[row..], &x[row * inner..]);
                // AVX2 has no registers for so many sums.
                row += if n - row >= SIDE && S::REGISTER_COUNT > SIDE * SIDE {
                    tile::<S, SIDE>(simd, columns, weight, x, inner, n)
                } else {
                    tile::<S, 1>(simd, columns, weight, x, inner, n)
                };
            }
        }
    }
}

/// Rows of weights, and rows of `x`, whose dot products are made together: their sums fill half of the registers of AVX-512.
const SIDE: usize = 4;

/// Some rows of weights with `ROWS` rows of `x`; gives `ROWS`.
#[inline(always)]
fn tile<S: Simd, const ROWS: usize>(simd: S, columns: &mut [f32], weight: &[f32], x: &[f32], inner: usize, n: usize) -> usize {
    if weight.len() == SIDE * inner {
        let mut weights = [&[][..]; SIDE];
        for (i, weight) in weight.chunks_exact(inner).enumerate() {
            weights[i] = weight;
        }
        let products = products::<S, ROWS, SIDE>(simd, weights, x);
        for (i, products) in products.iter().enumerate() {
            columns[i * n..i * n + ROWS].copy_from_slice(products);
        }
    } else {
        for (i, weight) in weight.chunks_exact(inner).enumerate() {
            columns[i * n..i * n + ROWS].copy_from_slice(&products::<S, ROWS, 1>(simd, [weight], x)[0]);
        }
    }
    ROWS
}

/// Each weight's dot products with the rows of `x`; the order of additions depends on the length alone.
#[inline(always)]
fn products<S: Simd, const ROWS: usize, const WEIGHTS: usize>(simd: S, weights: [&[f32]; WEIGHTS], x: &[f32]) -> [[f32; ROWS]; WEIGHTS] {
    let inner = weights[0].len();
    let steps = inner / S::F32_LANES;
    // Cut to one length beforehand: a bounds check in the loop would keep the sums in memory.
    let (mut w, mut rows) = ([&[][..]; WEIGHTS], [&[][..]; ROWS]);
    for (w, weight) in w.iter_mut().zip(weights) {
        *w = &S::as_simd_f32s(weight).0[..steps];
    }
    for row in 0..ROWS {
        rows[row] = &S::as_simd_f32s(&x[row * inner..(row + 1) * inner]).0[..steps];
    }
    let mut sums = [[simd.splat_f32s(0.0); ROWS]; WEIGHTS];
    for step in 0..steps {
        for w in w {
            // The next rows of weights: the hardware loses the thread at the end of each.
            prefetch(w.as_ptr().wrapping_add(step + SIDE * steps));
        }
        for row in 0..ROWS {
            for i in 0..WEIGHTS {
                sums[i][row] = simd.mul_add_e_f32s(w[i][step], rows[row][step], sums[i][row]);
            }
        }
    }
    // No other loop in here: only if these two unroll do the sums stay in registers.
    let mut products = [[0.0; ROWS]; WEIGHTS];
    for i in 0..WEIGHTS {
        for row in 0..ROWS {
            products[i][row] = simd.reduce_sum_f32s(sums[i][row]);
        }
    }
    for k in steps * S::F32_LANES..inner {
        for (products, weight) in products.iter_mut().zip(weights) {
            for (row, product) in products.iter_mut().enumerate() {
                *product += weight[k] * x[row * inner + k];
            }
        }
    }
    products
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use pulp::x86::{V3, V3_512b, V4};

    use super::*;
    use crate::kernels::cpu::InPairs;

    #[test]
    fn avx2_sums_as_avx_512_does_to_the_last_bit() {
        let (Some(narrow), Some(wide)) = (V3::try_new(), V4::try_new()) else {
            eprintln!("skipped: this machine has no AVX-512 to compare with");
            return;
        };
        for [n, inner, out] in [[1, 256, 9], [8, 688, 6], [5, 7, 4], [16, 37, 3], [3, 100, 1]] {
            let numbers = |count: usize, step: f32| (0..count).map(|i| (i as f32 * step).sin()).collect::<Vec<_>>();
            let (x, weight) = (numbers(n * inner, 0.37), numbers(out * inner, 0.59));
            let (mut by_avx2, mut by_avx512) = (vec![0.0; n * out], vec![0.0; n * out]);
            let in_pairs = InPairs { op: Dots { columns: &mut by_avx2, weight: &weight, x: &x, inner, n }, simd: V3_512b(narrow) };
            Simd::vectorize(narrow, in_pairs);
            Simd::vectorize(wide, Dots { columns: &mut by_avx512, weight: &weight, x: &x, inner, n });
            assert!(by_avx2 == by_avx512, "{n} rows of {inner} numbers, {out} weights");
            let exact: f64 = (0..inner).map(|i| f64::from(x[i]) * f64::from(weight[i])).sum();
            assert!((f64::from(by_avx2[0]) - exact).abs() < 1e-4, "{} is not {exact}", by_avx2[0]);
        }
    }
}
