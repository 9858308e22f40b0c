//! Online softmax in tiles through shared memory: a cube takes a tile of queries, or of keys, and walks over the others.
//!
//! Where the device has matrix instructions for the tensors' dtype they multiply (`matrix`), else f32 multiply-adds of registers do.
//! Every gradient is summed by one cube in a fixed order. Head sizes that 4 does not divide, and those for which not even the
//! smallest tiles fit, compute the definition.
#![expect(clippy::used_underscore_binding, reason = "what `#[cube]` makes of a kernel's dtypes")]

mod backward;
mod forward;
mod matrix;
mod sight;
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
        if let Some(block) = matrix::block(&[&q, &k, &v], Pass::Forward) {
            return matrix::forward([q, k, v], [segments, branches], block);
        }
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
        let (o, grad) = (contiguous(o), contiguous(grad));
        let all = [&q, &k, &v, &o, &grad];
        if let [Some(by_query), Some(by_key)] = [Pass::Queries, Pass::Keys].map(|pass| matrix::block(&all, pass)) {
            let along = along(o, &grad);
            return matrix::backward([q, k, v, grad, lse, along, segments, branches], by_query, by_key);
        }
        let (Some(by_query), Some(by_key)) = (tiles(&all, Pass::Queries), tiles(&all, Pass::Keys)) else {
            return composed::backward::<Self>(q, k, v, o, lse, grad, segments, branches);
        };
        let [rows, width, heads, dim] = shape::<Self, 4>(&q);
        let kv_heads = shape::<Self, 4>(&k)[2];
        let (client, dtypes) = (q.client.clone(), [element(&q), element(&segments)]);
        let [dq, dk, dv] = [&q, &k, &v].map(|like| empty(like, shape::<Self, 4>(like), like.dtype));
        let along = along(o, &grad);
        let (group, pieces) = ((heads / kv_heads) as u32, (dim / LANES) as u32);

        let inputs = [q, k, v, grad, lse, along, segments, branches].map(contiguous);
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

    fn on_matrix_instructions(q: FloatTensor<Self>) -> bool {
        [Pass::Forward, Pass::Queries, Pass::Keys].iter().all(|pass| matrix::block(&[&q], *pass).is_some())
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

/// `D = Σ dO·O` of each query and head, `[rows, heads, width]`.
fn along(o: CubeTensor, grad: &CubeTensor) -> CubeTensor {
    let [rows, width, heads, dim] = shape::<CubeBackend, 4>(&o);
    let along = empty(&o, [rows, heads, width], DType::F32);
    let (client, dtype) = (o.client.clone(), element(&o));
    let (cubes, units) = each(rows * width * heads);
    let [o, grad, out] = [o, grad.clone(), along.clone()].map(CubeTensor::into_buffer_arg);
    backward::along::launch(&client, cubes, units, LANES, o, grad, out, width as u32, heads as u32, (dim / LANES) as u32, dtype);
    along
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
    matrix::sources(sources);
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
