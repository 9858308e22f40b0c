//! What the CPU implementations share: Flex tensors as slices, matrix products on slices, rows over threads, `exp`.
//!
//! Loops are plain Rust over lanes of a fixed width, which [`vectorised`] compiles once per instruction set. What is
//! summed in one go is cut by the shape alone, so that no result depends on the number of threads or on who ran first.
#![expect(clippy::inline_always, reason = "what is not inlined is not compiled for the wider vectors")]

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, Shape, TensorData};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

mod matrix;
mod panels;

pub(super) use matrix::{Matrix, MatrixMut, Write, multiply, product};
pub(super) use panels::batch_product;

/// A float or int tensor of the CPU backend.
pub(super) type CpuTensor = FloatTensor<Flex>;

/// Floats per running sum: one AVX-512 register.
pub(super) const LANES: usize = 16;
/// Numbers per piece of element-wise work: enough to pay for waking a thread.
pub(super) const PIECE: usize = 16 * 1024;

/// Whether the f32 kernels apply; other dtypes go the composed way.
pub(super) fn all_f32(tensors: &[&CpuTensor]) -> bool {
    tensors.iter().all(|tensor| tensor.dtype() == DType::F32)
}

/// The tensor with its numbers in row-major order, without a copy where they are already.
pub(super) fn contiguous(tensor: CpuTensor) -> CpuTensor {
    if tensor.layout().contiguous_offsets().is_some() { tensor } else { tensor.to_contiguous() }
}

/// The numbers of a [`contiguous`] f32 tensor.
pub(super) fn floats(tensor: &CpuTensor) -> &[f32] {
    tensor.as_slice().expect("made contiguous by its caller, who has seen that it is f32")
}

/// A contiguous f32 tensor that fills its memory, so that its numbers can be written: in place where nobody else holds it.
pub(super) fn writable(tensor: CpuTensor) -> CpuTensor {
    let fills = tensor.layout().contiguous_offsets() == Some((0, tensor.storage::<f32>().len()));
    if fills { tensor } else { tensor.to_contiguous() }
}

/// The ids of an int tensor, whatever its width.
pub(super) fn ids(tensor: &CpuTensor) -> Vec<usize> {
    match tensor.dtype() {
        DType::I32 => tensor.to_contiguous().storage::<i32>().iter().map(|id| *id as usize).collect(),
        _ => tensor.clone().into_data().iter::<i64>().map(|id| id as usize).collect(),
    }
}

/// A tensor that owns these numbers.
pub(super) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> CpuTensor {
    CpuTensor::from_data(TensorData::new(values, shape.into()))
}

