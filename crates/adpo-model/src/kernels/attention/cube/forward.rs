//! FlashAttention-2, algorithm 1, and the same over a cache.

use cubecl::prelude::*;

use super::sight::{anybody, is_seen, sight};
use super::tile::{Tile, load, multiply, share, store, weigh};

/// Less than any score. Not −∞, which WGSL does not have.
pub(super) const HIDDEN: f32 = -1e30;

/// The running softmax of a unit's rows: their largest score, the unit's share of Σ exp, and of the weighted values.
#[derive(CubeType)]
struct Online<N: Size> {
    top: Array<f32>,
    sum: Array<f32>,
    values: Array<Vector<f32, N>>,
}

#[cube]
impl<N: Size> Online<N> {
    fn new(#[comptime] tile: Tile) -> Online<N> {
        let mut top = Array::<f32>::new(tile.down);
        let mut sum = Array::<f32>::new(tile.down);
        let mut values = Array::<Vector<f32, N>>::new(comptime!(tile.down * tile.vectors));
        #[unroll]
        for a in 0..tile.down {
            top[a] = f32::new(HIDDEN);
            sum[a] = 0.0f32;
        }
        #[unroll]
        for i in 0..comptime!(tile.down * tile.vectors) {
            values[i] = Vector::new(0.0f32);
        }
        Online::<N> { top, sum, values }
    }

    /// Takes in a tile of scores, of which bit i of `seen` tells whether the unit's score i counts: they become weights, and what
    /// was summed so far shrinks to the new largest score. `tops` is scratch.
    fn take(&mut self, scores: &mut Array<f32>, seen: u32, tops: &mut [f32], #[comptime] tile: Tile) {
        let (y, x) = (UNIT_POS as usize / tile.side, UNIT_POS as usize % tile.side);
        #[unroll]
        for a in 0..tile.down {
            let mut top = f32::new(HIDDEN);
            #[unroll]
            for b in 0..tile.across {
                if is_seen(seen, comptime!(a * tile.across + b)) {
                    top = max(top, scores[a * tile.across + b]);
                }
            }
            tops[(y + a * tile.side) * tile.side + x] = top;
        }
        sync_cube();
        #[unroll]
        for a in 0..tile.down {
            let mut top = self.top[a];
            #[unroll]
            for i in 0..tile.side {
                top = max(top, tops[(y + a * tile.side) * tile.side + i]);
            }
            let shrink = (self.top[a] - top).exp();
            self.top[a] = top;
            let mut sum = self.sum[a] * shrink;
            #[unroll]
            for b in 0..tile.across {
                let i = comptime!(a * tile.across + b);
                let mut weight = 0.0f32;
                if is_seen(seen, i) {
                    weight = (scores[i] - top).exp();
                }
                scores[i] = weight;
                sum += weight;
            }
            self.sum[a] = sum;
            #[unroll]
            for c in 0..tile.vectors {
                self.values[a * tile.vectors + c] *= Vector::new(shrink);
            }
        }
    }

