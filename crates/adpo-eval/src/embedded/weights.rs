//! The weight file: a JSON header line, then the tables' bytes, then the hashes of the training rows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::dual::{Dual, WIDTH};
use super::features::bits;
use super::head::{CLASSES, Head, KINDS, Multinomial, ROUTES, Table};
use crate::error::EvalError;
use crate::judge::Thresholds;

/// Raised whenever the meaning of the file or of a feature changes.
const FORMAT: u32 = 4;

/// Everything that one embedded judge knows.
#[derive(Debug, Clone)]
pub(crate) struct WeightSet {
    pub(crate) name: String,
    /// Split buckets that it learnt from.
    pub(crate) buckets: Vec<u8>,
    pub(crate) thresholds: Thresholds,
    pub(crate) heads: Heads,
    pub(crate) surface: Head,
    /// The margin of `surface` below which words stand in no order.
    pub(crate) word_order: f32,
    /// Whether the response is sound text, whatever was asked.
    pub(crate) fluency: Head,
    /// Whether it belongs to what was said.
    pub(crate) relevance: Head,
    /// The probability that both make, from their product.
    pub(crate) coherence: Head,
    pub(crate) dual: Dual,
    pub(crate) rarity: Table,
    /// How much likelier a pair of words is across a request and its response than across strangers.
    pub(crate) pairs: Table,
    /// Content hashes of the split keys of all training rows, ascending.
    pub(crate) rows: Vec<u64>,
}

/// The heads that learn from labelled responses.
#[derive(Debug, Clone)]
pub(crate) struct Heads {
    pub(crate) abuse: Head,
    pub(crate) router: Multinomial<ROUTES>,
    pub(crate) context: Head,
    pub(crate) harm: Head,
    pub(crate) evasiveness: Head,
    /// How an evasive response evades: refusal, partial, deflection.
    pub(crate) kinds: Multinomial<KINDS>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    name: String,
    buckets: Vec<u8>,
    thresholds: Thresholds,
    word_order: f32,
    /// Dense weights, biases and calibration by name.
    numbers: BTreeMap<String, Vec<f32>>,
    /// Name, length, scale; the bytes follow in this order.
    tables: Vec<(String, usize, f32)>,
    rows: usize,
}