/// Functions of plain loops, compiled for AVX-512, for AVX2 and for what every machine of the target has; which one runs is
/// decided at run time. What they call has to be `#[inline(always)]`.
macro_rules! vectorised {
    ($($(#[$meta:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block)*) => {$(
        $(#[$meta])*
        fn $name($($arg: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            fn avx512($($arg: $type),*) $(-> $result)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $type),*) $(-> $result)? $body
            fn any($($arg: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            match $crate::kernels::cpu::vectors() {
                // SAFETY: `vectors` has found every feature that the function is compiled for.
                $crate::kernels::cpu::Vectors::Avx512 => return unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                $crate::kernels::cpu::Vectors::Avx2 => return unsafe { avx2($($arg),*) },
                $crate::kernels::cpu::Vectors::Any => {}
            }
            any($($arg),*)
        }
    )*};
}
pub(super) use vectorised;

/// The widest vectors that this machine has.
#[cfg(target_arch = "x86_64")]
pub(super) enum Vectors {
    Avx512,
    Avx2,
    Any,
}

#[cfg(target_arch = "x86_64")]
pub(super) fn vectors() -> Vectors {
    use std::arch::is_x86_feature_detected as has;
    if !(has!("avx2") && has!("fma")) {
        Vectors::Any
    } else if has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") {
        Vectors::Avx512
    } else {
        Vectors::Avx2
    }
}

/// Runs loops over explicit vectors with the widest that this machine has: [`LANES`] floats at a time, in one register of AVX-512
/// or in two of AVX2, so that sums are the same to the last bit on both. Everything that `op` calls with vectors in hand has to be
/// `#[inline(always)]`, and a closure handed to an iterator is not.
pub(super) fn dispatch<Op: WithSimd>(op: Op) -> Op::Output {
    // pulp's own choice leaves out AVX2 where gemm did not ask for it.
    #[cfg(target_arch = "x86_64")]
    {
        use pulp::x86::{V3, V3_512b, V4};
        if let Some(simd) = V4::try_new() {
            return Simd::vectorize(simd, op);
        }
        if let Some(simd) = V3::try_new() {
            return Simd::vectorize(simd, InPairs { op, simd: V3_512b(simd) });
        }
    }
    pulp::Arch::new().dispatch(op)
}

/// Work on pairs of AVX2's registers, inside a function that is compiled for AVX2.
#[cfg(target_arch = "x86_64")]
pub(super) struct InPairs<Op> {
    pub(super) op: Op,
    pub(super) simd: pulp::x86::V3_512b,
}

#[cfg(target_arch = "x86_64")]
impl<Op: WithSimd> WithSimd for InPairs<Op> {
    type Output = Op::Output;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Op::Output {
        self.op.with_simd(self.simd)
    }
}

/// Asks for a cache line before it is needed: a hint, which reads nothing and may point anywhere.
#[inline(always)]
pub(super) fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch accesses nothing that a program could see, and faults nowhere; SSE is part of the target.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// `f(first row, rows)` for pieces of whole rows of `out`, over all threads.
pub(super) fn for_rows(out: &mut [f32], width: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    if out.len() <= PIECE {
        return f(0, out);
    }
    let rows = (PIECE / width).max(1);
    out.par_chunks_mut(rows * width).enumerate().for_each(|(piece, out)| f(piece * rows, out));
}

/// [`for_rows`] over two outputs, each with its own width.
pub(super) fn for_rows2(
    (a, a_width): (&mut [f32], usize),
    (b, b_width): (&mut [f32], usize),
    rows: usize,
    f: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) {
    if a.len() <= rows * a_width {
        return f(0, a, b);
    }
    let pieces = a.par_chunks_mut(rows * a_width).zip(b.par_chunks_mut(rows * b_width)).enumerate();
    pieces.for_each(|(piece, (a, b))| f(piece * rows, a, b));
}

/// `eˣ` within 2 ulp for |x| < 87, held at the ends of the range of normal numbers outside (Cephes' `expf`).
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // 1.5 · 2²³: adding it rounds to an integer, whose bits are then the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.3, 88.0);
    let rounded = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = n.mul_add(2.121_944_4e-4, n.mul_add(-0.693_359_4, x));
    let p = 1.987_569_1e-4_f32.mul_add(r, 1.398_199_9e-3).mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2).mul_add(r, 1.666_666_5e-1).mul_add(r, 0.5);
    let p = p.mul_add(r * r, r + 1.0);
    p * f32::from_bits((rounded.to_bits() << 23).wrapping_add(0x3f80_0000))
}

/// Σ f(i) over `0..n`, in lanes.
#[inline(always)]
pub(super) fn sum(n: usize, f: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let whole = n / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += f(start + lane);
        }
    }
    let rest: f32 = (whole..n).map(&f).sum();
    across(lanes) + rest
}

/// The sum of the lanes, by halves: four additions that wait for each other instead of fifteen.
#[inline(always)]
pub(super) fn across(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// max f(i) over `0..n`, in lanes; −∞ of nothing.
#[inline(always)]
pub(super) fn max(n: usize, f: impl Fn(usize) -> f32) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let whole = n / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, top) in lanes.iter_mut().enumerate() {
            *top = larger(*top, f(start + lane));
        }
    }
    (whole..n).map(f).chain(lanes).fold(f32::NEG_INFINITY, larger)
}

#[cfg(test)]
mod tests {
    use super::*;

    vectorised! {
        fn exp_all(x: &mut [f32]) {
            for x in x {
                *x = exp(*x);
            }
        }
    }

    #[test]
    fn exp_is_that_of_f64_within_two_ulp() {
        let x: Vec<f32> = (-870_000..870_000).map(|i| i as f32 * 1e-4).collect();
        let mut y = x.clone();
        exp_all(&mut y);
        for (x, y) in x.into_iter().zip(y) {
            let exact = f64::from(x).exp();
            let off = (f64::from(y) - exact).abs() / (exact * f64::from(f32::EPSILON));
            assert!(off <= 2.0, "exp({x}) is {off} ulp off");
        }
        assert!(exp(-1e30) < 2e-38 && exp(f32::NEG_INFINITY) < 2e-38 && exp(f32::NAN).is_nan() && exp(1e30) > 1e38);
    }
}
