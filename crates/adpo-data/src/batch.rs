//! One batch type, made for packing; one sequence per padded row is a special case of it.

use serde::{Deserialize, Serialize};

/// Stands in cells that hold nothing. It may be any token's id: segments say what is padding, never ids.
const PADDING: u32 = 0;

/// Whose answer a sequence holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseRole {
    /// A dialogue to fine-tune on.
    Sft,
    /// `y_w`.
    Chosen,
    /// `y_l`.
    Rejected,
    /// `y_t`.
    Toxic,
}

/// Ids that belong together: a prompt and an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// Which example it belongs to, in the caller's numbering.
    pub example: usize,
    /// Whose answer it holds.
    pub role: ResponseRole,
    /// Token ids.
    pub ids: Vec<u32>,
    /// For each id whether it is a target; of the same length (a missing end counts as not trained).
    pub trained: Vec<bool>,
}

/// Sequences laid out in `rows` × `width` cells; `ids`, `positions`, `segments` are row-major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Number of rows.
    pub rows: usize,
    /// Cells per row.
    pub width: usize,
    /// Token ids.
    pub ids: Vec<u32>,
    /// Place in its sequence, from 0.
    pub positions: Vec<u32>,
    /// 0: padding; else 1 + index in `sequences`. A token attends to its own segment, up to itself.
    pub segments: Vec<u32>,
    /// Everything that is trained, sequence by sequence, each from left to right.
    pub targets: Vec<Target>,
    /// The sequences, in the order given.
    pub sequences: Vec<SequenceInfo>,
}

/// One token to predict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Flat index (row · width + column) of the cell whose hidden state predicts it: the one before it.
    pub at: u32,
    /// The token's id.
    pub token: u32,
    /// Index in [`Batch::sequences`].
    pub sequence: u32,
}

/// What a sequence of a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SequenceInfo {
    /// [`Sequence::example`].
    pub example: usize,
    /// [`Sequence::role`].
    pub role: ResponseRole,
    /// How many of its tokens are trained. Its first token never is: nothing precedes it.
    pub targets: usize,
    /// How many tokens it has.
    pub tokens: usize,
}

impl Batch {
    /// One row per sequence, padded on the right to the longest.
    pub fn padded(sequences: &[Sequence]) -> Self {
        let places = (0..sequences.len()).map(|row| (row, 0));
        Self::lay_out(sequences, places, sequences.len())
    }

    /// Several sequences per row of at most `width` cells (or as many as the longest sequence needs, where that is
    /// more): each goes into the first row that has room left. The width is that of the fullest row.
    pub fn packed(sequences: &[Sequence], width: usize) -> Self {
        let width = sequences.iter().map(|sequence| sequence.ids.len()).fold(width, usize::max);
        let mut filled: Vec<usize> = Vec::new();
        let places: Vec<(usize, usize)> = sequences
            .iter()
            .map(|sequence| {
                let length = sequence.ids.len();
                let row = filled.iter().position(|used| used + length <= width).unwrap_or_else(|| {
                    filled.push(0);
                    filled.len() - 1
                });
                let column = filled[row];
                filled[row] += length;
                (row, column)
            })
            .collect();
        Self::lay_out(sequences, places.into_iter(), filled.len())
    }

