//! FlashAttention-2, algorithm 2, as two passes: one gives `dq` by tiles of queries, one `dk` and `dv` by tiles of keys. Both make
//! the scores again, so that no two cubes add to the same gradient.

use cubecl::prelude::*;

use super::sight::{anybody, is_seen, sight};
use super::tile::{Tile, load, multiply, share, store, weigh};

/// `D = Σ dO·O` of each query and head, `[rows, heads, width]`.
#[cube(launch)]
pub(super) fn along<F: Float, N: Size>(
    o: &[Vector<F, N>],
    grad: &[Vector<F, N>],
    along: &mut [f32],
    width: u32,
    heads: u32,
    pieces: u32,
    #[define(F)] _dtype: ElemType,
) {
    let (width, heads, pieces) = (width as usize, heads as usize, pieces as usize);
    let start = ABSOLUTE_POS * pieces;
    if start >= o.len() {
        terminate!();
    }
    let mut sum = 0.0f32;
    for piece in 0..pieces {
        let (o, grad) = (Vector::<f32, N>::cast_from(o[start + piece]), Vector::<f32, N>::cast_from(grad[start + piece]));
        sum += (o * grad).vector_sum();
    }
    let (cell, head) = (ABSOLUTE_POS / heads, ABSOLUTE_POS % heads);
    along[(cell / width * heads + head) * width + cell % width] = sum;
}

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
    pieces: u32,
    scale: f32,
    #[comptime] tile: Tile,
    #[define(F, I)] _dtypes: [ElemType; 2],
) {
    let (width, pieces, heads) = (width as usize, pieces as usize, CUBE_COUNT_Y as usize);
    let (head, row, kv_heads) = (CUBE_POS_Y as usize, CUBE_POS_Z as usize, CUBE_COUNT_Y as usize / group as usize);
    let first_query = (width.div_ceil(tile.rows()) - 1 - CUBE_POS_X as usize) * tile.rows();
    let mut queries = Shared::<[Vector<f32, N>]>::new_slice(comptime!(tile.rows() * tile.pitch()));
    let mut grads = Shared::<[Vector<f32, N>]>::new_slice(comptime!(tile.rows() * tile.pitch()));
    let mut others = Shared::<[Vector<f32, N>]>::new_slice(comptime!(tile.columns() * tile.pitch()));
    let mut slopes = Shared::<[f32]>::new_slice(comptime!(tile.rows() * (tile.columns() + 1)));
    let mut flag = Shared::<[u32]>::new_slice(1usize);
    let mut scores = Array::<f32>::new(comptime!(tile.down * tile.across));
    let mut d_weights = Array::<f32>::new(comptime!(tile.down * tile.across));
    let mut sums = Array::<Vector<f32, N>>::new(comptime!(tile.down * tile.vectors));
    let mut ends = Array::<f32>::new(tile.down);
    let mut means = Array::<f32>::new(tile.down);
    let mut factor = Array::<f32>::new(tile.down);

    #[unroll]
    for i in 0..comptime!(tile.down * tile.vectors) {
        sums[i] = Vector::new(0.0f32);
    }
    let (y, x) = (UNIT_POS as usize / tile.side, UNIT_POS as usize % tile.side);
    #[unroll]
    for a in 0..tile.down {
        let query = first_query + y + a * tile.side;
        ends[a] = 0.0f32;
        means[a] = 0.0f32;
        factor[a] = scale;
        if query < width {
            ends[a] = lse[(row * heads + head) * width + query];
            means[a] = along[(row * heads + head) * width + query];
        }
    }
    let (q_base, q_stride) = (((row * width + first_query) * heads + head) * pieces, heads * pieces);
    load(q, &mut queries, q_base, q_stride, width - first_query, pieces, scale, tile.rows(), tile);
    load(grad, &mut grads, q_base, q_stride, width - first_query, pieces, 1.0f32, tile.rows(), tile);
    let end = min(width, first_query + tile.rows());
    let mut first_key = 0usize;
    while first_key < end {
        let seen = sight(segments, branches, row * width, width, first_query + y, first_key + x, false, tile.cells());
        if anybody(seen, &mut flag) {
            let base = ((row * width + first_key) * kv_heads + head / group as usize) * pieces;
            let (stride, count) = (kv_heads * pieces, width - first_key);
            load(v, &mut others, base, stride, count, pieces, 1.0f32, tile.columns(), tile);
            sync_cube();
            multiply(&grads, &others, &mut d_weights, pieces, tile);
            sync_cube();
            load(k, &mut others, base, stride, count, pieces, 1.0f32, tile.columns(), tile);
            sync_cube();
            multiply(&queries, &others, &mut scores, pieces, tile);
            #[unroll]
            for a in 0..tile.down {
                #[unroll]
                for b in 0..tile.across {
                    let i = comptime!(a * tile.across + b);
                    let mut slope = 0.0f32;
                    if is_seen(seen, i) {
                        slope = (scores[i] - ends[a]).exp() * (d_weights[i] - means[a]);
                    }
                    scores[i] = slope;
                }
            }
            share(&scores, &mut slopes, tile);
            sync_cube();
            weigh(&slopes, &others, &mut sums, count, tile);
            sync_cube();
        }
        first_key += tile.columns();
    }
    store(&sums, &factor, dq, q_base, q_stride, width - first_query, pieces, tile);
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
    pieces: u32,
    scale: f32,
    #[comptime] tile: Tile,
    #[define(F, I)] _dtypes: [ElemType; 2],
) {
    let (width, pieces, group, kv_heads) = (width as usize, pieces as usize, group as usize, CUBE_COUNT_Y as usize);
    let (kv_head, row, heads) = (CUBE_POS_Y as usize, CUBE_POS_Z as usize, CUBE_COUNT_Y as usize * group);
    let first_key = CUBE_POS_X as usize * tile.rows();
    let mut keys = Shared::<[Vector<f32, N>]>::new_slice(comptime!(tile.rows() * tile.pitch()));
    let mut values = Shared::<[Vector<f32, N>]>::new_slice(comptime!(tile.rows() * tile.pitch()));
    let mut queries = Shared::<[Vector<f32, N>]>::new_slice(comptime!(tile.columns() * tile.pitch()));
    let mut grads = Shared::<[Vector<f32, N>]>::new_slice(comptime!(tile.columns() * tile.pitch()));
    let mut shared = Shared::<[f32]>::new_slice(comptime!(tile.rows() * (tile.columns() + 1)));
    let mut flag = Shared::<[u32]>::new_slice(1usize);
    let mut scores = Array::<f32>::new(comptime!(tile.down * tile.across));
    let mut slopes = Array::<f32>::new(comptime!(tile.down * tile.across));
    let mut key_sums = Array::<Vector<f32, N>>::new(comptime!(tile.down * tile.vectors));
    let mut value_sums = Array::<Vector<f32, N>>::new(comptime!(tile.down * tile.vectors));
    let mut factor = Array::<f32>::new(tile.down);

    #[unroll]
    for i in 0..comptime!(tile.down * tile.vectors) {
        key_sums[i] = Vector::new(0.0f32);
        value_sums[i] = Vector::new(0.0f32);
    }
    #[unroll]
    for a in 0..tile.down {
        factor[a] = 1.0f32;
    }
    let (base, stride, count) = (((row * width + first_key) * kv_heads + kv_head) * pieces, kv_heads * pieces, width - first_key);
    load(k, &mut keys, base, stride, count, pieces, 1.0f32, tile.rows(), tile);
    load(v, &mut values, base, stride, count, pieces, 1.0f32, tile.rows(), tile);
    let (y, x) = (UNIT_POS as usize / tile.side, UNIT_POS as usize % tile.side);
    // The tile that holds the first key is the first that has a query at or after it.
    let mut first_query = first_key / tile.columns() * tile.columns();
    while first_query < width {
        let seen = sight(segments, branches, row * width, width, first_key + y, first_query + x, true, tile.cells());
        if anybody(seen, &mut flag) {
            for member in 0..group {
                let head = kv_head * group + member;
                let q_base = ((row * width + first_query) * heads + head) * pieces;
                let (q_stride, q_count) = (heads * pieces, width - first_query);
                load(q, &mut queries, q_base, q_stride, q_count, pieces, scale, tile.columns(), tile);
                load(grad, &mut grads, q_base, q_stride, q_count, pieces, 1.0f32, tile.columns(), tile);
                sync_cube();
                multiply(&keys, &queries, &mut scores, pieces, tile);
                multiply(&values, &grads, &mut slopes, pieces, tile);
                #[unroll]
                for b in 0..tile.across {
                    let query = first_query + x + b * tile.side;
                    let mut end = 0.0f32;
                    let mut mean = 0.0f32;
                    if query < width {
                        end = lse[(row * heads + head) * width + query];
                        mean = along[(row * heads + head) * width + query];
                    }
                    #[unroll]
                    for a in 0..tile.down {
                        let i = comptime!(a * tile.across + b);
                        let mut weight = 0.0f32;
                        if is_seen(seen, i) {
                            weight = (scores[i] - end).exp();
                        }
                        scores[i] = weight;
                        slopes[i] = weight * (slopes[i] - mean);
                    }
                }
                share(&scores, &mut shared, tile);
                sync_cube();
                weigh(&shared, &grads, &mut value_sums, q_count, tile);
                sync_cube();
                share(&slopes, &mut shared, tile);
                sync_cube();
                weigh(&shared, &queries, &mut key_sums, q_count, tile);
                sync_cube();
            }
        }
        first_query += tile.columns();
    }
    store(&value_sums, &factor, dv, base, stride, count, pieces, tile);
    store(&key_sums, &factor, dk, base, stride, count, pieces, tile);
}
