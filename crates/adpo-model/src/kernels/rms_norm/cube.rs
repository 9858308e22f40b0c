//! One cube per row forward; backward, cubes that take rows in turn and keep their share of `dw` in shared memory.
#![expect(clippy::used_underscore_binding, reason = "what `#[cube]` makes of a kernel's dtypes")]

use burn::backend::tensor::FloatTensor;
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use cubecl::prelude::*;

use super::{RmsNormOps, composed, composed_backward};
use crate::kernels::composed::shape;
#[cfg(feature = "_source")]
use crate::kernels::cube::source::{Sources, buffer};
use crate::kernels::cube::{UNITS, contiguous, cube_sum, element, empty, grid, supported, units, width};

/// Cubes of the backward pass, and rows of the partial sums of `dw`.
const SHARES: usize = 256;
/// Units that add up one piece of `dw`, each some of the shares.
const ADDERS: usize = 8;

impl RmsNormOps for CubeBackend {
    fn fused_rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f64) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if !supported(&[&x, &weight]) {
            return composed::<Self>(x, weight, epsilon);
        }
        let [n, d] = shape::<Self, 2>(&x);
        let (x, weight) = (contiguous(x), contiguous(weight));
        let (y, scale) = (empty(&x, [n, d], x.dtype), empty(&x, [n], DType::F32));
        let (client, dtypes, vector) = (x.client.clone(), [element(&x), element(&weight)], width(&[&x, &weight], d));
        let units = units(client.properties(), d / vector);
        norm::launch(
            &client,
            grid(n),
            CubeDim::new_1d(units),
            vector,
            x.into_buffer_arg(),
            weight.into_buffer_arg(),
            y.clone().into_buffer_arg(),
            scale.clone().into_buffer_arg(),
            n as u32,
            (d / vector) as u32,
            epsilon as f32,
            units,
            dtypes,
        );
        (y, scale)
    }

    fn fused_rms_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [n, d] = shape::<Self, 2>(&x);
        let fits = x.client.properties().hardware.max_shared_memory_size >= 4 * d + 4 * units(x.client.properties(), d) as usize;
        if !supported(&[&x, &weight, &scale, &grad]) || !fits {
            return composed_backward::<Self>(x, weight, scale, grad);
        }
        let [x, weight, scale, grad] = [x, weight, scale, grad].map(contiguous);
        let shares = n.min(SHARES);
        let (dx, partial, dw) = (empty(&x, [n, d], x.dtype), empty(&x, [shares, d], DType::F32), empty(&x, [d], weight.dtype));
        let (client, dtypes, vector) = (x.client.clone(), [element(&x), element(&weight)], width(&[&x, &weight], d));
        let units = units(client.properties(), d / vector);
        slopes::launch(
            &client,
            grid(shares),
            CubeDim::new_1d(units),
            vector,
            x.into_buffer_arg(),
            weight.into_buffer_arg(),
            scale.into_buffer_arg(),
            grad.into_buffer_arg(),
            dx.clone().into_buffer_arg(),
            partial.clone().into_buffer_arg(),
            n as u32,
            shares as u32,
            (d / vector) as u32,
            d / vector,
            units,
            dtypes,
        );
        let columns = UNITS as usize / ADDERS;
        add::launch(
            &client,
            grid((d / vector).div_ceil(columns)),
            CubeDim::new_2d(columns as u32, ADDERS as u32),
            vector,
            partial.into_buffer_arg(),
            dw.clone().into_buffer_arg(),
            shares as u32,
            (d / vector) as u32,
            dtypes[1],
        );
        (dx, dw)
    }
}

#[cube(launch)]
fn norm<F: Float, W: Float, N: Size>(
    x: &[Vector<F, N>],
    weight: &[Vector<W, N>],
    y: &mut [Vector<F, N>],
    scale: &mut [f32],
    rows: u32,
    pieces: u32,
    epsilon: f32,
    #[comptime] units: u32,
    #[define(F, W)] _dtypes: [ElemType; 2],
) {
    let row = CUBE_POS;
    if row >= rows as usize {
        terminate!();
    }
    let pieces = pieces as usize;
    let first = row * pieces;
    let mut square = 0.0f32;
    let mut i = UNIT_POS as usize;
    while i < pieces {
        let x = Vector::<f32, N>::cast_from(x[first + i]);
        square += (x * x).vector_sum();
        i += units as usize;
    }
    let length = f32::cast_from(pieces * N::value());
    let r = 1.0f32 / (cube_sum(square, units) / length + epsilon).sqrt();
    if UNIT_POS == 0 {
        scale[row] = r;
    }
    let mut i = UNIT_POS as usize;
    while i < pieces {
        let x = Vector::<f32, N>::cast_from(x[first + i]);
        y[first + i] = Vector::<F, N>::cast_from(x * Vector::new(r) * Vector::cast_from(weight[i]));
        i += units as usize;
    }
}

