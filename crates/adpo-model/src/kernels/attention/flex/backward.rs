//! Algorithm 2 of FlashAttention-2. The heads that share keys run one after the other: they add to the same gradients.

use burn::backend::Flex;
use rayon::prelude::*;

use super::forward::Head;
use super::sight::{Block, blocks_of_rows};
use super::{KEYS, QUERIES};
use crate::kernels::composed::shape;
use crate::kernels::cpu::{CpuTensor, Matrix, MatrixMut, Write, contiguous, exp, floats, multiply, sum, tensor, vectorised};

pub(super) fn backward(saved: [CpuTensor; 6], segments: &CpuTensor, branches: &CpuTensor) -> (CpuTensor, CpuTensor, CpuTensor) {
    let [rows, width, heads, dim] = shape::<Flex, 4>(&saved[0]);
    let kv_heads = shape::<Flex, 4>(&saved[1])[2];
    let group = heads / kv_heads;
    let saved = saved.map(contiguous);
    let [q, k, v, o, lse, grad] = saved.each_ref().map(floats);
    let blocks = blocks_of_rows(segments, branches, width);
    let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
    let (mut dqs, dks, dvs) =
        (split(&mut dq, width, heads, dim), split(&mut dk, width, kv_heads, dim), split(&mut dv, width, kv_heads, dim));
    let tasks = dqs.par_chunks_mut(group).zip(dks).zip(dvs).enumerate();
    tasks.for_each_init(Scratch::new, |scratch, (task, ((dqs, mut dk), mut dv))| {
        let (row, kv_head) = (task / kv_heads, task % kv_heads);
        let head_of = |data, heads: usize, head: usize| Head { data, start: (row * width * heads + head) * dim, stride: heads * dim, dim };
        let (k, v) = (head_of(k, kv_heads, kv_head), head_of(v, kv_heads, kv_head));
        for (i, dq) in dqs.iter_mut().enumerate() {
            let head = kv_head * group + i;
            let pass = Pass {
                q: head_of(q, heads, head),
                k,
                v,
                o: head_of(o, heads, head),
                grad: head_of(grad, heads, head),
                lse: &lse[(row * heads + head) * width..][..width],
            };
            for block in &blocks[row] {
                pass.block(block, dq, &mut dk, &mut dv, scratch);
            }
        }
    });
    (tensor(dq, [rows, width, heads, dim]), tensor(dk, [rows, width, kv_heads, dim]), tensor(dv, [rows, width, kv_heads, dim]))
}

/// `[rows, width, heads, dim]` by row and head.
fn split(x: &mut [f32], width: usize, heads: usize, dim: usize) -> Vec<MatrixMut<'_>> {
    x.chunks_mut((width * heads * dim).max(1)).flat_map(|x| MatrixMut::side_by_side(x, width, heads, dim)).collect()
}

struct Scratch {
    weights: Vec<f32>,
    d_scores: Vec<f32>,
}

impl Scratch {
    fn new() -> Self {
        Self { weights: vec![0.0; QUERIES * KEYS], d_scores: vec![0.0; QUERIES * KEYS] }
    }
}

/// What one head of one row needs.
struct Pass<'a> {
    q: Head<'a>,
    k: Head<'a>,
    v: Head<'a>,
    o: Head<'a>,
    grad: Head<'a>,
    lse: &'a [f32],
}

impl Pass<'_> {
    /// The share of a block's queries.
    fn block(&self, block: &Block, dq: &mut MatrixMut<'_>, dk: &mut MatrixMut<'_>, dv: &mut MatrixMut<'_>, scratch: &mut Scratch) {
        let dim = self.q.dim;
        let (first, n) = (block.queries.start, block.queries.len());
        let scale = (dim as f32).powf(-0.5);
        let mut along = [0.0_f32; QUERIES];
        for (i, along) in along[..n].iter_mut().enumerate() {
            *along = dot(self.o.row(first + i), self.grad.row(first + i));
        }
        let (q, grad) = (self.q.part(first, n), self.grad.part(first, n));
        for keys in &block.keys {
            let start = keys.start;
            let (k, v) = (self.k.part(start, keys.len()), self.v.part(start, keys.len()));
            let weights = &mut scratch.weights[..n * keys.len()];
            let d_scores = &mut scratch.d_scores[..n * keys.len()];
            multiply(MatrixMut::new(weights, n, keys.len()), Write::Replace, q, k.t());
            multiply(MatrixMut::new(d_scores, n, keys.len()), Write::Replace, grad, v.t());
            let block = weights.chunks_exact_mut(keys.len()).zip(d_scores.chunks_exact_mut(keys.len()));
            for (i, (weights, d_scores)) in block.enumerate() {
                let seen = Block::seen(first + i, keys);
                weights[seen..].fill(0.0);
                d_scores[seen..].fill(0.0);
                let (weights, d_scores) = (&mut weights[..seen], &mut d_scores[..seen]);
                slopes(weights, d_scores, scale, self.lse[first + i], along[i]);
            }
            let (weights, d_scores) = (Matrix::new(weights, n, keys.len()), Matrix::new(d_scores, n, keys.len()));
            multiply(dv.part(start, keys.len()), Write::Add, weights.t(), grad);
            multiply(dq.part(first, n), Write::Add, d_scores, k);
            multiply(dk.part(start, keys.len()), Write::Add, d_scores.t(), q);
        }
    }
}

vectorised! {
    fn dot(a: &[f32], b: &[f32]) -> f32 {
        sum(a.len(), |i| a[i] * b[i])
    }

    /// Scores become weights, and the weights' gradients the scores'.
    fn slopes(weights: &mut [f32], d_scores: &mut [f32], scale: f32, lse: f32, along: f32) {
        for (w, d) in weights.iter_mut().zip(d_scores) {
            *w = exp(w.mul_add(scale, -lse));
            *d = *w * (*d - along) * scale;
        }
    }
}