    /// The rows' Σ exp, of all units' shares. `sums` is scratch.
    fn total(&self, sums: &mut [f32], #[comptime] tile: Tile) -> Array<f32> {
        let (y, x) = (UNIT_POS as usize / tile.side, UNIT_POS as usize % tile.side);
        #[unroll]
        for a in 0..tile.down {
            sums[(y + a * tile.side) * tile.side + x] = self.sum[a];
        }
        sync_cube();
        let mut total = Array::<f32>::new(tile.down);
        #[unroll]
        for a in 0..tile.down {
            let mut sum = 0.0f32;
            #[unroll]
            for i in 0..tile.side {
                sum += sums[(y + a * tile.side) * tile.side + i];
            }
            total[a] = sum;
        }
        total
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
    pieces: u32,
    scale: f32,
    #[comptime] tile: Tile,
    #[define(F, I)] _dtypes: [ElemType; 2],
) {
    let (width, pieces, heads) = (width as usize, pieces as usize, CUBE_COUNT_Y as usize);
    let (head, row, kv_heads) = (CUBE_POS_Y as usize, CUBE_POS_Z as usize, CUBE_COUNT_Y as usize / group as usize);
    // The last tiles have the most to do: they begin.
    let first_query = (width.div_ceil(tile.rows()) - 1 - CUBE_POS_X as usize) * tile.rows();
    let mut queries = Shared::<[Vector<f32, N>]>::new_slice(comptime!(tile.rows() * tile.pitch()));
    let mut others = Shared::<[Vector<f32, N>]>::new_slice(comptime!(tile.columns() * tile.pitch()));
    let mut weights = Shared::<[f32]>::new_slice(comptime!(tile.rows() * (tile.columns() + 1)));
    let mut scratch = Shared::<[f32]>::new_slice(comptime!(tile.rows() * tile.side));
    let mut flag = Shared::<[u32]>::new_slice(1usize);
    let mut scores = Array::<f32>::new(comptime!(tile.down * tile.across));
    let mut online = Online::<N>::new(tile);

    let (q_base, q_stride) = (((row * width + first_query) * heads + head) * pieces, heads * pieces);
    load(q, &mut queries, q_base, q_stride, width - first_query, pieces, scale, tile.rows(), tile);
    let end = min(width, first_query + tile.rows());
    let mut first_key = 0usize;
    let (y, x) = (UNIT_POS as usize / tile.side, UNIT_POS as usize % tile.side);
    while first_key < end {
        let seen = sight(segments, branches, row * width, width, first_query + y, first_key + x, false, tile.cells());
        if anybody(seen, &mut flag) {
            let base = ((row * width + first_key) * kv_heads + head / group as usize) * pieces;
            let (stride, count) = (kv_heads * pieces, width - first_key);
            load(k, &mut others, base, stride, count, pieces, 1.0f32, tile.columns(), tile);
            sync_cube();
            multiply(&queries, &others, &mut scores, pieces, tile);
            online.take(&mut scores, seen, &mut scratch, tile);
            share(&scores, &mut weights, tile);
            load(v, &mut others, base, stride, count, pieces, 1.0f32, tile.columns(), tile);
            sync_cube();
            weigh(&weights, &others, &mut online.values, count, tile);
            sync_cube();
        }
        first_key += tile.columns();
    }
    let mut total = online.total(&mut scratch, tile);
    #[unroll]
    for a in 0..tile.down {
        let query = first_query + y + a * tile.side;
        if x == 0 && query < width {
            lse[(row * heads + head) * width + query] = online.top[a] + total[a].ln();
        }
        total[a] = 1.0f32 / total[a];
    }
    store(&online.values, &total, o, q_base, q_stride, width - first_query, pieces, tile);
}

/// The queries of one row that share a key head over the cells of a cache.
#[cube(launch)]
pub(super) fn attend_cached<F: Float, I: Int, N: Size>(
    q: &[Vector<F, N>],
    keys: &[Vector<F, N>],
    values: &[Vector<F, N>],
    first: &[I],
    o: &mut [Vector<F, N>],
    used: u32,
    capacity: u32,
    group: u32,
    pieces: u32,
    scale: f32,
    #[comptime] tile: Tile,
    #[define(F, I)] _dtypes: [ElemType; 2],
) {
    let (used, capacity, group, pieces) = (used as usize, capacity as usize, group as usize, pieces as usize);
    let (kv_head, row, kv_heads) = (CUBE_POS_Y as usize, CUBE_POS_Z as usize, CUBE_COUNT_Y as usize);
    let first_query = CUBE_POS_X as usize * tile.rows();
    let mut queries = Shared::<[Vector<f32, N>]>::new_slice(comptime!(tile.rows() * tile.pitch()));
    let mut others = Shared::<[Vector<f32, N>]>::new_slice(comptime!(tile.columns() * tile.pitch()));
    let mut weights = Shared::<[f32]>::new_slice(comptime!(tile.rows() * (tile.columns() + 1)));
    let mut scratch = Shared::<[f32]>::new_slice(comptime!(tile.rows() * tile.side));
    let mut scores = Array::<f32>::new(comptime!(tile.down * tile.across));
    let mut online = Online::<N>::new(tile);

    let q_base = ((row * kv_heads + kv_head) * group + first_query) * pieces;
    load(q, &mut queries, q_base, pieces, group - first_query, pieces, scale, tile.rows(), tile);
    let x = UNIT_POS as usize % tile.side;
    let mut cell = u32::cast_from(first[row]) as usize;
    while cell < used {
        let mut seen = 0u32;
        #[unroll]
        for b in 0..tile.across {
            if cell + x + b * tile.side < used {
                #[unroll]
                for a in 0..tile.down {
                    seen |= comptime!(1u32 << (a * tile.across + b));
                }
            }
        }
        let base = ((row * capacity + cell) * kv_heads + kv_head) * pieces;
        let stride = kv_heads * pieces;
        load(keys, &mut others, base, stride, used - cell, pieces, 1.0f32, tile.columns(), tile);
        sync_cube();
        multiply(&queries, &others, &mut scores, pieces, tile);
        online.take(&mut scores, seen, &mut scratch, tile);
        share(&scores, &mut weights, tile);
        load(values, &mut others, base, stride, used - cell, pieces, 1.0f32, tile.columns(), tile);
        sync_cube();
        weigh(&weights, &others, &mut online.values, used - cell, tile);
        sync_cube();
        cell += tile.columns();
    }
    let mut total = online.total(&mut scratch, tile);
    #[unroll]
    for a in 0..tile.down {
        total[a] = 1.0f32 / total[a];
    }
    store(&online.values, &total, o, q_base, pieces, group - first_query, pieces, tile);
}