/// `dx`, and the sum over this cube's rows of `dy·x̂`.
#[cube(launch)]
fn slopes<F: Float, W: Float, N: Size>(
    x: &[Vector<F, N>],
    weight: &[Vector<W, N>],
    scale: &[f32],
    grad: &[Vector<F, N>],
    dx: &mut [Vector<F, N>],
    partial: &mut [Vector<f32, N>],
    rows: u32,
    shares: u32,
    pieces: u32,
    #[comptime] room: usize,
    #[comptime] units: u32,
    #[define(F, W)] _dtypes: [ElemType; 2],
) {
    let share = CUBE_POS;
    if share >= shares as usize {
        terminate!();
    }
    let pieces = pieces as usize;
    // Each unit reads and writes its own pieces of it.
    let mut dw = Shared::<[Vector<f32, N>]>::new_slice(room);
    let mut i = UNIT_POS as usize;
    while i < pieces {
        dw[i] = Vector::new(0.0f32);
        i += units as usize;
    }
    let length = f32::cast_from(pieces * N::value());
    let mut row = share;
    while row < rows as usize {
        let first = row * pieces;
        let r = scale[row];
        let mut along = 0.0f32;
        let mut i = UNIT_POS as usize;
        while i < pieces {
            let x = Vector::<f32, N>::cast_from(x[first + i]);
            let g = Vector::<f32, N>::cast_from(grad[first + i]);
            along += (x * g * Vector::cast_from(weight[i])).vector_sum();
            i += units as usize;
        }
        let along = cube_sum(along, units) * r * r / length;
        let mut i = UNIT_POS as usize;
        while i < pieces {
            let x = Vector::<f32, N>::cast_from(x[first + i]);
            let g = Vector::<f32, N>::cast_from(grad[first + i]);
            let slope = (g * Vector::cast_from(weight[i]) - x * Vector::new(along)) * Vector::new(r);
            dx[first + i] = Vector::cast_from(slope);
            dw[i] += g * x * Vector::new(r);
            i += units as usize;
        }
        row += shares as usize;
    }
    let mut i = UNIT_POS as usize;
    while i < pieces {
        partial[share * pieces + i] = dw[i];
        i += units as usize;
    }
}

/// `dw` from its shares.
#[cube(launch)]
fn add<W: Float, N: Size>(partial: &[Vector<f32, N>], dw: &mut [Vector<W, N>], shares: u32, pieces: u32, #[define(W)] _dtype: ElemType) {
    let pieces = pieces as usize;
    let columns = comptime!(UNITS as usize / ADDERS);
    let piece = CUBE_POS * columns + UNIT_POS_X as usize;
    let mut sum = Vector::<f32, N>::new(0.0f32);
    if piece < pieces {
        let mut share = UNIT_POS_Y as usize;
        while share < shares as usize {
            sum += partial[share * pieces + piece];
            share += ADDERS;
        }
    }
    let mut sums = Shared::<[Vector<f32, N>]>::new_slice(UNITS as usize);
    sums[UNIT_POS as usize] = sum;
    sync_cube();
    if UNIT_POS_Y == 0 && piece < pieces {
        let mut sum = Vector::<f32, N>::new(0.0f32);
        #[unroll]
        for adder in 0..ADDERS {
            sum += sums[adder * columns + UNIT_POS_X as usize];
        }
        dw[piece] = Vector::cast_from(sum);
    }
}

#[cfg(feature = "_source")]
pub(in crate::kernels) fn sources(sources: &mut Sources) {
    let (d, f) = (4096, sources.element);
    let vector = sources.vector(d);
    let units = units(&sources.device, d / vector);
    sources.add("rms_norm", CubeDim::new_1d(units), |(settings, device, target)| {
        norm::Norm::new(settings, device, target, buffer(), buffer(), buffer(), buffer(), (), (), (), vector, units, [f, f])
    });
    sources.add("rms_norm_slopes", CubeDim::new_1d(units), |(settings, device, target)| {
        let [x, weight, scale, grad, dx, partial] = [(); 6].map(|()| buffer());
        slopes::Slopes::new(settings, device, target, x, weight, scale, grad, dx, partial, (), (), (), vector, d / vector, units, [f, f])
    });
    sources.add("rms_norm_add", CubeDim::new_2d(UNITS / ADDERS as u32, ADDERS as u32), |(settings, device, target)| {
        add::Add::new(settings, device, target, buffer(), buffer(), (), (), vector, f)
    });
}
