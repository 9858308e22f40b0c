//! Rows as token ids. The mask of what is trained is explicit: it never follows from the ids, so a padding id that is
//! also the end-of-sequence id hides nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// An encoded dialogue.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encoded {
    /// Token ids.
    pub ids: Vec<u32>,
    /// For each id whether it is a target; of the same length.
    pub trained: Vec<bool>,
}

/// An encoded preference: all responses follow the same prompt ids.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncodedTriple {
    /// The row's id.
    pub row: String,
    /// Template of the prompt, up to where the response begins.
    pub prompt: Vec<u32>,
    /// `y_w`, end-of-sequence id included.
    pub chosen: Vec<u32>,
    /// `y_l`, end-of-sequence id included.
    pub rejected: Vec<u32>,
    /// `y_t`, end-of-sequence id included.
    pub toxic: Option<Vec<u32>>,
    /// The prompt with the control token appended to its last user turn, where a control token is in use.
    pub toxic_prompt: Option<Vec<u32>>,
}

/// Which responses of a dialogue are trained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mask {
    /// The last one.
    #[default]
    Last,
    /// All of them.
    EveryAssistantTurn,
}

/// What happens to rows of more than `max_length` tokens. A response is never cut: a cut one has no end, or a forged one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverLength {
    /// They are left out, and counted.
    #[default]
    Drop,
    /// The prompt loses tokens on the left, after the beginning-of-sequence id; a row whose response alone is too long
    /// is left out, and counted.
    TruncatePrompt,
    /// They are errors.
    Error,
}

/// What became of the rows given to an encoder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncodeReport {
    /// Rows encoded.
    pub encoded: usize,
    /// Rows left out, by reason.
    pub dropped: BTreeMap<String, usize>,
    /// The id of the first row left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_dropped: Option<String>,
    /// Rows whose prompt was cut.
    pub truncated: usize,
    /// Literal control tokens and markers in the rows' text that were made harmless.
    pub escaped: usize,
}

impl EncodeReport {
    /// Which rows were left out and why, and which was the first; `None` where none was.
    pub fn left_out(&self) -> Option<String> {
        left_out(&self.dropped, self.first_dropped.as_deref())
    }

    #[cfg(feature = "tokenizers")]
    pub(crate) fn add(&mut self, other: Self) {
        self.encoded += other.encoded;
        self.first_dropped = self.first_dropped.take().or(other.first_dropped);
        other.dropped.into_iter().for_each(|(reason, rows)| *self.dropped.entry(reason).or_default() += rows);
        self.truncated += other.truncated;
        self.escaped += other.escaped;
    }
}

/// "3 × an empty turn, 1 × no turns; the first is row `rows.jsonl:7`".
pub(crate) fn left_out(dropped: &BTreeMap<String, usize>, first: Option<&str>) -> Option<String> {
    let reasons: Vec<String> = dropped.iter().map(|(reason, rows)| format!("{rows} × {reason}")).collect();
    let first = first.map_or_else(String::new, |row| format!("; the first is row `{row}`"));
    (!reasons.is_empty()).then(|| reasons.join(", ") + &first)
}
