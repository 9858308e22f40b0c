//! Online softmax in tiles through shared memory: a cube takes a tile of queries, or of keys, and walks over the others.
//!
//! The multiplications are f32 multiply-adds of registers, not of tensor cores. Every gradient is summed by one cube in a fixed
//! order. Head sizes that 4 does not divide, and those for which not even the smallest tiles fit, compute the definition.
#![expect(clippy::used_underscore_binding, reason = "what `#[cube]` makes of a kernel's dtypes")]

mod backward;
mod forward;
mod tile;

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{AttentionOps, composed};
use crate::kernels::composed::shape;
#[cfg(feature = "_source")]
use crate::kernels::cube::UNITS;
#[cfg(feature = "_source")]
use crate::kernels::cube::source::{Sources, buffer};
use crate::kernels::cube::{contiguous, each, element, empty, supported};
use tile::{Pass, Tile};

/// Head sizes are cut into vectors of so many numbers.
const LANES: usize = 4;

impl AttentionOps for CubeBackend {
    fn fused_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        segments: IntTensor<Self>,
        branches: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let Some(tile) = tiles(&[&q, &k, &v], Pass::Forward) else {
            return composed::forward::<Self>(q, k, v, segments, branches);
        };
        let [rows, width, heads, dim] = shape::<Self, 4>(&q);
        let kv_heads = shape::<Self, 4>(&k)[2];
        let [q, k, v] = [q, k, v].map(contiguous);
        let (o, lse) = (empty(&q, [rows, width, heads, dim], q.dtype), empty(&q, [rows, heads, width], DType::F32));
        let (client, dtypes) = (q.client.clone(), [element(&q), element(&segments)]);
        forward::attend::launch(
            &client,
            CubeCount::Static(width.div_ceil(tile.queries()) as u32, heads as u32, rows as u32),
            CubeDim::new_1d(tile.units()),
            LANES,
            q.into_buffer_arg(),
            k.into_buffer_arg(),
            v.into_buffer_arg(),
            contiguous(segments).into_buffer_arg(),
            contiguous(branches).into_buffer_arg(),
            o.clone().into_buffer_arg(),
            lse.clone().into_buffer_arg(),
            width as u32,
            (heads / kv_heads) as u32,
            (dim / LANES) as u32,
            scale(dim),
            tile,
            dtypes,
        );
        (o, lse)
    }

    fn fused_attention_backward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        o: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        segments: IntTensor<Self>,
        branches: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let all = [&q, &k, &v, &o, &grad];
        let (Some(by_query), Some(by_key)) = (tiles(&all, Pass::Queries), tiles(&all, Pass::Keys)) else {
            return composed::backward::<Self>(q, k, v, o, lse, grad, segments, branches);
        };
        let [rows, width, heads, dim] = shape::<Self, 4>(&q);
        let kv_heads = shape::<Self, 4>(&k)[2];
        let (client, dtypes) = (q.client.clone(), [element(&q), element(&segments)]);
        let [dq, dk, dv] = [&q, &k, &v].map(|like| empty(like, shape::<Self, 4>(like), like.dtype));
        let along = empty(&q, [rows, heads, width], DType::F32);
        let [q, k, v, o, lse, grad] = [q, k, v, o, lse, grad].map(contiguous);
        let [segments, branches] = [segments, branches].map(contiguous);
        let (group, pieces) = ((heads / kv_heads) as u32, (dim / LANES) as u32);

        let (cubes, units) = each(rows * width * heads);
        let [o, grad_in, along_out] = [o, grad.clone(), along.clone()].map(CubeTensor::into_buffer_arg);
        backward::along::launch(&client, cubes, units, LANES, o, grad_in, along_out, width as u32, heads as u32, pieces, dtypes[0]);

        let inputs = [q, k, v, grad, lse, along, segments, branches];
        let [q, k, v, grad, lse, along, segments, branches] = inputs.clone().map(CubeTensor::into_buffer_arg);
        backward::by_query::launch(
            &client,
            CubeCount::Static(width.div_ceil(by_query.queries()) as u32, heads as u32, rows as u32),
            CubeDim::new_1d(by_query.units()),
            LANES,
            q,
            k,
            v,
            grad,
            lse,
            along,
            segments,
            branches,
            dq.clone().into_buffer_arg(),
            width as u32,
            group,
            pieces,
            scale(dim),
            by_query,
            dtypes,
        );
        let [q, k, v, grad, lse, along, segments, branches] = inputs.map(CubeTensor::into_buffer_arg);
        backward::by_key::launch(
            &client,
            CubeCount::Static(width.div_ceil(by_key.keys()) as u32, kv_heads as u32, rows as u32),
            CubeDim::new_1d(by_key.units()),
            LANES,
            q,
            k,
            v,
            grad,
            lse,
            along,
            segments,
            branches,
            dk.clone().into_buffer_arg(),
            dv.clone().into_buffer_arg(),
            width as u32,
            group,
            pieces,
            scale(dim),
            by_key,
            dtypes,
        );
        (dq, dk, dv)
    }

    fn fused_attention_cached(
        q: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        first: IntTensor<Self>,
        used: usize,
    ) -> FloatTensor<Self> {
        let [rows, heads, dim] = shape::<Self, 3>(&q);
        let [_, capacity, kv_heads, _] = shape::<Self, 4>(&keys);
        let group = heads / kv_heads;
        let Some(tile) = tiles(&[&q, &keys, &values], Pass::Cached) else {
            return composed::cached::<Self>(q, keys, values, first, used);
        };
        let [q, keys, values, first] = [q, keys, values, first].map(contiguous);
        let o = empty(&q, [rows, heads, dim], q.dtype);
        let (client, dtypes) = (q.client.clone(), [element(&q), element(&first)]);
        forward::attend_cached::launch(
            &client,
            CubeCount::Static(group.div_ceil(tile.queries()) as u32, kv_heads as u32, rows as u32),
            CubeDim::new_1d(tile.units()),
            LANES,
            q.into_buffer_arg(),
            keys.into_buffer_arg(),
            values.into_buffer_arg(),
            first.into_buffer_arg(),
            o.clone().into_buffer_arg(),
            used as u32,
            capacity as u32,
            group as u32,
            (dim / LANES) as u32,
            scale(dim),
            tile,
            dtypes,
        );
        o
    }
}

