//! One unit per piece of the first half of a head, which turns the second half's piece too.
#![expect(clippy::used_underscore_binding, reason = "what `#[cube]` makes of a kernel's dtypes")]

use burn::backend::tensor::FloatTensor;
use burn_cubecl::CubeBackend;
use cubecl::prelude::*;

use super::{RopeOps, composed};
use crate::kernels::composed::shape;
#[cfg(feature = "_source")]
use crate::kernels::cube::UNITS;
#[cfg(feature = "_source")]
use crate::kernels::cube::source::{Sources, buffer};
use crate::kernels::cube::{contiguous, each, element, empty, supported, width};

impl RopeOps for CubeBackend {
    fn fused_rope(x: FloatTensor<Self>, cos: FloatTensor<Self>, sin: FloatTensor<Self>, inverse: bool) -> FloatTensor<Self> {
        if !supported(&[&x, &cos, &sin]) || cos.dtype != sin.dtype {
            return composed::<Self>(x, cos, sin, inverse);
        }
        let [n, heads, dim] = shape::<Self, 3>(&x);
        let [x, cos, sin] = [x, cos, sin].map(contiguous);
        let y = empty(&x, [n, heads, dim], x.dtype);
        let (client, dtypes, vector) = (x.client.clone(), [element(&x), element(&cos)], width(&[&x, &cos], dim / 2));
        let half = dim / 2 / vector;
        let (cubes, units) = each(n * heads * half);
        turn::launch(
            &client,
            cubes,
            units,
            vector,
            x.into_buffer_arg(),
            cos.into_buffer_arg(),
            sin.into_buffer_arg(),
            y.clone().into_buffer_arg(),
            (n * heads * half) as u32,
            heads as u32,
            half as u32,
            inverse,
            dtypes,
        );
        y
    }
}

#[cube(launch)]
fn turn<F: Float, A: Float, N: Size>(
    x: &[Vector<F, N>],
    cos: &[Vector<A, N>],
    sin: &[Vector<A, N>],
    y: &mut [Vector<F, N>],
    pieces: u32,
    heads: u32,
    half: u32,
    #[comptime] inverse: bool,
    #[define(F, A)] _dtypes: [ElemType; 2],
) {
    if ABSOLUTE_POS >= pieces as usize {
        terminate!();
    }
    let half = half as usize;
    let (head, at) = (ABSOLUTE_POS / half, ABSOLUTE_POS % half);
    let (low, angle) = (head * 2 * half + at, head / heads as usize * half + at);
    let (x1, x2) = (Vector::<f32, N>::cast_from(x[low]), Vector::<f32, N>::cast_from(x[low + half]));
    let (cos, sin) = (Vector::<f32, N>::cast_from(cos[angle]), Vector::<f32, N>::cast_from(sin[angle]));
    if comptime!(inverse) {
        y[low] = Vector::cast_from(x1 * cos + x2 * sin);
        y[low + half] = Vector::cast_from(x2 * cos - x1 * sin);
    } else {
        y[low] = Vector::cast_from(x1 * cos - x2 * sin);
        y[low + half] = Vector::cast_from(x2 * cos + x1 * sin);
    }
}

#[cfg(feature = "_source")]
pub(in crate::kernels) fn sources(sources: &mut Sources) {
    let (f, vector) = (sources.element, sources.vector(64));
    for inverse in [false, true] {
        let name = if inverse { "rope_back" } else { "rope" };
        sources.add(name, CubeDim::new_1d(UNITS), |(settings, device, target)| {
            let [x, cos, sin, y] = [(); 4].map(|()| buffer());
            turn::Turn::new(settings, device, target, x, cos, sin, y, (), (), (), vector.min(4), inverse, [f, Sources::FLOAT])
        });
    }
}
