//! The tiles of a cube and what is done with them: loaded, multiplied, turned into weights.
//!
//! The units of a cube form a square of `side`. A tile of scores has `down` rows and `across` columns per unit: unit (y, x) has the
//! rows y, y + side, … and the columns x, x + side, …, so that units side by side read shared memory side by side.
#![expect(clippy::trivially_copy_pass_by_ref, reason = "an array of registers has no four bytes")]

use cubecl::prelude::*;

use super::LANES;
use super::sight::Cells;

/// Memory that leaves room for two cubes on a multiprocessor of an H100.
pub(super) const MEMORY: usize = 110 * 1024;

/// What a kernel keeps in shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Pass {
    Forward,
    Cached,
    /// The backward pass that gives `dq`.
    Queries,
    /// The backward pass that gives `dk` and `dv`.
    Keys,
}

/// The shape of a cube's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Tile {
    /// Units along each side of the square.
    pub(super) side: usize,
    /// Rows of the scores per unit.
    pub(super) down: usize,
    /// Columns of the scores per unit.
    pub(super) across: usize,
    /// Vectors of a head per unit.
    pub(super) vectors: usize,
    /// Whether the rows are keys, else they are queries.
    by_key: bool,
}

impl Tile {
    /// The largest tile for heads of this size that fits into so many bytes of shared memory.
    pub(super) fn new(pass: Pass, dim: usize, memory: usize) -> Option<Self> {
        if !dim.is_multiple_of(LANES) {
            return None;
        }
        let sizes: &[[usize; 3]] = match pass {
            Pass::Forward => &[[16, 4, 4], [16, 4, 2], [16, 2, 2], [16, 1, 2], [16, 1, 1], [8, 1, 1]],
            // The queries of one row that share a key head: few.
            Pass::Cached => &[[16, 1, 4], [16, 1, 2], [16, 1, 1], [8, 1, 1]],
            Pass::Queries | Pass::Keys => &[[16, 4, 2], [16, 3, 2], [16, 2, 2], [16, 1, 2], [16, 1, 1], [8, 1, 1]],
        };
        let tile = |[side, down, across]: [usize; 3]| {
            let vectors = dim.div_ceil(LANES * side);
            Self { side, down, across, vectors, by_key: pass == Pass::Keys }
        };
        // More sums per unit than this would spill registers.
        let most = if pass == Pass::Keys { 6 } else { 8 };
        let light = |tile: &Self| tile.down * tile.vectors <= most;
        sizes.iter().map(|size| tile(*size)).find(|tile| light(tile) && tile.bytes(pass) <= memory.min(MEMORY))
    }

    fn bytes(self, pass: Pass) -> usize {
        let (rows, columns) = (self.rows(), self.columns());
        let (row, scores, integers) = (self.pitch() * LANES * 4, rows * (columns + 1) * 4, (columns * 4 + 1) * 4);
        let heads = match pass {
            // Queries, then keys and values in turn.
            Pass::Forward | Pass::Cached => (rows + columns) * row + rows * self.side * 4,
            // Queries and their gradients, then values and keys in turn.
            Pass::Queries => (2 * rows + columns) * row,
            // Keys, values; queries and their gradients.
            Pass::Keys => 2 * (rows + columns) * row,
        };
        heads + scores + integers
    }

    pub(super) fn units(self) -> u32 {
        (self.side * self.side) as u32
    }

    pub(super) fn rows(self) -> usize {
        self.side * self.down
    }

    pub(super) fn columns(self) -> usize {
        self.side * self.across
    }

    pub(super) fn queries(self) -> usize {
        if self.by_key { self.columns() } else { self.rows() }
    }

    pub(super) fn keys(self) -> usize {
        if self.by_key { self.rows() } else { self.columns() }
    }

    /// The scores of a unit.
    pub(super) fn cells(self) -> Cells {
        Cells { down: self.down, across: self.across, row_step: self.side, column_step: self.side }
    }

    /// Vectors from one row of a tile of heads to the next: odd, so that the rows begin in different banks.
    pub(super) fn pitch(self) -> usize {
        self.side * self.vectors + 1
    }
}

/// Loads `rows` heads, times `factor`: row r lies `stride · r` vectors from `base`, rows from `count` on are 0, and so is what lies
/// beyond a head's `pieces`.
#[cube]
pub(super) fn load<F: Float, N: Size>(
    from: &[Vector<F, N>],
    to: &mut [Vector<f32, N>],
    base: usize,
    stride: usize,
    count: usize,
    pieces: usize,
    factor: f32,
    #[comptime] rows: usize,
    #[comptime] tile: Tile,
) {
    let columns = comptime!(tile.side * tile.vectors);
    let pitch = comptime!(tile.pitch());
    let mut i = UNIT_POS as usize;
    while i < rows * columns {
        let (row, column) = (i / columns, i % columns);
        let mut value = Vector::<f32, N>::new(0.0f32);
        if row < count && column < pieces {
            value = Vector::<f32, N>::cast_from(from[base + row * stride + column]) * Vector::new(factor);
        }
        to[row * pitch + column] = value;
        i += tile.units() as usize;
    }
}

