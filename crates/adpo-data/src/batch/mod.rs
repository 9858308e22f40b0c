//! One batch type, made for packing: one sequence per padded row is a special case of it, and so is a prompt that lies
//! there once, with all its responses behind it.

mod groups;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::encoded::Encoded;
use groups::{group, place};

/// Stands in cells that hold nothing. It may be any token's id: segments say what is padding, never ids.
const PADDING: u32 = 0;

/// Whose response a sequence holds.
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

/// A sequence of ids to lay out; whose it is, and what of it is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequence<'a> {
    /// Which example it belongs to, in the caller's numbering.
    pub example: usize,
    /// Whose response it holds.
    pub role: ResponseRole,
    /// Its ids.
    pub content: Content<'a>,
}

/// The ids of a sequence. Only what is never trained can be shared, so only a response has a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content<'a> {
    /// A dialogue with a mask of its own (a missing end of the mask counts as not trained).
    Dialogue(&'a Encoded),
    /// A response, all of it trained, after a prompt, none of it.
    Response {
        /// What every response that shares it sees.
        prompt: &'a [u32],
        /// What is trained.
        response: &'a [u32],
    },
}

impl<'a> Content<'a> {
    /// What may be shared, and what follows it.
    fn parts(self) -> (&'a [u32], &'a [u32]) {
        match self {
            Self::Dialogue(dialogue) => (&[], &dialogue.ids),
            Self::Response { prompt, response } => (prompt, response),
        }
    }

    /// Whether the i-th id behind the prompt is a target.
    fn trains(self, i: usize) -> bool {
        match self {
            Self::Dialogue(dialogue) => dialogue.trained.get(i) == Some(&true),
            Self::Response { .. } => true,
        }
    }

    /// How many tokens it has.
    pub fn tokens(self) -> usize {
        let (prompt, rest) = self.parts();
        prompt.len() + rest.len()
    }
}

/// How sequences become rows. Whichever it is, each token sees the same tokens at the same positions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Layout {
    /// Rows of at most this many cells (or as many as the longest sequence, with those it shares a prompt with, needs),
    /// several sequences in each. Without it: one sequence per row, or with `share_prompts` rows of 2048.
    pub packing: Option<usize>,
    /// Responses to equal prompts stand behind one copy of it.
    pub share_prompts: bool,
}

/// Sequences laid out in `rows` × `width` cells; `ids`, `positions`, `segments`, `branches` are row-major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Number of rows.
    pub rows: usize,
    /// Cells per row.
    pub width: usize,
    /// Token ids.
    pub ids: Vec<u32>,
    /// Place in its sequence, from 0: a response's go on from its prompt's.
    pub positions: Vec<u32>,
    /// 0: padding; else a number that a sequence shares with those that have the same prompt, and with no other.
    pub segments: Vec<u32>,
    /// Within a segment, 0: what all of it sees; else 1, 2, …, one for each response. A token attends up to itself to the
    /// cells of its own segment whose branch is 0 or its own.
    pub branches: Vec<u32>,
    /// Everything that is trained, sequence by sequence, each from left to right.
    pub targets: Vec<Target>,
    /// The sequences, in the order given.
    pub sequences: Vec<SequenceInfo>,
}

/// One token to predict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Flat index (row · width + column) of the cell whose hidden state predicts it: that of the token before it. The
    /// first tokens of all responses to a shared prompt have the prompt's last cell in common.
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
    /// How many tokens it has, its prompt's included.
    pub tokens: usize,
}

impl Batch {
    /// Lays sequences out.
    pub fn new(sequences: &[Sequence<'_>], layout: Layout) -> Self {
        let groups = group(sequences, layout.share_prompts);
        let (places, rows) = place(&groups, layout);
        let width = groups.iter().zip(&places).map(|(group, (_, column))| column + group.cells).max().unwrap_or(0);
        let mut batch = Self::blank(rows, width, sequences.len());
        let mut spots = vec![Spot::default(); sequences.len()];
        for (segment, (group, (row, column))) in groups.iter().zip(&places).enumerate() {
            let prompt = row * width + column;
            let mut response = prompt + group.prompt;
            for (branch, member) in group.members.iter().enumerate() {
                // A response has its branch even alone: a kernel that cuts its work at branches then rounds it the same anywhere.
                let branch = if let Content::Response { .. } = sequences[*member].content { branch as u32 + 1 } else { 0 };
                spots[*member] = Spot { segment: segment as u32 + 1, branch, prompt, response };
                response += sequences[*member].content.parts().1.len();
            }
        }
        for (sequence, spot) in sequences.iter().zip(spots) {
            batch.write(sequence, spot);
        }
        batch
    }

    fn blank(rows: usize, width: usize, sequences: usize) -> Self {
        let cells = rows * width;
        Self {
            rows,
            width,
            ids: vec![PADDING; cells],
            positions: vec![0; cells],
            segments: vec![0; cells],
            branches: vec![0; cells],
            targets: Vec::new(),
            sequences: Vec::with_capacity(sequences),
        }
    }

    fn write(&mut self, sequence: &Sequence<'_>, spot: Spot) {
        let Sequence { example, role, content } = *sequence;
        let (prompt, response) = content.parts();
        for (i, id) in prompt.iter().enumerate() {
            // Those that share it write the same.
            self.cell(spot.prompt + i, *id, i, spot.segment, 0);
        }
        let mut before = prompt.len().checked_sub(1).map(|last| spot.prompt + last);
        let first_target = self.targets.len();
        for (i, id) in response.iter().enumerate() {
            let at = spot.response + i;
            self.cell(at, *id, prompt.len() + i, spot.segment, spot.branch);
            if let Some(before) = before.filter(|_| content.trains(i)) {
                self.targets.push(Target { at: before as u32, token: *id, sequence: self.sequences.len() as u32 });
            }
            before = Some(at);
        }
        self.sequences.push(SequenceInfo { example, role, targets: self.targets.len() - first_target, tokens: content.tokens() });
    }

    fn cell(&mut self, at: usize, id: u32, position: usize, segment: u32, branch: u32) {
        (self.ids[at], self.positions[at]) = (id, position as u32);
        (self.segments[at], self.branches[at]) = (segment, branch);
    }
}

/// Where a sequence lies: the cells at which its prompt and its response begin.
#[derive(Debug, Clone, Copy, Default)]
struct Spot {
    segment: u32,
    branch: u32,
    prompt: usize,
    response: usize,
}