/// The length that each table must have: the feature code indexes them by it.
fn table_lengths() -> [(&'static str, usize); 14] {
    [
        ("abuse", 1 << bits::ABUSE),
        ("router", CLASSES << bits::ROUTER),
        ("kinds", CLASSES << bits::KINDS),
        ("context", 8 << bits::CONTEXT),
        ("harm", 1 << bits::HARM),
        ("evasiveness", 1 << bits::EVASION),
        ("surface", 1 << bits::SURFACE),
        ("fluency", 0),
        ("relevance", 0),
        ("coherence", 0),
        ("dual_request", WIDTH << bits::WORDS),
        ("dual_reply", WIDTH << bits::WORDS),
        ("rarity", 1 << bits::WORDS),
        ("pairs", 1 << bits::PAIRS),
    ]
}

impl WeightSet {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut numbers = BTreeMap::new();
        for (name, head) in self.all_heads() {
            let (slope, offset) = head.calibration;
            let mut all = vec![head.bias, slope, offset];
            all.extend(&head.dense);
            numbers.insert(name.to_owned(), all);
        }
        numbers.insert("router".to_owned(), self.heads.router.bias.to_vec());
        numbers.insert("kinds".to_owned(), self.heads.kinds.bias.to_vec());
        let named = self.tables();
        let header = Header {
            format: FORMAT,
            name: self.name.clone(),
            buckets: self.buckets.clone(),
            thresholds: self.thresholds,
            word_order: self.word_order,
            numbers,
            tables: named.iter().map(|(name, table)| ((*name).to_owned(), table.data.len(), table.scale)).collect(),
            rows: self.rows.len(),
        };
        // A header of plain maps and numbers always serialises.
        let mut out = serde_json::to_vec(&header).unwrap_or_default();
        out.push(b'\n');
        for (_, table) in named {
            out.extend(table.data.iter().map(|&q| q as u8));
        }
        out.extend(self.rows.iter().flat_map(|hash| hash.to_le_bytes()));
        out
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, EvalError> {
        let bad = |reason: String| EvalError::Weights { name: "file".to_owned(), reason };
        let end = bytes.iter().position(|&b| b == b'\n').ok_or_else(|| bad("there is no header line".to_owned()))?;
        let header: Header = serde_json::from_slice(&bytes[..end]).map_err(|error| bad(format!("the header is not readable: {error}")))?;
        let name = header.name.clone();
        let bad = |reason: String| EvalError::Weights { name: name.clone(), reason };
        if header.format != FORMAT {
            return Err(bad(format!("format {} where this version reads {FORMAT}", header.format)));
        }
        let mut rest = &bytes[end + 1..];
        let mut take = |n: usize, what: &str| -> Result<&[u8], EvalError> {
            let (taken, left) = rest.split_at_checked(n).ok_or_else(|| bad(format!("cut off inside {what}")))?;
            rest = left;
            Ok(taken)
        };
        let mut tables = BTreeMap::new();
        for (table, length, scale) in &header.tables {
            let expected = table_lengths().iter().find(|(name, _)| name == table).map(|found| found.1);
            if expected != Some(*length) || !scale.is_finite() {
                return Err(bad(format!("table {table} has {length} entries, expected {expected:?}")));
            }
            let data = take(*length, table)?.iter().map(|&b| b as i8).collect();
            tables.insert(table.as_str(), Table::from_parts(data, *scale));
        }
        let row_bytes = header.rows.checked_mul(8).ok_or_else(|| bad("the row count overflows".to_owned()))?;
        let rows = take(row_bytes, "row hashes")?.as_chunks().0.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect();
        if !rest.is_empty() {
            return Err(bad(format!("{} bytes too many at the end", rest.len())));
        }
        let mut table = |name: &str| tables.remove(name).ok_or_else(|| bad(format!("table {name} is missing")));
        let numbers = |name: &str| {
            let found = header.numbers.get(name).filter(|all| all.iter().all(|x| x.is_finite()));
            found.ok_or_else(|| bad(format!("numbers of {name} are missing or not finite")))
        };
        let mut head = |name: &str| -> Result<Head, EvalError> {
            match numbers(name)?.as_slice() {
                &[bias, slope, offset, ref dense @ ..] => {
                    Ok(Head { table: table(name)?, dense: dense.to_vec(), bias, calibration: (slope, offset) })
                }
                _ => Err(bad(format!("{name} has no bias or calibration"))),
            }
        };
        let (abuse, context, harm) = (head("abuse")?, head("context")?, head("harm")?);
        let (evasiveness, surface) = (head("evasiveness")?, head("surface")?);
        let (fluency, relevance) = (head("fluency")?, head("relevance")?);
        let coherence = head("coherence")?;
        let biases = |name: &str| numbers(name).map(Vec::as_slice);
        let wrong = |name: &str| bad(format!("{name} has another number of classes"));
        let router = Multinomial { bias: biases("router")?.try_into().map_err(|_| wrong("router"))?, table: table("router")? };
        let kinds = Multinomial { bias: biases("kinds")?.try_into().map_err(|_| wrong("kinds"))?, table: table("kinds")? };
        Ok(Self {
            buckets: header.buckets.clone(),
            thresholds: header.thresholds,
            heads: Heads { abuse, router, context, harm, evasiveness, kinds },
            surface,
            word_order: header.word_order,
            fluency,
            relevance,
            coherence,
            dual: Dual { request: table("dual_request")?, response: table("dual_reply")? },
            rarity: table("rarity")?,
            pairs: table("pairs")?,
            rows,
            name,
        })
    }

    fn all_heads(&self) -> [(&'static str, &Head); 8] {
        [
            ("abuse", &self.heads.abuse),
            ("context", &self.heads.context),
            ("harm", &self.heads.harm),
            ("evasiveness", &self.heads.evasiveness),
            ("surface", &self.surface),
            ("fluency", &self.fluency),
            ("relevance", &self.relevance),
            ("coherence", &self.coherence),
        ]
    }

    fn tables(&self) -> Vec<(&'static str, &Table)> {
        let mut all: Vec<(&'static str, &Table)> = self.all_heads().map(|(name, head)| (name, &head.table)).into();
        all.push(("router", &self.heads.router.table));
        all.push(("kinds", &self.heads.kinds.table));
        all.push(("dual_request", &self.dual.request));
        all.push(("dual_reply", &self.dual.response));
        all.push(("rarity", &self.rarity));
        all.push(("pairs", &self.pairs));
        all
    }
}

/// The first 16 hex digits of the SHA-256 of some bytes: how weights and rubrics are named in reports.
pub(crate) fn fingerprint(bytes: &[u8]) -> String {
    format!("{:016x}", leading_bytes(bytes))
}

/// The content hash of a split key, letter case and spacing aside: what says that two judges learnt from one row.
pub(crate) fn row_hash(key: &str) -> u64 {
    let words: Vec<String> = key.split_whitespace().map(str::to_lowercase).collect();
    leading_bytes(words.join(" ").as_bytes())
}

/// The first eight bytes of a SHA-256.
fn leading_bytes(bytes: &[u8]) -> u64 {
    Sha256::digest(bytes).iter().take(8).fold(0, |hash, &byte| (hash << 8) | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> WeightSet {
        let head = |name: &str| {
            let length = table_lengths().iter().find(|entry| entry.0 == name).map_or(0, |entry| entry.1);
            Head { table: Table::quantise(&vec![0.5; length]), dense: vec![0.1, -2.5], bias: 0.3, calibration: (1.5, -0.25) }
        };
        WeightSet {
            name: "test".to_owned(),
            buckets: vec![4],
            thresholds: Thresholds { toxicity: 0.6, evasiveness: 0.4, coherence: 0.3 },
            heads: Heads {
                abuse: head("abuse"),
                router: Multinomial { table: head("router").table, bias: [0.1; ROUTES] },
                context: head("context"),
                harm: head("harm"),
                evasiveness: head("evasiveness"),
                kinds: Multinomial { table: head("kinds").table, bias: [0.1; KINDS] },
            },
            surface: head("surface"),
            word_order: -1.5,
            fluency: head("fluency"),
            relevance: head("relevance"),
            coherence: head("coherence"),
            dual: Dual { request: head("dual_request").table, response: head("dual_reply").table },
            rarity: head("rarity").table,
            pairs: head("pairs").table,
            rows: vec![1, 2, u64::MAX],
        }
    }

    #[test]
    fn weights_survive_being_written_and_read() {
        let bytes = tiny().to_bytes();
        let read = WeightSet::from_bytes(&bytes).expect("own bytes");
        assert_eq!(read.to_bytes(), bytes);
        assert_eq!(read.rows, [1, 2, u64::MAX]);
        assert_eq!(read.heads.abuse.dense, [0.1, -2.5]);
    }

    #[test]
    fn damaged_weights_are_an_error_and_no_panic() {
        let bytes = tiny().to_bytes();
        let header = bytes.iter().position(|&b| b == b'\n').expect("header");
        for cut in [0, 1, header, header + 1, header + 1000, bytes.len() - 1] {
            assert!(WeightSet::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(WeightSet::from_bytes(&longer).is_err());
        let text = String::from_utf8_lossy(&bytes[..header]).replace("\"rows\":3", "\"rows\":4611686018427387904");
        let mut hostile = text.into_bytes();
        hostile.extend(&bytes[header..]);
        assert!(WeightSet::from_bytes(&hostile).is_err());
    }

    #[test]
    fn a_row_is_the_same_row_in_any_case_and_spacing() {
        assert_eq!(row_hash("How are  You?"), row_hash("how are you?\n"));
        assert_ne!(row_hash("how are you?"), row_hash("how are you"));
    }
}
