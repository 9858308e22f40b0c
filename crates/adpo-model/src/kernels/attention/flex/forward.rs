//! Algorithm 1 of FlashAttention-2.

use burn::backend::Flex;
use rayon::prelude::*;

use super::sight::{Block, blocks_of_rows};
use super::{KEYS, QUERIES};
use crate::kernels::composed::shape;
use crate::kernels::cpu::{CpuTensor, Matrix, MatrixMut, Write, contiguous, exp, floats, max, multiply, sum, tensor, vectorised};

pub(super) fn forward(q: CpuTensor, k: CpuTensor, v: CpuTensor, segments: &CpuTensor, branches: &CpuTensor) -> (CpuTensor, CpuTensor) {
    let [rows, width, heads, dim] = shape::<Flex, 4>(&q);
    let kv_heads = shape::<Flex, 4>(&k)[2];
    let [q, k, v] = [q, k, v].map(contiguous);
    let [q, k, v] = [&q, &k, &v].map(floats);
    let blocks = blocks_of_rows(segments, branches, width);
    let (mut o, mut lse) = (vec![0.0; q.len()], vec![0.0; rows * heads * width]);
    let outputs = o.chunks_mut((width * heads * dim).max(1)).flat_map(|o| MatrixMut::side_by_side(o, width, heads, dim));
    let mut tasks: Vec<_> = outputs.zip(lse.chunks_mut(width.max(1))).collect();
    tasks.par_iter_mut().enumerate().for_each_init(
        || vec![0.0; QUERIES * KEYS],
        |scratch, (task, (o, lse))| {
            let (row, head) = (task / heads, task % heads);
            let kv_head = head / (heads / kv_heads);
            let head_of =
                |x, heads: usize, head: usize| Head { data: x, start: (row * width * heads + head) * dim, stride: heads * dim, dim };
            let [q, k, v] = [head_of(q, heads, head), head_of(k, kv_heads, kv_head), head_of(v, kv_heads, kv_head)];
            for part in &blocks[row] {
                let queries = part.queries.clone();
                block([q, k, v], part, o.part(queries.start, queries.len()), &mut lse[queries], scratch);
            }
        },
    );
    drop(tasks);
    (tensor(o, [rows, width, heads, dim]), tensor(lse, [rows, heads, width]))
}

/// One head of one row: `[width, dim]`, `stride` apart.
#[derive(Clone, Copy)]
pub(super) struct Head<'a> {
    pub data: &'a [f32],
    pub start: usize,
    pub stride: usize,
    pub dim: usize,
}

impl<'a> Head<'a> {
    pub(super) fn part(&self, first: usize, rows: usize) -> Matrix<'a> {
        Matrix::strided(&self.data[self.start + first * self.stride..], rows, self.dim, self.stride)
    }

    pub(super) fn row(&self, row: usize) -> &'a [f32] {
        &self.data[self.start + row * self.stride..][..self.dim]
    }
}

/// A block's queries against all the keys that they see.
fn block([q, k, v]: [Head<'_>; 3], block: &Block, mut o: MatrixMut<'_>, lse: &mut [f32], scratch: &mut [f32]) {
    let (first, n) = (block.queries.start, lse.len());
    let scale = (q.dim as f32).powf(-0.5);
    let (mut top, mut total) = ([f32::NEG_INFINITY; QUERIES], [0.0_f32; QUERIES]);
    let mut write = Write::Replace;
    for keys in &block.keys {
        let start = keys.start;
        let scores = &mut scratch[..n * keys.len()];
        multiply(MatrixMut::new(scores, n, keys.len()), Write::Replace, q.part(first, n), k.part(start, keys.len()).t());
        for (i, scores) in scores.chunks_exact_mut(keys.len()).enumerate() {
            let (seen, unseen) = scores.split_at_mut(Block::seen(first + i, keys));
            unseen.fill(0.0);
            let kept = weigh(seen, scale, &mut top[i], &mut total[i]);
            if write == Write::Add && kept != 1.0 {
                o.row(i).iter_mut().for_each(|o| *o *= kept);
            }
        }
        multiply(o.part(0, n), write, Matrix::new(scores, n, keys.len()), v.part(start, keys.len()));
        write = Write::Add;
    }
    for (i, lse) in lse.iter_mut().enumerate() {
        o.row(i).iter_mut().for_each(|o| *o /= total[i]);
        *lse = top[i] + total[i].ln();
    }
}

vectorised! {
    /// Scores become weights relative to the largest score so far; gives the factor of the weights before.
    fn weigh(scores: &mut [f32], scale: f32, top: &mut f32, total: &mut f32) -> f32 {
        let new_top = top.max(max(scores.len(), |k| scores[k]) * scale);
        let kept = if *top == f32::NEG_INFINITY { 0.0 } else { exp(*top - new_top) };
        for score in scores.iter_mut() {
            *score = exp(score.mul_add(scale, -new_top));
        }
        *total = total.mul_add(kept, sum(scores.len(), |k| scores[k]));
        *top = new_top;
        kept
    }
}
