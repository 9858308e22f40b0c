//! `x · Wᵀ` for a batch of rows that gemm is slow at: more than a pass of dot products takes, fewer than pay for gemm's packing.
//!
//! The weights are rearranged, 32 rows at a time, to a panel that stays in the second-level cache while all rows of `x` pass over it.
//! Each cell is one sum along `k` in order, so that it is the same to the last bit for any number of threads and with AVX2 as with AVX-512.
#![expect(clippy::inline_always, reason = "what is not inlined is not compiled for the wider vectors")]

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{LANES, MatrixMut, dispatch, prefetch};
#[cfg(target_arch = "x86_64")]
use super::{Vectors, vectors};

/// Rows of weights in a panel, with the widest vectors: two vectors of sums for each row of `x`.
const PANEL: usize = 2 * LANES;
/// Numbers of a row that a panel holds at once: 128 KiB of them.
const DEPTH: usize = 1024;

/// `[n, out]`: `x` is `[n, inner]`, `weight` `[out, inner]`, `inner` at least 1.
pub(in crate::kernels) fn batch_product(x: &[f32], weight: &[f32], n: usize, inner: usize, out: usize) -> Vec<f32> {
    let mut y = vec![0.0; n * out];
    let per_thread = out.div_ceil(rayon::current_num_threads()).next_multiple_of(PANEL);
    let columns = MatrixMut::new(&mut y, n, out).by_columns(per_thread);
    columns.into_par_iter().zip(weight.par_chunks(per_thread * inner)).for_each(|(y, weight)| {
        dispatch(Panels { y, weight, x, inner, n });
    });
    y
}

/// The columns of `y` that some rows of weights make.
struct Panels<'a> {
    y: MatrixMut<'a>,
    weight: &'a [f32],
    x: &'a [f32],
    inner: usize,
    n: usize,
}

impl WithSimd for Panels<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { mut y, weight, x, inner, n } = self;
        let width = 2 * S::F32_LANES;
        let mut panel = vec![0.0; width * inner.min(DEPTH)];
        // As even blocks as can be, of nine to twelve: 24 sums fit the registers of AVX-512, and three rows' pairs those of AVX2.
        let rows = if S::REGISTER_COUNT > 16 { n.div_ceil(n.div_ceil(12)) } else { 3 };
        for (index, weight) in weight.chunks(width * inner).enumerate() {
            for start in (0..inner).step_by(DEPTH) {
                let depth = DEPTH.min(inner - start);
                pack(&mut panel[..width * depth], width, weight, inner, start);
                let next = weight.as_ptr().wrapping_add(width * (inner + start));
                let (panel, x) = (&panel[..width * depth], &x[start..]);
                let mut pass = Pass { y: &mut y, first_column: index * width, panel, next, x, inner, n, add: start > 0 };
                match rows {
                    12 => pass.run::<S, 12>(simd),
                    11 => pass.run::<S, 11>(simd),
                    10 => pass.run::<S, 10>(simd),
                    9 => pass.run::<S, 9>(simd),
                    _ => pass.run::<S, 3>(simd),
                }
            }
        }
    }
}

/// `panel[k][w] = weight[w][start + k]`; what rows that are missing leave in it goes into sums that nobody reads.
fn pack(panel: &mut [f32], width: usize, weight: &[f32], inner: usize, start: usize) {
    let depth = panel.len() / width;
    #[cfg(target_arch = "x86_64")]
    let squares = if weight.len() == PANEL * inner && !matches!(vectors(), Vectors::Any) {
        // SAFETY: `vectors` has found AVX2.
        unsafe { pack_squares(panel, weight, inner, start) }
    } else {
        0
    };
    #[cfg(not(target_arch = "x86_64"))]
    let squares = 0;
    for (w, row) in weight.chunks_exact(inner).enumerate() {
        for (k, value) in row[start..start + depth].iter().enumerate().skip(squares) {
            panel[k * width + w] = *value;
        }
    }
}

/// [`pack`] of whole squares of eight rows by eight numbers; gives how many numbers of each row that was.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn pack_squares(panel: &mut [f32], weight: &[f32], inner: usize, start: usize) -> usize {
    use std::arch::x86_64::{
        __m256, _mm256_loadu_ps, _mm256_permute2f128_ps, _mm256_shuffle_ps, _mm256_storeu_ps, _mm256_unpackhi_ps, _mm256_unpacklo_ps,
    };
    const SIDE: usize = 8;
    let depth = panel.len() / PANEL / SIDE * SIDE;
    for k in (0..depth).step_by(SIDE) {
        let lines = &mut panel[k * PANEL..(k + SIDE) * PANEL];
        for group in (0..PANEL).step_by(SIDE) {
            let row = |i: usize| {
                let numbers: &[f32; SIDE] = weight[(group + i) * inner + start + k..].first_chunk().expect("eight numbers are left");
                // SAFETY: eight numbers lie there.
                unsafe { _mm256_loadu_ps(numbers.as_ptr()) }
            };
            // Pairs of rows to pairs of numbers, those to fours, and halves of fours to eights.
            let pairs = |i: usize| {
                let (a, b) = (row(i), row(i + 1));
                (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b))
            };
            let fours = |i: usize| -> [__m256; 4] {
                let ((a, b), (c, d)) = (pairs(i), pairs(i + 2));
                [
                    _mm256_shuffle_ps::<0b01_00_01_00>(a, c),
                    _mm256_shuffle_ps::<0b11_10_11_10>(a, c),
                    _mm256_shuffle_ps::<0b01_00_01_00>(b, d),
                    _mm256_shuffle_ps::<0b11_10_11_10>(b, d),
                ]
            };
            let (upper, lower) = (fours(0), fours(4));
            for i in 0..4 {
                let eights = [_mm256_permute2f128_ps::<0x20>(upper[i], lower[i]), _mm256_permute2f128_ps::<0x31>(upper[i], lower[i])];
                for (half, eight) in eights.into_iter().enumerate() {
                    let line: &mut [f32; SIDE] = lines[(i + 4 * half) * PANEL + group..].first_chunk_mut().expect("the line goes on");
                    // SAFETY: eight numbers lie there.
                    unsafe { _mm256_storeu_ps(line.as_mut_ptr(), eight) };
                }
            }
        }
    }
    depth
}