fn scale(dim: usize) -> f32 {
    (dim as f32).sqrt().recip()
}

/// The tiles for tensors of which the last dimension is the head's size, if there are kernels for them.
fn tiles(tensors: &[&CubeTensor], pass: Pass) -> Option<Tile> {
    let first = tensors.first()?;
    let dim = *first.meta.shape().last()?;
    let one_dtype = tensors.iter().all(|tensor| tensor.dtype == first.dtype);
    (supported(tensors) && one_dtype).then(|| Tile::new(pass, dim, first.client.properties().hardware.max_shared_memory_size))?
}

#[cfg(feature = "_source")]
pub(in crate::kernels) fn sources(sources: &mut Sources) {
    let dtypes = [sources.element, Sources::INT];
    for dim in [64, 128] {
        let tile = |pass| Tile::new(pass, dim, sources.device.hardware.max_shared_memory_size);
        let passes = [Pass::Forward, Pass::Cached, Pass::Queries, Pass::Keys].map(tile);
        let [Some(forward), Some(cached), Some(by_query), Some(by_key)] = passes else { continue };
        let units = |tile: Tile| CubeDim::new_1d(tile.units());
        sources.add(&format!("attention_{dim}"), units(forward), |(settings, device, target)| {
            let [q, k, v, segments, branches, o, lse] = [(); 7].map(|()| buffer());
            let (width, group, pieces, scale) = ((), (), (), ());
            forward::attend::Attend::new(
                settings, device, target, q, k, v, segments, branches, o, lse, width, group, pieces, scale, LANES, forward, dtypes,
            )
        });
        sources.add(&format!("attention_cached_{dim}"), units(cached), |(settings, device, target)| {
            let [q, keys, values, first, o] = [(); 5].map(|()| buffer());
            let (used, capacity, group, pieces, scale) = ((), (), (), (), ());
            forward::attend_cached::AttendCached::new(
                settings, device, target, q, keys, values, first, o, used, capacity, group, pieces, scale, LANES, cached, dtypes,
            )
        });
        sources.add(&format!("attention_by_query_{dim}"), units(by_query), |(settings, device, target)| {
            let [q, k, v, grad, lse, along, segments, branches, dq] = [(); 9].map(|()| buffer());
            let (width, group, pieces, scale) = ((), (), (), ());
            backward::by_query::ByQuery::new(
                settings, device, target, q, k, v, grad, lse, along, segments, branches, dq, width, group, pieces, scale, LANES, by_query,
                dtypes,
            )
        });
        sources.add(&format!("attention_by_key_{dim}"), units(by_key), |(settings, device, target)| {
            let [q, k, v, grad, lse, along, segments, branches, dk, dv] = [(); 10].map(|()| buffer());
            let (width, group, pieces, scale) = ((), (), (), ());
            backward::by_key::ByKey::new(
                settings, device, target, q, k, v, grad, lse, along, segments, branches, dk, dv, width, group, pieces, scale, LANES,
                by_key, dtypes,
            )
        });
    }
    sources.add("attention_along", CubeDim::new_1d(UNITS), |(settings, device, target)| {
        backward::along::Along::new(settings, device, target, buffer(), buffer(), buffer(), (), (), (), LANES, dtypes[0])
    });
}
