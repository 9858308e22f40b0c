//! Element by element, one pass each way.
#![expect(clippy::used_underscore_binding, reason = "what `#[cube]` makes of a kernel's dtypes")]

use burn::backend::tensor::FloatTensor;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{SwiGluOps, composed, composed_backward};
use crate::kernels::composed::shape;
#[cfg(feature = "_source")]
use crate::kernels::cube::UNITS;
#[cfg(feature = "_source")]
use crate::kernels::cube::source::{Sources, buffer};
use crate::kernels::cube::{contiguous, each, element, empty, supported, width};

impl SwiGluOps for CubeBackend {
    fn fused_swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        if !supported(&[&gate, &up]) || gate.dtype != up.dtype {
            return composed::<Self>(gate, up);
        }
        let [n, d] = shape::<Self, 2>(&gate);
        let (gate, up) = (contiguous(gate), contiguous(up));
        let y = empty(&gate, [n, d], gate.dtype);
        let (client, dtype, vector) = (gate.client.clone(), element(&gate), width(&[&gate], n * d));
        let pieces = n * d / vector;
        let (cubes, units) = each(pieces);
        let [gate, up, out] = [gate, up, y.clone()].map(CubeTensor::into_buffer_arg);
        gated::launch(&client, cubes, units, vector, gate, up, out, pieces as u32, dtype);
        y
    }

    fn fused_swiglu_backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if !supported(&[&gate, &up, &grad]) || gate.dtype != up.dtype || gate.dtype != grad.dtype {
            return composed_backward::<Self>(gate, up, grad);
        }
        let [n, d] = shape::<Self, 2>(&gate);
        let [gate, up, grad] = [gate, up, grad].map(contiguous);
        let [d_gate, d_up] = [&gate, &up].map(|like| empty(like, [n, d], like.dtype));
        let (client, dtype, vector) = (gate.client.clone(), element(&gate), width(&[&gate], n * d));
        let pieces = n * d / vector;
        let (cubes, units) = each(pieces);
        let [gate, up, grad, to_gate, to_up] = [gate, up, grad, d_gate.clone(), d_up.clone()].map(CubeTensor::into_buffer_arg);
        slopes::launch(&client, cubes, units, vector, gate, up, grad, to_gate, to_up, pieces as u32, dtype);
        (d_gate, d_up)
    }
}

/// σ(x): the reciprocal of ∞ is 0, so that nothing is lost far from 0.
#[cube]
fn sigmoid<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    let one = Vector::<f32, N>::new(1.0f32);
    one / (one + (-x).exp())
}

#[cube(launch)]
fn gated<F: Float, N: Size>(
    gate: &[Vector<F, N>],
    up: &[Vector<F, N>],
    y: &mut [Vector<F, N>],
    pieces: u32,
    #[define(F)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= pieces as usize {
        terminate!();
    }
    let g = Vector::<f32, N>::cast_from(gate[ABSOLUTE_POS]);
    y[ABSOLUTE_POS] = Vector::cast_from(g * sigmoid(g) * Vector::cast_from(up[ABSOLUTE_POS]));
}

#[cube(launch)]
fn slopes<F: Float, N: Size>(
    gate: &[Vector<F, N>],
    up: &[Vector<F, N>],
    grad: &[Vector<F, N>],
    d_gate: &mut [Vector<F, N>],
    d_up: &mut [Vector<F, N>],
    pieces: u32,
    #[define(F)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= pieces as usize {
        terminate!();
    }
    let one = Vector::<f32, N>::new(1.0f32);
    let g = Vector::<f32, N>::cast_from(gate[ABSOLUTE_POS]);
    let dy = Vector::<f32, N>::cast_from(grad[ABSOLUTE_POS]);
    let s = sigmoid(g);
    d_gate[ABSOLUTE_POS] = Vector::cast_from(dy * Vector::cast_from(up[ABSOLUTE_POS]) * s * (one + g * (one - s)));
    d_up[ABSOLUTE_POS] = Vector::cast_from(dy * g * s);
}

#[cfg(feature = "_source")]
pub(in crate::kernels) fn sources(sources: &mut Sources) {
    let (f, vector) = (sources.element, sources.vector(4096));
    sources.add("swiglu", CubeDim::new_1d(UNITS), |(settings, device, target)| {
        gated::Gated::new(settings, device, target, buffer(), buffer(), buffer(), (), vector, f)
    });
    sources.add("swiglu_slopes", CubeDim::new_1d(UNITS), |(settings, device, target)| {
        let [gate, up, grad, d_gate, d_up] = [(); 5].map(|()| buffer());
        slopes::Slopes::new(settings, device, target, gate, up, grad, d_gate, d_up, (), vector, f)
    });
}
