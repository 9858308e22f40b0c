//! One query per row and head against the cells of the cache.

use burn::backend::Flex;
use rayon::prelude::*;

use crate::kernels::composed::shape;
use crate::kernels::cpu::{CpuTensor, contiguous, exp, floats, ids, max, sum, tensor, vectorised};

pub(super) fn cached(q: CpuTensor, keys: CpuTensor, values: CpuTensor, first: &CpuTensor, used: usize) -> CpuTensor {
    let [rows, heads, dim] = shape::<Flex, 3>(&q);
    let [_, capacity, kv_heads, _] = shape::<Flex, 4>(&keys);
    let group = heads / kv_heads;
    let [q, keys, values] = [q, keys, values].map(contiguous);
    let [q, keys, values] = [&q, &keys, &values].map(floats);
    let first = ids(first);
    let mut o = vec![0.0; rows * heads * dim];
    let cells = |cache: &'_ [f32], row: usize| row * capacity * kv_heads * dim..cache.len().min((row * capacity + used) * kv_heads * dim);
    o.par_chunks_mut((heads * dim).max(1)).enumerate().for_each(|(row, o)| {
        for (head, o) in o.chunks_exact_mut(dim).enumerate() {
            let q = &q[(row * heads + head) * dim..][..dim];
            let (keys, values) = (&keys[cells(keys, row)], &values[cells(values, row)]);
            look_up(o, q, keys, values, kv_heads * dim, head / group * dim, first[row]);
        }
    });
    tensor(o, [rows, heads, dim])
}

vectorised! {
    /// The cells from `first` on, `stride` apart, of which this head's part begins at `start`.
    fn look_up(o: &mut [f32], q: &[f32], keys: &[f32], values: &[f32], stride: usize, start: usize, first: usize) {
        let (dim, scale) = (q.len(), (q.len() as f32).powf(-0.5));
        let keys = keys.chunks_exact(stride).skip(first).map(|cell| &cell[start..start + dim]);
        let mut scores: Vec<f32> = keys.map(|key| sum(dim, |i| q[i] * key[i]) * scale).collect();
        let top = max(scores.len(), |i| scores[i]);
        for score in &mut scores {
            *score = exp(*score - top);
        }
        let total = sum(scores.len(), |i| scores[i]);
        for (value, weight) in values.chunks_exact(stride).skip(first).zip(&scores) {
            o.iter_mut().zip(&value[start..start + dim]).for_each(|(o, value)| *o = weight.mul_add(*value, *o));
        }
        for o in o.iter_mut() {
            *o /= total;
        }
    }
}
