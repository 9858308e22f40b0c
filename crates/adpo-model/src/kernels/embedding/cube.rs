//! Rows are copied; the gradient is a sum over the tokens sorted by id, in f32 and always in the same order.
//!
//! Each token's place among the sorted is counted. Then tiles of sorted tokens are summed by cubes of their own: a run of one id
//! that lies within a tile is written at once, and what runs over the edge of a tile is put together afterwards. So a token that
//! makes up half of a batch costs its tiles at once, not all of its rows one after the other.
#![expect(clippy::used_underscore_binding, reason = "what `#[cube]` makes of a kernel's dtypes")]

use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::ops::numeric::zeros_client;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{EmbeddingOps, composed_backward};
use crate::kernels::composed::shape;
#[cfg(feature = "_source")]
use crate::kernels::cube::source::{Sources, buffer};
use crate::kernels::cube::{UNITS, contiguous, each, element, empty, grid, supported, width};

/// Sorted tokens that one cube sums.
const TILE: usize = 64;

impl EmbeddingOps for CubeBackend {
    fn fused_embedding(weight: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self> {
        if !supported(&[&weight]) {
            return <Self as FloatTensorOps<Self>>::float_select(weight, 0, ids);
        }
        let ([_, d], n) = (shape::<Self, 2>(&weight), ids.meta.num_elements());
        let (weight, ids) = (contiguous(weight), contiguous(ids));
        let y = empty(&weight, [n, d], weight.dtype);
        let (client, dtypes, vector) = (weight.client.clone(), [element(&weight), element(&ids)], width(&[&weight], d));
        let (cubes, units) = each(n * d / vector);
        let [weight, ids, out] = [weight, ids, y.clone()].map(CubeTensor::into_buffer_arg);
        rows::launch(&client, cubes, units, vector, weight, ids, out, (n * d / vector) as u32, (d / vector) as u32, dtypes);
        y
    }

    fn fused_embedding_backward(grad: FloatTensor<Self>, ids: IntTensor<Self>, vocab: usize) -> FloatTensor<Self> {
        if !supported(&[&grad]) {
            return composed_backward::<Self>(grad, ids, vocab);
        }
        let [n, d] = shape::<Self, 2>(&grad);
        let (grad, ids) = (contiguous(grad), contiguous(ids));
        let (client, vector) = (grad.client.clone(), width(&[&grad], d));
        let (int, dtypes) = (element(&ids), [element(&grad), element(&ids)]);
        let tiles = n.div_ceil(TILE);
        let (order, sorted) = (empty(&grad, [n], DType::U32), empty(&grad, [n], DType::U32));
        let (heads, tails) = (empty(&grad, [tiles, d], DType::F32), empty(&grad, [tiles, d], DType::F32));
        // Flat first: CUDA's allocator may put gaps between rows.
        let out = zeros_client(client.clone(), grad.device.clone(), [vocab * d].into(), grad.dtype);
        let out = <Self as FloatTensorOps<Self>>::float_reshape(out, [vocab, d].into());

        let (cubes, units) = each(n);
        let [tokens, order_out, sorted_out] = [ids, order.clone(), sorted.clone()].map(CubeTensor::into_buffer_arg);
        sort::launch(&client, cubes, units, tokens, order_out, sorted_out, n as u32, int);

        let pieces = d / vector;
        let columns = pieces.div_ceil(UNITS as usize);
        let (cubes, units) = (grid(tiles * columns), CubeDim::new_1d(UNITS));
        sum::launch(
            &client,
            cubes.clone(),
            units,
            vector,
            grad.clone().into_buffer_arg(),
            order.into_buffer_arg(),
            sorted.clone().into_buffer_arg(),
            out.clone().into_buffer_arg(),
            heads.clone().into_buffer_arg(),
            tails.clone().into_buffer_arg(),
            n as u32,
            pieces as u32,
            columns as u32,
            dtypes[0],
        );
        join::launch(
            &client,
            cubes,
            units,
            vector,
            sorted.into_buffer_arg(),
            heads.into_buffer_arg(),
            tails.into_buffer_arg(),
            out.clone().into_buffer_arg(),
            n as u32,
            pieces as u32,
            columns as u32,
            dtypes[0],
        );
        out
    }
}

#[cube(launch)]
fn rows<F: Float, I: Int, N: Size>(
    weight: &[Vector<F, N>],
    ids: &[I],
    y: &mut [Vector<F, N>],
    total: u32,
    pieces: u32,
    #[define(F, I)] _dtypes: [ElemType; 2],
) {
    if ABSOLUTE_POS >= total as usize {
        terminate!();
    }
    let pieces = pieces as usize;
    let id = u32::cast_from(ids[ABSOLUTE_POS / pieces]) as usize;
    y[ABSOLUTE_POS] = weight[id * pieces + ABSOLUTE_POS % pieces];
}

/// `order[p]` is the token at place `p` by id, then by position, and `sorted[p]` its id. One unit per token counts those before it.
#[cube(launch)]
fn sort<I: Int>(ids: &[I], order: &mut [u32], sorted: &mut [u32], n: u32, #[define(I)] _dtype: ElemType) {
    let mut block = Shared::<[u32]>::new_slice(UNITS as usize);
    let (n, token) = (n as usize, ABSOLUTE_POS);
    let mut id = 0u32;
    if token < n {
        id = u32::cast_from(ids[token]);
    }
    let mut place = 0u32;
    let mut first = 0usize;
    while first < n {
        let at = first + UNIT_POS as usize;
        if at < n {
            block[UNIT_POS as usize] = u32::cast_from(ids[at]);
        }
        sync_cube();
        let count = min(UNITS as usize, n - first);
        for i in 0..count {
            let other = block[i];
            if other < id || (other == id && first + i < token) {
                place += 1;
            }
        }
        sync_cube();
        first += UNITS as usize;
    }
    if token < n {
        order[place as usize] = token as u32;
        sorted[place as usize] = id;
    }
}

/// The sums of the runs that begin and end in a tile, to `out`; of the run that began before it, to `heads`; of the one that goes on
/// after it and began in it, to `tails`.
#[cube(launch)]
fn sum<F: Float, N: Size>(
    grad: &[Vector<F, N>],
    order: &[u32],
    sorted: &[u32],
    out: &mut [Vector<F, N>],
    heads: &mut [Vector<f32, N>],
    tails: &mut [Vector<f32, N>],
    tokens: u32,
    pieces: u32,
    columns: u32,
    #[define(F)] _dtype: ElemType,
) {
    let (tokens, pieces, columns) = (tokens as usize, pieces as usize, columns as usize);
    let (tile, piece) = (CUBE_POS / columns, CUBE_POS % columns * UNITS as usize + UNIT_POS as usize);
    let start = tile * TILE;
    if start >= tokens || piece >= pieces {
        terminate!();
    }
    let end = min(start + TILE, tokens);
    let mut began_before = false;
    if start > 0 {
        began_before = sorted[start - 1] == sorted[start];
    }
    let mut sum = Vector::<f32, N>::new(0.0f32);
    for place in start..end {
        sum += Vector::cast_from(grad[order[place] as usize * pieces + piece]);
        let id = sorted[place];
        let mut ends = true;
        if place + 1 < tokens {
            ends = sorted[place + 1] != id;
        }
        if ends || place + 1 == end {
            if began_before {
                heads[tile * pieces + piece] = sum;
            } else if ends {
                out[id as usize * pieces + piece] = Vector::cast_from(sum);
            } else {
                tails[tile * pieces + piece] = sum;
            }
            sum = Vector::<f32, N>::new(0.0f32);
            began_before = false;
        }
    }
}

/// The sum of the run that begins in a tile and goes on after it.
#[cube(launch)]
fn join<F: Float, N: Size>(
    sorted: &[u32],
    heads: &[Vector<f32, N>],
    tails: &[Vector<f32, N>],
    out: &mut [Vector<F, N>],
    tokens: u32,
    pieces: u32,
    columns: u32,
    #[define(F)] _dtype: ElemType,
) {
    let (tokens, pieces, columns) = (tokens as usize, pieces as usize, columns as usize);
    let (tile, piece) = (CUBE_POS / columns, CUBE_POS % columns * UNITS as usize + UNIT_POS as usize);
    let (start, end) = (tile * TILE, tile * TILE + TILE);
    if end >= tokens || piece >= pieces {
        terminate!();
    }
    let id = sorted[end - 1];
    let mut began_before = false;
    if start > 0 {
        began_before = sorted[start - 1] == id;
    }
    if began_before || sorted[end] != id {
        terminate!();
    }
    let mut sum = tails[tile * pieces + piece];
    let mut next = tile + 1;
    let mut goes_on = true;
    while goes_on {
        sum += heads[next * pieces + piece];
        next += 1;
        goes_on = false;
        // Whether the run fills its tile and is that of the next one too.
        if next * TILE < tokens {
            goes_on = sorted[next * TILE - 1] == id && sorted[next * TILE] == id;
        }
    }
    out[id as usize * pieces + piece] = Vector::cast_from(sum);
}

#[cfg(feature = "_source")]
pub(in crate::kernels) fn sources(sources: &mut Sources) {
    let (f, vector, units) = (sources.element, sources.vector(4096), CubeDim::new_1d(UNITS));
    sources.add("embedding", units, |(settings, device, target)| {
        rows::Rows::new(settings, device, target, buffer(), buffer(), buffer(), (), (), vector, [f, Sources::INT])
    });
    sources.add("embedding_sort", units, |(settings, device, target)| {
        sort::Sort::new(settings, device, target, buffer(), buffer(), buffer(), (), Sources::INT)
    });
    sources.add("embedding_sum", units, |(settings, device, target)| {
        let [grad, order, sorted, out, heads, tails] = [(); 6].map(|()| buffer());
        sum::Sum::new(settings, device, target, grad, order, sorted, out, heads, tails, (), (), (), vector, f)
    });
    sources.add("embedding_join", units, |(settings, device, target)| {
        let [sorted, heads, tails, out] = [(); 4].map(|()| buffer());
        join::Join::new(settings, device, target, sorted, heads, tails, out, (), (), (), vector, f)
    });
}
