//! FlashAttention-2, algorithm 2, in two passes as in [`super::super::backward`].

use cubecl::prelude::*;

use super::super::sight::{anybody, is_seen, sight};
use super::{Block, fetch, head_rows, multiply, narrow_strips, weigh, wide_strips, write, zeros};

/// `dq` of a tile of queries of one head.
#[cube(launch)]
pub(super) fn by_query<F: Float, I: Int, N: Size>(
    q: &[Vector<F, N>],
    k: &[Vector<F, N>],
    v: &[Vector<F, N>],
    grad: &[Vector<F, N>],
    lse: &[f32],
    along: &[f32],
    segments: &[I],
    branches: &[I],
    dq: &mut [Vector<F, N>],
    width: u32,
    group: u32,
    scale: f32,
    #[comptime] block: Block,
    #[define(F, I)] _dtypes: [ElemType; 2],
) {
    let (width, heads, pieces) = (width as usize, CUBE_COUNT_Y as usize, comptime!(block.dim / block.vector));
    let (head, row, kv_heads) = (CUBE_POS_Y as usize, CUBE_POS_Z as usize, CUBE_COUNT_Y as usize / group as usize);
    let first_query = (width.div_ceil(block.rows()) - 1 - CUBE_POS_X as usize) * block.rows();
    let mut queries = head_rows::<F, N>(block.rows(), block);
    let mut grads = head_rows::<F, N>(block.rows(), block);
    let mut keys = head_rows::<F, N>(block.columns(), block);
    let mut values = head_rows::<F, N>(block.columns(), block);
    let mut scores = wide_strips(block);
    let mut d_weights = wide_strips(block);
    let mut slopes = narrow_strips::<F>(block);
    let mut ends = Shared::<[f32]>::new_slice(block.rows());
    let mut means = Shared::<[f32]>::new_slice(block.rows());
    let mut flag = Shared::<[u32]>::new_slice(1usize);

    let (q_base, q_stride) = (((row * width + first_query) * heads + head) * pieces, heads * pieces);
    fetch(q, &mut queries, q_base, q_stride, width - first_query, block.rows(), block);
    fetch(grad, &mut grads, q_base, q_stride, width - first_query, block.rows(), block);
    let unit = UNIT_POS as usize;
    if unit < block.rows() && first_query + unit < width {
        ends[unit] = lse[(row * heads + head) * width + first_query + unit];
        means[unit] = along[(row * heads + head) * width + first_query + unit];
    }
    let (kv_base, kv_stride) = ((row * width * kv_heads + head / group as usize) * pieces, kv_heads * pieces);
    let (first_row, lane) = (UNIT_POS_Y as usize * block.fragment, UNIT_POS_X as usize);
    let end = min(width, first_query + block.rows());

    let sums = zeros(comptime!(block.dim / block.fragment), block);
    let mut first_key = 0usize;
    while first_key < end {
        let query = first_query + first_row;
        let seen = sight(segments, branches, row * width, width, query, first_key + lane, false, block.cells());
        if anybody(seen, &mut flag) {
            let base = kv_base + first_key * kv_stride;
            fetch(k, &mut keys, base, kv_stride, width - first_key, block.columns(), block);
            fetch(v, &mut values, base, kv_stride, width - first_key, block.columns(), block);
            sync_cube();
            multiply(&queries, &keys, &mut scores, block);
            multiply(&grads, &values, &mut d_weights, block);
            sync_plane();
            for a in 0..block.fragment {
                #[unroll]
                for b in 0..comptime!(block.cells().across) {
                    let (row, column) = (first_row + a, lane + b * block.lanes);
                    let at = row * block.wide_pitch() + column;
                    let mut slope = 0.0f32;
                    if is_seen(seen, a * block.cells().across + b) {
                        slope = (scores[at] * scale - ends[row]).exp() * (d_weights[at] - means[row]);
                    }
                    slopes[row * block.narrow_pitch() + column] = F::cast_from(slope);
                }
            }
            sync_plane();
            weigh(&slopes, &keys, &sums, width - first_key, block);
        }
        first_key += block.columns();
    }
    write(&sums, &mut scores, dq, q_base, q_stride, width - first_query, scale, block);
}

