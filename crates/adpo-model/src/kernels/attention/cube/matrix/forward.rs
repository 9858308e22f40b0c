//! FlashAttention-2, algorithm 1, in two sweeps over the keys: the first finds each query's log Σ exp, the second weighs the values
//! by what they weigh in the end. That multiplies queries and keys twice, and leaves nothing to be scaled later.

use cubecl::prelude::*;

use super::super::forward::HIDDEN;
use super::super::sight::{anybody, is_seen, sight};
use super::{Block, fetch, head_rows, multiply, narrow_strips, weigh, wide_strips, write, zeros};

/// A unit's share of the softmax of its plane's rows: of the columns that are its own, the largest score and Σ exp beyond it.
#[derive(CubeType)]
struct Shares {
    top: Array<f32>,
    sum: Array<f32>,
}

#[cube]
impl Shares {
    fn new(#[comptime] block: Block) -> Shares {
        let mut top = Array::<f32>::new(block.fragment);
        let mut sum = Array::<f32>::new(block.fragment);
        #[unroll]
        for row in 0..block.fragment {
            top[row] = f32::new(HIDDEN);
            sum[row] = 0.0f32;
        }
        Shares { top, sum }
    }

    /// Takes in a strip of products, of which `seen` tells which count.
    fn take(&mut self, strip: &[f32], seen: u32, scale: f32, #[comptime] block: Block) {
        let cells = comptime!(block.cells());
        let pitch = comptime!(block.wide_pitch());
        let start = UNIT_POS_Y as usize * block.fragment * pitch + UNIT_POS_X as usize;
        #[unroll]
        for row in 0..block.fragment {
            let mut top = self.top[row];
            #[unroll]
            for b in 0..cells.across {
                if is_seen(seen, comptime!(row * cells.across + b)) {
                    top = max(top, strip[start + row * pitch + b * block.lanes] * scale);
                }
            }
            let mut sum = self.sum[row] * (self.top[row] - top).exp();
            #[unroll]
            for b in 0..cells.across {
                if is_seen(seen, comptime!(row * cells.across + b)) {
                    sum += (strip[start + row * pitch + b * block.lanes] * scale - top).exp();
                }
            }
            self.top[row] = top;
            self.sum[row] = sum;
        }
    }

    /// Log Σ exp of the plane's rows, from all of its units' shares, into `ends`, each row's by the unit of its number. The strip is
    /// scratch.
    fn join(&self, strip: &mut [f32], ends: &mut [f32], #[comptime] block: Block) {
        let (lane, pitch) = (UNIT_POS_X as usize, comptime!(block.wide_pitch()));
        let first = UNIT_POS_Y as usize * block.fragment;
        // What lay there, nobody else has read.
        #[unroll]
        for row in 0..block.fragment {
            strip[(first + row) * pitch + lane] = self.top[row];
        }
        sync_plane();
        if lane < block.fragment {
            let mut top = f32::new(HIDDEN);
            for i in 0..block.lanes {
                top = max(top, strip[(first + lane) * pitch + i]);
            }
            ends[first + lane] = top;
        }
        sync_plane();
        #[unroll]
        for row in 0..block.fragment {
            strip[(first + row) * pitch + lane] = self.sum[row] * (self.top[row] - ends[first + row]).exp();
        }
        sync_plane();
        if lane < block.fragment {
            let mut sum = 0.0f32;
            for i in 0..block.lanes {
                sum += strip[(first + lane) * pitch + i];
            }
            ends[first + lane] += sum.ln();
        }
    }
}

/// A tile of queries of one head over all keys that it may see.
#[cube(launch)]
pub(super) fn attend<F: Float, I: Int, N: Size>(
    q: &[Vector<F, N>],
    k: &[Vector<F, N>],
    v: &[Vector<F, N>],
    segments: &[I],
    branches: &[I],
    o: &mut [Vector<F, N>],
    lse: &mut [f32],
    width: u32,
    group: u32,
    scale: f32,
    #[comptime] block: Block,
    #[define(F, I)] _dtypes: [ElemType; 2],
) {
    let (width, heads, pieces) = (width as usize, CUBE_COUNT_Y as usize, comptime!(block.dim / block.vector));
    let (head, row, kv_heads) = (CUBE_POS_Y as usize, CUBE_POS_Z as usize, CUBE_COUNT_Y as usize / group as usize);
    // The last tiles have the most to do: they begin.
    let first_query = (width.div_ceil(block.rows()) - 1 - CUBE_POS_X as usize) * block.rows();
    let mut queries = head_rows::<F, N>(block.rows(), block);
    let mut keys = head_rows::<F, N>(block.columns(), block);
    let mut values = head_rows::<F, N>(block.columns(), block);
    let mut scores = wide_strips(block);
    let mut weights = narrow_strips::<F>(block);
    let mut ends = Shared::<[f32]>::new_slice(block.rows());
    let mut flag = Shared::<[u32]>::new_slice(1usize);

    let (q_base, q_stride) = (((row * width + first_query) * heads + head) * pieces, heads * pieces);
    fetch(q, &mut queries, q_base, q_stride, width - first_query, block.rows(), block);
    let (kv_base, kv_stride) = ((row * width * kv_heads + head / group as usize) * pieces, kv_heads * pieces);
    let (first_row, lane) = (UNIT_POS_Y as usize * block.fragment, UNIT_POS_X as usize);
    let end = min(width, first_query + block.rows());

    let mut shares = Shares::new(block);
    let mut first_key = 0usize;
    while first_key < end {
        let query = first_query + first_row;
        let seen = sight(segments, branches, row * width, width, query, first_key + lane, false, block.cells());
        if anybody(seen, &mut flag) {
            fetch(k, &mut keys, kv_base + first_key * kv_stride, kv_stride, width - first_key, block.columns(), block);
            sync_cube();
            multiply(&queries, &keys, &mut scores, block);
            sync_plane();
            shares.take(&scores, seen, scale, block);
        }
        first_key += block.columns();
    }
    shares.join(&mut scores, &mut ends, block);
    if lane < block.fragment && first_query + first_row + lane < width {
        lse[(row * heads + head) * width + first_query + first_row + lane] = ends[first_row + lane];
    }

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
            sync_plane();
            for a in 0..block.fragment {
                #[unroll]
                for b in 0..comptime!(block.cells().across) {
                    let (row, column) = (first_row + a, lane + b * block.lanes);
                    let mut weight = 0.0f32;
                    if is_seen(seen, a * block.cells().across + b) {
                        weight = (scores[row * block.wide_pitch() + column] * scale - ends[row]).exp();
                    }
                    weights[row * block.narrow_pitch() + column] = F::cast_from(weight);
                }
            }
            sync_plane();
            weigh(&weights, &values, &sums, width - first_key, block);
        }
        first_key += block.columns();
    }
    write(&sums, &mut scores, o, q_base, q_stride, width - first_query, 1.0f32, block);
}
