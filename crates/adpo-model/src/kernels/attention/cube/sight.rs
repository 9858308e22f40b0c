//! Who sees whom, for the scores that a unit has of a tile.

use cubecl::prelude::*;

/// A unit's scores: `down` rows by `across` columns, so many rows and columns apart; 32 of them at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Cells {
    pub(super) down: usize,
    pub(super) across: usize,
    pub(super) row_step: usize,
    pub(super) column_step: usize,
}

/// Which of a unit's scores count, as bits: cell q sees cell k of its row iff k ≤ q, both are of one segment, and k's branch is 0
/// or q's own. The unit's first score is that of the query, or with `by_key` of the key, `row`, and of the other one, `column`.
#[cube]
pub(super) fn sight<I: Int>(
    segments: &[I],
    branches: &[I],
    row_start: usize,
    width: usize,
    row: usize,
    column: usize,
    #[comptime] by_key: bool,
    #[comptime] cells: Cells,
) -> u32 {
    let mut column_segments = Array::<I>::new(cells.across);
    let mut column_branches = Array::<I>::new(cells.across);
    #[unroll]
    for b in 0..cells.across {
        let cell = row_start + min(column + b * cells.column_step, width - 1);
        column_segments[b] = segments[cell];
        column_branches[b] = branches[cell];
    }
    let mut seen = 0u32;
    #[unroll]
    for a in 0..cells.down {
        let row = row + a * cells.row_step;
        let cell = row_start + min(row, width - 1);
        let (segment, branch) = (segments[cell], branches[cell]);
        #[unroll]
        for b in 0..cells.across {
            let column = column + b * cells.column_step;
            let (key, query) = if comptime!(by_key) { (row, column) } else { (column, row) };
            let key_branch = if comptime!(by_key) { branch } else { column_branches[b] };
            let one_branch = key_branch == I::from_int(0) || branch == column_branches[b];
            if query < width && key <= query && segment == column_segments[b] && one_branch {
                seen |= comptime!(1u32 << (a * cells.across + b));
            }
        }
    }
    seen
}

#[cube]
pub(super) fn is_seen(seen: u32, i: usize) -> bool {
    (seen >> i as u32) & 1 != 0
}

/// Whether any unit of the cube sees anything; `flag` is scratch. All units have met here before any of them goes on.
#[cube]
pub(super) fn anybody(seen: u32, flag: &mut [u32]) -> bool {
    if UNIT_POS == 0 {
        flag[0] = 0;
    }
    sync_cube();
    if seen != 0 {
        flag[0] = 1;
    }
    sync_cube();
    flag[0] != 0
}
