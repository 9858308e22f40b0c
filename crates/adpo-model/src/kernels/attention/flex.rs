//! Blocks of scores by gemm, one head of one row per task.

mod backward;
mod cached;
mod forward;
mod sight;

use burn::backend::Flex;
use burn::backend::tensor::{FloatTensor, IntTensor};

use super::{AttentionOps, composed};
use crate::kernels::cpu::all_f32;

/// Queries per block of scores.
const QUERIES: usize = 64;
/// Keys per block of scores: a block of f32 is 64 KiB.
const KEYS: usize = 256;

impl AttentionOps for Flex {
    fn fused_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        segments: IntTensor<Self>,
        branches: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if !all_f32(&[&q, &k, &v]) {
            return composed::forward::<Self>(q, k, v, segments, branches);
        }
        forward::forward(q, k, v, &segments, &branches)
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
        if !all_f32(&[&q, &k, &v, &o, &lse, &grad]) {
            return composed::backward::<Self>(q, k, v, o, lse, grad, segments, branches);
        }
        backward::backward([q, k, v, o, lse, grad], &segments, &branches)
    }

    fn fused_attention_cached(
        q: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        first: IntTensor<Self>,
        used: usize,
    ) -> FloatTensor<Self> {
        if !all_f32(&[&q, &keys, &values]) {
            return composed::cached::<Self>(q, keys, values, first, used);
        }
        cached::cached(q, keys, values, &first, used)
    }
}