/// `dk` and `dv` of a tile of keys of one key head, from all queries of its group.
#[cube(launch)]
pub(super) fn by_key<F: Float, I: Int, N: Size>(
    q: &[Vector<F, N>],
    k: &[Vector<F, N>],
    v: &[Vector<F, N>],
    grad: &[Vector<F, N>],
    lse: &[f32],
    along: &[f32],
    segments: &[I],
    branches: &[I],
    dk: &mut [Vector<F, N>],
    dv: &mut [Vector<F, N>],
    width: u32,
    group: u32,
    scale: f32,
    #[comptime] block: Block,
    #[define(F, I)] _dtypes: [ElemType; 2],
) {
    let (width, kv_heads, pieces) = (width as usize, CUBE_COUNT_Y as usize, comptime!(block.dim / block.vector));
    let (kv_head, row, heads) = (CUBE_POS_Y as usize, CUBE_POS_Z as usize, CUBE_COUNT_Y as usize * group as usize);
    let first_key = CUBE_POS_X as usize * block.rows();
    let mut keys = head_rows::<F, N>(block.rows(), block);
    let mut values = head_rows::<F, N>(block.rows(), block);
    let mut queries = head_rows::<F, N>(block.columns(), block);
    let mut grads = head_rows::<F, N>(block.columns(), block);
    let mut scores = wide_strips(block);
    let mut d_weights = wide_strips(block);
    let mut weights = narrow_strips::<F>(block);
    let mut slopes = narrow_strips::<F>(block);
    let mut flag = Shared::<[u32]>::new_slice(1usize);

    let (base, stride) = (((row * width + first_key) * kv_heads + kv_head) * pieces, kv_heads * pieces);
    fetch(k, &mut keys, base, stride, width - first_key, block.rows(), block);
    fetch(v, &mut values, base, stride, width - first_key, block.rows(), block);
    let (first_row, lane) = (UNIT_POS_Y as usize * block.fragment, UNIT_POS_X as usize);

    let key_sums = zeros(comptime!(block.dim / block.fragment), block);
    let value_sums = zeros(comptime!(block.dim / block.fragment), block);
    // The tile that holds the first key is the first that has a query at or after it.
    let mut first_query = first_key / block.columns() * block.columns();
    while first_query < width {
        let key = first_key + first_row;
        let seen = sight(segments, branches, row * width, width, key, first_query + lane, true, block.cells());
        if anybody(seen, &mut flag) {
            for member in 0..group as usize {
                let head = kv_head * group as usize + member;
                let q_base = ((row * width + first_query) * heads + head) * pieces;
                let (q_stride, count) = (heads * pieces, width - first_query);
                fetch(q, &mut queries, q_base, q_stride, count, block.columns(), block);
                fetch(grad, &mut grads, q_base, q_stride, count, block.columns(), block);
                sync_cube();
                multiply(&keys, &queries, &mut scores, block);
                multiply(&values, &grads, &mut d_weights, block);
                sync_plane();
                #[unroll]
                for b in 0..comptime!(block.cells().across) {
                    let column = lane + b * block.lanes;
                    let query = (row * heads + head) * width + min(first_query + column, width - 1);
                    let (end, mean) = (lse[query], along[query]);
                    for a in 0..block.fragment {
                        let row = first_row + a;
                        let at = row * block.wide_pitch() + column;
                        let mut weight = 0.0f32;
                        if is_seen(seen, a * block.cells().across + b) {
                            weight = (scores[at] * scale - end).exp();
                        }
                        weights[row * block.narrow_pitch() + column] = F::cast_from(weight);
                        slopes[row * block.narrow_pitch() + column] = F::cast_from(weight * (d_weights[at] - mean));
                    }
                }
                sync_plane();
                weigh(&weights, &grads, &value_sums, count, block);
                weigh(&slopes, &queries, &key_sums, count, block);
                // The next member's queries take the place of these.
                sync_cube();
            }
        }
        first_query += block.columns();
    }
    write(&value_sums, &mut scores, dv, base, stride, width - first_key, 1.0f32, block);
    write(&key_sums, &mut scores, dk, base, stride, width - first_key, scale, block);
}