    /// Writes each sequence at its (row, column).
    fn lay_out(sequences: &[Sequence], places: impl Iterator<Item = (usize, usize)> + Clone, rows: usize) -> Self {
        let width = sequences.iter().zip(places.clone()).map(|(sequence, (_, column))| column + sequence.ids.len()).max().unwrap_or(0);
        let cells = rows * width;
        let mut batch = Self {
            rows,
            width,
            ids: vec![PADDING; cells],
            positions: vec![0; cells],
            segments: vec![0; cells],
            targets: Vec::new(),
            sequences: Vec::with_capacity(sequences.len()),
        };
        for (index, (sequence, (row, column))) in sequences.iter().zip(places).enumerate() {
            let start = row * width + column;
            let before = batch.targets.len();
            for (i, id) in sequence.ids.iter().enumerate() {
                batch.ids[start + i] = *id;
                batch.positions[start + i] = i as u32;
                batch.segments[start + i] = index as u32 + 1;
                if i > 0 && sequence.trained.get(i) == Some(&true) {
                    batch.targets.push(Target { at: (start + i - 1) as u32, token: *id, sequence: index as u32 });
                }
            }
            let (example, role) = (sequence.example, sequence.role);
            batch.sequences.push(SequenceInfo { example, role, targets: batch.targets.len() - before, tokens: sequence.ids.len() });
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EOS: u32 = 2;

    fn sequence(example: usize, ids: &[u32], trained_from: usize) -> Sequence {
        let trained = (0..ids.len()).map(|i| i >= trained_from).collect();
        Sequence { example, role: ResponseRole::Sft, ids: ids.to_vec(), trained }
    }

    /// (predicting position, token) of every target of a sequence, read back from the cells alone.
    fn targets(batch: &Batch, sequence: usize) -> Vec<(u32, u32)> {
        let own = batch.targets.iter().filter(|target| target.sequence as usize == sequence);
        own.map(|target| {
            let at = target.at as usize;
            assert_eq!(batch.segments[at] as usize, sequence + 1, "a target is predicted inside its own segment");
            assert_eq!(batch.ids[at + 1], target.token);
            (batch.positions[at], target.token)
        })
        .collect()
    }

    #[test]
    fn a_padding_id_that_is_the_end_of_sequence_hides_no_target() {
        // The padding id is 0; here 0 is also a real token and the end of sequence.
        let batch = Batch::padded(&[sequence(0, &[1, 5, 6, 0], 2), sequence(1, &[1, 0], 1)]);
        assert_eq!(batch.ids, [1, 5, 6, 0, 1, 0, 0, 0]);
        assert_eq!(batch.segments, [1, 1, 1, 1, 2, 2, 0, 0]);
        assert_eq!(targets(&batch, 0), [(1, 6), (2, 0)]);
        assert_eq!(targets(&batch, 1), [(0, 0)]);
    }

    #[test]
    fn the_prompt_is_no_target_and_the_last_id_is() {
        let batch = Batch::padded(&[sequence(3, &[1, 7, 8, 9, EOS], 3)]);
        assert_eq!(targets(&batch, 0), [(2, 9), (3, EOS)]);
        assert_eq!(batch.sequences, [SequenceInfo { example: 3, role: ResponseRole::Sft, targets: 2, tokens: 5 }]);
    }

    #[test]
    fn packing_fills_the_first_row_with_room() {
        let lengths = [3_usize, 4, 2, 1, 6];
        let sequences: Vec<Sequence> = lengths.iter().enumerate().map(|(i, n)| sequence(i, &vec![9; *n], 1)).collect();
        let batch = Batch::packed(&sequences, 6);
        assert_eq!((batch.rows, batch.width), (3, 6));
        assert_eq!(batch.segments, [1, 1, 1, 3, 3, 4, 2, 2, 2, 2, 0, 0, 5, 5, 5, 5, 5, 5]);
        assert_eq!(batch.positions, [0, 1, 2, 0, 1, 0, 0, 1, 2, 3, 0, 0, 0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_sequence_longer_than_the_width_gets_the_width_it_needs() {
        let batch = Batch::packed(&[sequence(0, &[1; 9], 1), sequence(1, &[1; 2], 1)], 4);
        assert_eq!((batch.rows, batch.width), (2, 9));
    }

    #[test]
    fn no_sequences_make_an_empty_batch() {
        for batch in [Batch::padded(&[]), Batch::packed(&[], 8)] {
            assert_eq!((batch.rows, batch.width, batch.ids.len(), batch.targets.len()), (0, 0, 0, 0));
        }
    }

    proptest! {
        #[test]
        fn packed_and_padded_hold_the_same_targets(
            rows in prop::collection::vec((prop::collection::vec(0_u32..50, 1..12), 0_usize..12), 0..10),
            width in 1_usize..30,
        ) {
            let sequences: Vec<Sequence> = rows.iter().enumerate().map(|(i, (ids, from))| sequence(i, ids, *from)).collect();
            let (padded, packed) = (Batch::padded(&sequences), Batch::packed(&sequences, width));
            prop_assert_eq!(&padded.sequences, &packed.sequences);
            prop_assert!(packed.rows <= padded.rows);
            for (i, sequence) in sequences.iter().enumerate() {
                let found = targets(&packed, i);
                prop_assert_eq!(&found, &targets(&padded, i));
                let expected: Vec<(u32, u32)> = (1..sequence.ids.len()).filter(|t| sequence.trained[*t]).map(|t| (t as u32 - 1, sequence.ids[t])).collect();
                prop_assert_eq!(found, expected);
            }
            for batch in [&padded, &packed] {
                let used = batch.segments.iter().filter(|segment| **segment > 0).count();
                prop_assert_eq!(used, sequences.iter().map(|s| s.ids.len()).sum::<usize>());
            }
        }
    }
}
