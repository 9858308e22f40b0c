//! The file of heads: a JSON header line, then their weights, then the hashes of the training rows.

use serde::{Deserialize, Serialize};

use super::SentenceEncoder;
use super::features::{self, EncodedExchange};
use crate::embedded::head::{Head, Table};
use crate::error::EvalError;
use crate::judge::{Thresholds, ToxicityHeads};

/// Raised whenever the meaning of the file or of a feature changes.
const FORMAT: u32 = 1;

/// The sentence by which an encoder is recognised.
const PROBE: &str = "How long does the paint on a garden fence take to dry?";

/// The least cosine of two embeddings of [`PROBE`] by one encoder: half precision leaves .9999, another model less than .5.
const SAME: f32 = 0.999;

/// Heads over the embeddings of one encoder.
#[derive(Debug, Clone)]
pub(crate) struct EncoderHeads {
    pub(crate) name: String,
    pub(crate) thresholds: Thresholds,
    /// How the encoder embeds [`PROBE`].
    pub(crate) probe: Vec<f32>,
    pub(crate) heads: ResponseHeads,
    pub(crate) coherence: Head,
    /// Content hashes of the split keys of all training rows, ascending.
    pub(crate) rows: Vec<u64>,
}

/// The heads that learn from labelled responses.
#[derive(Debug, Clone)]
pub(crate) struct ResponseHeads {
    pub(crate) abuse: Head,
    pub(crate) context: Head,
    pub(crate) harm: Head,
    pub(crate) evasiveness: Head,
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    name: String,
    thresholds: Thresholds,
    probe: Vec<f32>,
    heads: Vec<HeadHeader>,
    rows: usize,
}

#[derive(Serialize, Deserialize)]
struct HeadHeader {
    name: String,
    weights: usize,
    bias: f32,
    calibration: (f32, f32),
}

/// The heads, and how many weights each has for one number of an embedding.
const HEADS: [(&str, usize); 5] = [("abuse", 1), ("context", 4), ("harm", 4), ("evasiveness", 4), ("coherence", 4)];

impl ResponseHeads {
    /// L, D and H. Without anything to answer there is no context to be unsafe in.
    pub(crate) fn toxicity(&self, seen: &EncodedExchange, harmful: bool) -> ToxicityHeads {
        let pair = features::pair(seen);
        ToxicityHeads {
            abuse: self.abuse.probability(&features::response(seen)),
            context: if seen.answers { self.context.probability(&pair) } else { 0.0 },
            harm: if harmful { self.harm.probability(&pair) } else { 0.0 },
        }
    }

    pub(crate) fn evasiveness(&self, seen: &EncodedExchange) -> f64 {
        self.evasiveness.probability(&features::pair(seen))
    }
}

impl EncoderHeads {
    pub(crate) fn coherence(&self, seen: &EncodedExchange) -> f64 {
        self.coherence.probability(&features::pair(seen))
    }

    /// How `encoder` embeds the sentence that heads remember.
    pub(crate) fn probe(encoder: &dyn SentenceEncoder) -> Result<Vec<f32>, EvalError> {
        Ok(encoder.embed(&[PROBE])?.concat())
    }

    /// Whether `encoder` is the one that the heads learnt with.
    pub(super) fn check_encoder(&self, encoder: &dyn SentenceEncoder) -> Result<(), EvalError> {
        let found = Self::probe(encoder)?;
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let cosine = dot(&found, &self.probe) / (dot(&found, &found) * dot(&self.probe, &self.probe)).sqrt();
        if found.len() == self.probe.len() && cosine >= SAME {
            return Ok(());
        }
        let reason = format!("the heads belong to another encoder than {}: the cosine of a known sentence is {cosine:.3}", encoder.name());
        Err(EvalError::Weights { name: self.name.clone(), reason })
    }

    fn all_heads(&self) -> [&Head; HEADS.len()] {
        let ResponseHeads { abuse, context, harm, evasiveness } = &self.heads;
        [abuse, context, harm, evasiveness, &self.coherence]
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let named = HEADS.iter().zip(self.all_heads());
        let header = Header {
            format: FORMAT,
            name: self.name.clone(),
            thresholds: self.thresholds,
            probe: self.probe.clone(),
            heads: named
                .map(|((name, _), head)| HeadHeader {
                    name: (*name).to_owned(),
                    weights: head.dense.len(),
                    bias: head.bias,
                    calibration: head.calibration,
                })
                .collect(),
            rows: self.rows.len(),
        };
        // A header of plain lists and numbers always serialises.
        let mut out = serde_json::to_vec(&header).unwrap_or_default();
        out.push(b'\n');
        for head in self.all_heads() {
            out.extend(head.dense.iter().flat_map(|weight| weight.to_le_bytes()));
        }
        out.extend(self.rows.iter().flat_map(|row| row.to_le_bytes()));
        out
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, EvalError> {
        let bad = |reason: String| EvalError::Weights { name: "file of heads".to_owned(), reason };
        let end = bytes.iter().position(|&b| b == b'\n').ok_or_else(|| bad("there is no header line".to_owned()))?;
        let header: Header = serde_json::from_slice(&bytes[..end]).map_err(|error| bad(format!("the header is not readable: {error}")))?;
        let bad = |reason: String| EvalError::Weights { name: header.name.clone(), reason };
        if header.format != FORMAT {
            return Err(bad(format!("format {} where this version reads {FORMAT}", header.format)));
        }
        let mut rest = &bytes[end + 1..];
        let mut take = |numbers: usize, width: usize, what: &str| -> Result<&[u8], EvalError> {
            let taken = numbers.checked_mul(width).and_then(|n| rest.split_at_checked(n));
            let (taken, left) = taken.ok_or_else(|| bad(format!("cut off inside {what}")))?;
            rest = left;
            Ok(taken)
        };
        let mut heads = Vec::new();
        for (found, (name, share)) in header.heads.iter().zip(HEADS) {
            let expected = share * header.probe.len();
            if found.name != name || found.weights != expected {
                return Err(bad(format!("{} with {} weights where {name} with {expected} belongs", found.name, found.weights)));
            }
            let dense: Vec<f32> = take(found.weights, 4, name)?.as_chunks().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect();
            let (slope, offset) = found.calibration;
            if ![found.bias, slope, offset].iter().chain(&dense).all(|x| x.is_finite()) {
                return Err(bad(format!("a number of {name} is not finite")));
            }
            heads.push(Head { table: Table::quantise(&[]), dense, bias: found.bias, calibration: found.calibration });
        }
        let rows = take(header.rows, 8, "row hashes")?.as_chunks().0.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect();
        if !rest.is_empty() {
            return Err(bad(format!("{} bytes too many at the end", rest.len())));
        }
        let heads: [Head; HEADS.len()] = heads.try_into().map_err(|_| bad("a head is missing".to_owned()))?;
        let [abuse, context, harm, evasiveness, coherence] = heads;
        let Header { name, thresholds, probe, .. } = header;
        Ok(Self { name, thresholds, probe, heads: ResponseHeads { abuse, context, harm, evasiveness }, coherence, rows })
    }
}
