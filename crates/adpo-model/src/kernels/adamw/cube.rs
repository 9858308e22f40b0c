//! One pass over parameter, gradient and moments, in place; sums of squares in a fixed order.
#![expect(clippy::used_underscore_binding, reason = "what `#[cube]` makes of a kernel's dtypes")]

use burn::backend::tensor::FloatTensor;
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{AdamWOps, AdamWStep, composed, composed_sum_of_squares};
use crate::kernels::composed::shape;
#[cfg(feature = "_source")]
use crate::kernels::cube::source::{Sources, buffer};
use crate::kernels::cube::{UNITS, contiguous, cube_sum, each, element, empty, grid, supported, width};

/// Cubes that add up squares before one adds up their sums.
const SHARES: usize = 1024;

impl AdamWOps for CubeBackend {
    fn fused_adamw(
        parameter: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        step: AdamWStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let wide = [&parameter, &first, &second].iter().all(|tensor| tensor.dtype == DType::F32);
        if !wide || !supported(&[&gradient]) {
            return composed::<Self>(parameter, gradient, first, second, step);
        }
        let [n] = shape::<Self, 1>(&parameter);
        let [parameter, first, second] = [parameter, first, second].map(writable);
        let gradient = contiguous(gradient);
        let (client, dtype, vector) = (parameter.client.clone(), element(&gradient), width(&[&parameter], n));
        let (cubes, units) = each(n / vector);
        let (size, root, kept) = step.factors();
        update::launch(
            &client,
            cubes,
            units,
            vector,
            parameter.clone().into_buffer_arg(),
            gradient.into_buffer_arg(),
            first.clone().into_buffer_arg(),
            second.clone().into_buffer_arg(),
            (n / vector) as u32,
            step.gradient_scale as f32,
            step.beta1 as f32,
            (1.0 - step.beta1) as f32,
            step.beta2 as f32,
            (1.0 - step.beta2) as f32,
            (1.0 / root) as f32,
            step.epsilon as f32,
            kept as f32,
            size as f32,
            dtype,
        );
        (parameter, first, second)
    }

    fn fused_sum_of_squares(x: FloatTensor<Self>) -> FloatTensor<Self> {
        if !supported(&[&x]) {
            return composed_sum_of_squares::<Self>(x);
        }
        let [n] = shape::<Self, 1>(&x);
        let x = contiguous(x);
        let (client, dtype, vector) = (x.client.clone(), element(&x), width(&[&x], n));
        let shares = (n / vector).div_ceil(UNITS as usize).clamp(1, SHARES);
        let (partial, sum) = (empty(&x, [shares], DType::F32), empty(&x, [1], DType::F32));
        let (pieces, units) = ((n / vector) as u32, CubeDim::new_1d(UNITS));
        let wide = element(&partial);
        squares::launch(&client, grid(shares), units, vector, x.into_buffer_arg(), partial.clone().into_buffer_arg(), pieces, true, dtype);
        squares::launch(&client, grid(1), units, 1, partial.into_buffer_arg(), sum.clone().into_buffer_arg(), shares as u32, false, wide);
        sum
    }
}

/// A tensor whose memory nobody else holds.
fn writable(tensor: CubeTensor) -> CubeTensor {
    let tensor = contiguous(tensor);
    if tensor.can_mut() { tensor } else { tensor.copy() }
}

#[cube(launch)]
fn update<G: Float, N: Size>(
    parameter: &mut [Vector<f32, N>],
    gradient: &[Vector<G, N>],
    first: &mut [Vector<f32, N>],
    second: &mut [Vector<f32, N>],
    pieces: u32,
    gradient_scale: f32,
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    root: f32,
    epsilon: f32,
    kept: f32,
    size: f32,
    #[define(G)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= pieces as usize {
        terminate!();
    }
    let g = Vector::<f32, N>::cast_from(gradient[ABSOLUTE_POS]) * Vector::new(gradient_scale);
    let m = first[ABSOLUTE_POS] * Vector::new(beta1) + g * Vector::new(rest1);
    let v = second[ABSOLUTE_POS] * Vector::new(beta2) + g * g * Vector::new(rest2);
    first[ABSOLUTE_POS] = m;
    second[ABSOLUTE_POS] = v;
    let move_by = m / (v.sqrt() * Vector::new(root) + Vector::new(epsilon)) * Vector::new(size);
    parameter[ABSOLUTE_POS] = parameter[ABSOLUTE_POS] * Vector::new(kept) - move_by;
}

/// Each cube's sum of its pieces, squared first or as they are.
#[cube(launch)]
fn squares<F: Float, N: Size>(x: &[Vector<F, N>], sums: &mut [f32], pieces: u32, #[comptime] square: bool, #[define(F)] _dtype: ElemType) {
    let mut sum = Vector::<f32, N>::new(0.0f32);
    let mut i = ABSOLUTE_POS;
    while i < pieces as usize {
        let x = Vector::<f32, N>::cast_from(x[i]);
        if comptime!(square) {
            sum += x * x;
        } else {
            sum += x;
        }
        i += CUBE_COUNT * UNITS as usize;
    }
    let sum = cube_sum(sum.vector_sum(), UNITS);
    if UNIT_POS == 0 {
        sums[CUBE_POS] = sum;
    }
}

#[cfg(feature = "_source")]
pub(in crate::kernels) fn sources(sources: &mut Sources) {
    let (f, vector) = (sources.element, sources.vector(4096));
    sources.add("adamw", CubeDim::new_1d(UNITS), |(settings, device, target)| {
        let [parameter, gradient, first, second] = [(); 4].map(|()| buffer());
        let [a, b, c, d, e, g, h, i, j, k] = [(); 10];
        let vector = vector.min(4);
        update::Update::new(settings, device, target, parameter, gradient, first, second, a, b, c, d, e, g, h, i, j, k, vector, f)
    });
    for square in [true, false] {
        let (name, vector, f) = if square { ("squares", vector, f) } else { ("squares_add", 1, Sources::FLOAT) };
        sources.add(name, CubeDim::new_1d(UNITS), |(settings, device, target)| {
            squares::Squares::new(settings, device, target, buffer(), buffer(), (), vector, square, f)
        });
    }
}
