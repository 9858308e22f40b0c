//! What the queries of a row see, worked out once for all heads.

use std::collections::HashMap;
use std::ops::Range;

use rayon::prelude::*;

use super::{KEYS, QUERIES};
use crate::kernels::cpu::{CpuTensor, ids};

/// Segment and branch.
type Kind = (usize, usize);

/// Up to [`QUERIES`] neighbours of one segment and branch, and all keys that they see.
pub(super) struct Block {
    pub queries: Range<usize>,
    /// At most [`KEYS`] each; of such a part, query q sees the keys up to itself.
    pub keys: Vec<Range<usize>>,
}

impl Block {
    /// How many of a part's keys query q sees.
    pub(super) fn seen(q: usize, keys: &Range<usize>) -> usize {
        (q + 1).clamp(keys.start, keys.end) - keys.start
    }
}

/// The blocks of each row, from left to right.
pub(super) fn blocks_of_rows(segments: &CpuTensor, branches: &CpuTensor, width: usize) -> Vec<Vec<Block>> {
    let (segments, branches) = (ids(segments), ids(branches));
    let rows = segments.par_chunks(width.max(1)).zip(branches.par_chunks(width.max(1)));
    rows.map(|(segments, branches)| blocks(&segments.iter().copied().zip(branches.iter().copied()).collect::<Vec<_>>())).collect()
}

/// No block and no part of keys holds two kinds. So nothing is multiplied only to be masked but the triangle beyond the
/// diagonal, and what a response gives depends, to the last bit, on its prompt and itself alone, whatever else is in the row.
fn blocks(kinds: &[Kind]) -> Vec<Block> {
    let (mut blocks, mut end) = (Vec::new(), 0);
    // Of the cells so far, where each kind lies.
    let mut so_far: HashMap<Kind, Vec<Range<usize>>> = HashMap::new();
    for run in kinds.chunk_by(|a, b| a == b) {
        let (own, prompt) = (run[0], (run[0].0, 0));
        let cells = end..end + run.len();
        end = cells.end;
        so_far.entry(own).or_default().push(cells.clone());
        let mut seen: Vec<Range<usize>> = so_far.get(&prompt).cloned().unwrap_or_default();
        if own != prompt {
            seen.extend(so_far[&own].iter().cloned());
        }
        blocks.extend(parts(cells, QUERIES).map(|queries| {
            let keys = seen.iter().flat_map(|range| parts(range.start..range.end.min(queries.end), KEYS)).collect();
            Block { queries, keys }
        }));
    }
    blocks
}

fn parts(range: Range<usize>, longest: usize) -> impl Iterator<Item = Range<usize>> {
    range.clone().step_by(longest).map(move |start| start..range.end.min(start + longest))
}