/// All rows of `x` over one panel.
struct Pass<'a, 'y> {
    y: &'a mut MatrixMut<'y>,
    first_column: usize,
    panel: &'a [f32],
    /// As many numbers of the panel that comes next, which the memory is asked for meanwhile.
    next: *const f32,
    x: &'a [f32],
    inner: usize,
    n: usize,
    add: bool,
}

impl Pass<'_, '_> {
    #[inline(always)]
    fn run<S: Simd, const ROWS: usize>(&mut self, simd: S) {
        for first in (0..self.n).step_by(ROWS) {
            let mut sums = [[0.0; PANEL]; ROWS];
            self.block::<S, ROWS>(simd, first, &mut sums);
            for (row, sums) in (first..self.n).zip(&sums) {
                let cells = &mut self.y.row(row)[self.first_column..];
                let count = cells.len().min(2 * S::F32_LANES);
                for (cell, sum) in cells[..count].iter_mut().zip(sums) {
                    *cell = if self.add { *cell + sum } else { *sum };
                }
            }
        }
    }

    #[inline(always)]
    fn block<S: Simd, const ROWS: usize>(&self, simd: S, first: usize, out: &mut [[f32; PANEL]; ROWS]) {
        let width = 2 * S::F32_LANES;
        let depth = self.panel.len() / width;
        let mut rows = [&[][..]; ROWS];
        for (i, row) in rows.iter_mut().enumerate() {
            // Past the last row, the last one again: its sums are not used.
            let at = (first + i).min(self.n - 1) * self.inner;
            *row = &self.x[at..at + depth];
        }
        let (panel, _) = S::as_simd_f32s(self.panel);
        let mut sums = [[simd.splat_f32s(0.0); 2]; ROWS];
        let next = self.next.wrapping_add(first / ROWS * depth * LANES);
        let lines = if first < 2 * ROWS { depth } else { 0 };
        for k in 0..depth {
            if k < lines {
                prefetch(next.wrapping_add(k * LANES));
            }
            let (a, b) = (panel[2 * k], panel[2 * k + 1]);
            for i in 0..ROWS {
                let x = simd.splat_f32s(rows[i][k]);
                sums[i][0] = simd.mul_add_e_f32s(x, a, sums[i][0]);
                sums[i][1] = simd.mul_add_e_f32s(x, b, sums[i][1]);
            }
        }
        for i in 0..ROWS {
            let (out, _) = S::as_mut_simd_f32s(&mut out[i]);
            out[0] = sums[i][0];
            out[1] = sums[i][1];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, step: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * step).sin()).collect()
    }

    /// Rows and weights that fill no block and no panel, sums that fill no square and more than one panel's depth.
    const SHAPES: [[usize; 3]; 6] = [[17, 64, 32], [24, 37, 33], [25, 1100, 70], [36, 8, 31], [37, 7, 65], [96, 200, 96]];

    #[test]
    fn a_batch_product_is_the_same_for_any_number_of_threads_and_right() {
        for [n, inner, out] in SHAPES {
            let (x, weight) = (numbers(n * inner, 0.37), numbers(out * inner, 0.59));
            let by = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a few threads");
                pool.install(|| batch_product(&x, &weight, n, inner, out))
            };
            let alone = by(1);
            for (cell, found) in alone.iter().enumerate() {
                let (x, weight) = (&x[cell / out * inner..][..inner], &weight[cell % out * inner..][..inner]);
                let exact: f64 = x.iter().zip(weight).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                assert!(
                    (f64::from(*found) - exact).abs() < 1e-3,
                    "[{n}, {inner}] · [{out}, {inner}]ᵀ, cell {cell}: {found} is not {exact}"
                );
            }
            for threads in [2, 3] {
                assert!(by(threads) == alone, "[{n}, {inner}] · [{out}, {inner}]ᵀ differs on {threads} threads");
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn avx2_sums_a_batch_as_avx_512_does_to_the_last_bit() {
        use crate::kernels::cpu::InPairs;
        use pulp::x86::{V3, V3_512b, V4};

        let (Some(narrow), Some(wide)) = (V3::try_new(), V4::try_new()) else {
            eprintln!("skipped: this machine has no AVX-512 to compare with");
            return;
        };
        for [n, inner, out] in SHAPES {
            let (x, weight) = (numbers(n * inner, 0.37), numbers(out * inner, 0.59));
            let (mut by_avx2, mut by_avx512) = (vec![0.0; n * out], vec![0.0; n * out]);
            let y = MatrixMut::new(&mut by_avx2, n, out);
            let in_pairs = InPairs { op: Panels { y, weight: &weight, x: &x, inner, n }, simd: V3_512b(narrow) };
            Simd::vectorize(narrow, in_pairs);
            let y = MatrixMut::new(&mut by_avx512, n, out);
            Simd::vectorize(wide, Panels { y, weight: &weight, x: &x, inner, n });
            assert!(by_avx2 == by_avx512, "{n} rows of {inner} numbers, {out} weights");
        }
    }
}