/// `scores` of a unit's rows of `left` with its rows of `right`, from the heads' first `pieces` vectors.
#[cube]
pub(super) fn multiply<N: Size>(
    left: &[Vector<f32, N>],
    right: &[Vector<f32, N>],
    scores: &mut Array<f32>,
    pieces: usize,
    #[comptime] tile: Tile,
) {
    let (y, x) = (UNIT_POS as usize / tile.side, UNIT_POS as usize % tile.side);
    let pitch = comptime!(tile.pitch());
    let mut mine = Array::<Vector<f32, N>>::new(tile.down);
    #[unroll]
    for i in 0..comptime!(tile.down * tile.across) {
        scores[i] = 0.0f32;
    }
    for piece in 0..pieces {
        #[unroll]
        for a in 0..tile.down {
            mine[a] = left[(y + a * tile.side) * pitch + piece];
        }
        #[unroll]
        for b in 0..tile.across {
            let other = right[(x + b * tile.side) * pitch + piece];
            #[unroll]
            for a in 0..tile.down {
                #[unroll]
                for lane in 0..LANES {
                    scores[a * tile.across + b] += mine[a].extract(lane) * other.extract(lane);
                }
            }
        }
    }
}

/// Adds to `sums`, a unit's rows by its vectors, the first `count` rows of `heads` times their `weights`, `rows × columns` of them.
#[cube]
pub(super) fn weigh<N: Size>(
    weights: &[f32],
    heads: &[Vector<f32, N>],
    sums: &mut Array<Vector<f32, N>>,
    count: usize,
    #[comptime] tile: Tile,
) {
    let (y, x) = (UNIT_POS as usize / tile.side, UNIT_POS as usize % tile.side);
    let pitch = comptime!(tile.pitch());
    let mut mine = Array::<f32>::new(tile.down);
    for column in 0..min(count, tile.columns()) {
        #[unroll]
        for a in 0..tile.down {
            mine[a] = weights[(y + a * tile.side) * (tile.columns() + 1) + column];
        }
        #[unroll]
        for c in 0..tile.vectors {
            let head = heads[column * pitch + x + c * tile.side];
            #[unroll]
            for a in 0..tile.down {
                sums[a * tile.vectors + c] += head * Vector::new(mine[a]);
            }
        }
    }
}

/// Hands a unit's numbers of a tile of scores to the others.
#[cube]
pub(super) fn share(scores: &Array<f32>, to: &mut [f32], #[comptime] tile: Tile) {
    let (y, x) = (UNIT_POS as usize / tile.side, UNIT_POS as usize % tile.side);
    #[unroll]
    for a in 0..tile.down {
        #[unroll]
        for b in 0..tile.across {
            to[(y + a * tile.side) * (tile.columns() + 1) + x + b * tile.side] = scores[a * tile.across + b];
        }
    }
}

/// Writes a unit's sums, times what `factor` has for each of its rows, where [`load`] would read them.
#[cube]
pub(super) fn store<F: Float, N: Size>(
    sums: &Array<Vector<f32, N>>,
    factor: &Array<f32>,
    to: &mut [Vector<F, N>],
    base: usize,
    stride: usize,
    count: usize,
    pieces: usize,
    #[comptime] tile: Tile,
) {
    let (y, x) = (UNIT_POS as usize / tile.side, UNIT_POS as usize % tile.side);
    #[unroll]
    for a in 0..tile.down {
        let row = y + a * tile.side;
        #[unroll]
        for c in 0..tile.vectors {
            let column = x + c * tile.side;
            if row < count && column < pieces {
                to[base + row * stride + column] = Vector::cast_from(sums[a * tile.vectors + c] * Vector::new(factor[a]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Pass, Tile};

    #[test]
    fn there_are_tiles_for_every_model_on_a_small_gpu_and_larger_ones_on_a_large_one() {
        for pass in [Pass::Forward, Pass::Cached, Pass::Queries, Pass::Keys] {
            for dim in [4, 8, 32, 64, 80, 96, 128] {
                let [small, large] = [32, 227].map(|kib| Tile::new(pass, dim, kib * 1024).expect("a tile"));
                assert!(small.bytes(pass) <= 32 * 1024 && large.units() <= 256, "{pass:?} {dim}");
                assert!(small.side * small.vectors * 4 >= dim && large.rows() * large.columns() >= small.rows() * small.columns());
                // A unit's view of its scores is 32 bits.
                assert!(large.down * large.across <= 32);
            }
            assert_eq!(Tile::new(pass, 6, 227 * 1024), None, "4 does not divide it");
        }
    }
}
