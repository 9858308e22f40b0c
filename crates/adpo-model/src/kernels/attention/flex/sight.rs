//! What each query of a row sees, worked out once for all heads.

use std::ops::Range;

use rayon::prelude::*;

use crate::kernels::cpu::{CpuTensor, ids, vectorised};

/// One row's mask.
pub(super) struct Sight {
    segments: Vec<u32>,
    branches: Vec<u32>,
    /// The first cell that each query sees.
    first: Vec<usize>,
    /// Whether it sees all cells from there to itself.
    dense: Vec<bool>,
}

impl Sight {
    /// One per row.
    pub(super) fn of_rows(segments: &CpuTensor, branches: &CpuTensor, width: usize) -> Vec<Self> {
        let narrow = |tensor| ids(tensor).into_iter().map(|id| id as u32).collect::<Vec<_>>();
        let (segments, branches) = (narrow(segments), narrow(branches));
        segments.par_chunks(width.max(1)).zip(branches.par_chunks(width.max(1))).map(|(s, b)| Self::new(s, b)).collect()
    }

    fn new(segments: &[u32], branches: &[u32]) -> Self {
        let mut sight = Self { segments: segments.to_vec(), branches: branches.to_vec(), first: Vec::new(), dense: Vec::new() };
        for q in 0..segments.len() {
            // It sees itself, whatever else.
            let first = (0..q).find(|k| sight.sees(q, *k)).unwrap_or(q);
            // A row of the same kind as the one before is dense if that was.
            let same = q > 0 && (segments[q], branches[q]) == (segments[q - 1], branches[q - 1]) && sight.first[q - 1] == first;
            let dense = if same { sight.dense[q - 1] } else { (first..q).all(|k| sight.sees(q, k)) };
            sight.first.push(first);
            sight.dense.push(dense);
        }
        sight
    }

    /// For k ≤ q.
    fn sees(&self, q: usize, k: usize) -> bool {
        self.segments[k] == self.segments[q] && (self.branches[k] == 0 || self.branches[k] == self.branches[q])
    }

    /// The keys that some of these queries see lie in this range.
    pub(super) fn keys(&self, queries: Range<usize>) -> Range<usize> {
        let first = self.first[queries.clone()].iter().min().copied().unwrap_or(queries.end);
        first..queries.end
    }

    /// Which of the keys `start..end` query q sees: a part of the block, counted from `start`.
    pub(super) fn part(&self, q: usize, keys: &Range<usize>) -> Range<usize> {
        let (from, to) = (self.first[q].max(keys.start), (q + 1).min(keys.end));
        if from < to { from - keys.start..to - keys.start } else { 0..0 }
    }

    /// Writes `hidden` over the values of cells within a [`Sight::part`] that q does not see after all.
    pub(super) fn hide(&self, q: usize, first_key: usize, values: &mut [f32], hidden: f32) {
        if self.dense[q] {
            return;
        }
        hide(values, &self.segments[first_key..], &self.branches[first_key..], self.segments[q], self.branches[q], hidden);
    }
}

vectorised! {
    #[expect(clippy::needless_bitwise_bool, reason = "without branches the loop becomes vectors")]
    fn hide(values: &mut [f32], segments: &[u32], branches: &[u32], segment: u32, branch: u32, hidden: f32) {
        for (value, (s, b)) in values.iter_mut().zip(segments.iter().zip(branches)) {
            let seen = (*s == segment) & ((*b == 0) | (*b == branch));
            *value = if seen { *value } else { hidden };
        }
    }
}
