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
    let scale = (dim as f32).powf(-0.5);
    let mut o = vec![0.0; rows * heads * dim];
    let one = |row: usize, o: &mut [f32], scores: &mut Vec<f32>| {
        let cell = |cache: &'_ [f32], at: usize, head: usize| ((row * capacity + at) * kv_heads + head) * dim..cache.len();
        let seen = first[row]..used;
        for (head, o) in o.chunks_exact_mut(dim).enumerate() {
            let q = &q[(row * heads + head) * dim..][..dim];
            scores.clear();
            for at in seen.clone() {
                let key = &keys[cell(keys, at, head / group)][..dim];
                scores.push(sum(dim, |i| q[i] * key[i]) * scale);
            }
            let top = max(scores.len(), |i| scores[i]);
            scores.iter_mut().for_each(|score| *score = exp(*score - top));
            let total = sum(scores.len(), |i| scores[i]);
            for (at, weight) in seen.clone().zip(&*scores) {
                let value = &values[cell(values, at, head / group)][..dim];
                o.iter_mut().zip(value).for_each(|(o, value)| *o = weight.mul_add(*value, *o));
            }
            o.iter_mut().for_each(|o| *o /= total);
        }
    };
    o.par_chunks_mut((heads * dim).max(1)).enumerate().for_each_init(Vec::new, |scores, (row, o)| vectorised(|| one(row, o, scores)));
    tensor(o, [rows, heads, dim])
}
