//! How the embedded heads are trained, and how far they agree with people on rows that none of them saw.
//!
//! `adpo evaluators train` and `adpo evaluators validate` are the command line of this module. Training is deterministic: the same rows on the
//! same machine give the same bytes.

mod coherence;
mod corpus;
mod cross_fit;
mod encoder;
mod goals;
mod heads;
mod identity;
mod left_out;
mod logistic;
mod material;
mod negatives;
mod validate;

pub use corpus::Corpus;
use corpus::Share;
pub use encoder::train_encoder;
pub use goals::{GoalResult, GoalVerdict};
pub use left_out::left_out;
pub use validate::{Calibration, ValidateOptions, Validation, validate};

use crate::embedded::EmbeddedJudge;
use crate::embedded::features::View;
use crate::embedded::head::{Head, Table};
use crate::embedded::weights::{Heads, WeightSet};
use crate::error::EvalError;
use crate::judge::Thresholds;
use cross_fit::cross_fit;

/// Who learns from what (see docs/evaluators.md): annotator, then evaluator.
pub(crate) const SHARES: [(&str, Share); 2] = [
    ("annotator", Share { shared: &[1, 2], prompts: &[1, 2], free: &[1, 2] }),
    ("evaluator", Share { shared: &[4], prompts: &[0, 4], free: &[0, 3, 4] }),
];

/// Names of the two weight sets.
pub const WEIGHT_SETS: [&str; 2] = [SHARES[0].0, SHARES[1].0];

/// Trains one weight set, `annotator` or `evaluator`.
///
/// Calibration and thresholds come from cross-fitting: each fifth of the keys is scored by heads that learnt from the
/// other four; the heads that are kept learn from all rows.
///
/// # Errors
/// [`EvalError::Training`] where the rows lack one of a head's labels, or there is no such set.
pub fn train(corpus: &Corpus, name: &str) -> Result<EmbeddedJudge, EvalError> {
    let share = share_of(name)?;
    let rows = corpus.share(&share);
    let (heads, toxicity, evasiveness) = cross_fit(&rows, |request, response| View::from_texts(request, "", response))?;
    let mut set = coherent(&rows, heads);
    set.thresholds = Thresholds { toxicity, evasiveness, ..set.thresholds };
    name.clone_into(&mut set.name);
    set.buckets = share.free.to_vec();
    Ok(EmbeddedJudge::from_set(set))
}

fn share_of(name: &str) -> Result<Share, EvalError> {
    let share = SHARES.iter().find(|(known, _)| *known == name).map(|entry| entry.1);
    share.ok_or_else(|| EvalError::Training { head: "any", reason: format!("no weight set is called {name}") })
}

/// A set with `heads` and everything that coherence needs.
fn coherent(rows: &Corpus, heads: Heads) -> WeightSet {
    // The head on top of coherence needs rows that its parts have not seen.
    let (fitting, calibrating) = rows.fold(0);
    let rarity = coherence::rarity(&fitting);
    let nothing = Head { table: Table::quantise(&[]), dense: Vec::new(), bias: 0.0, calibration: (1.0, 0.0) };
    let mut set = WeightSet {
        name: String::new(),
        buckets: Vec::new(),
        thresholds: Thresholds { toxicity: 0.5, evasiveness: 0.5, coherence: 0.5 },
        heads,
        surface: coherence::surface(&fitting),
        word_order: 0.0,
        fluency: nothing.clone(),
        relevance: nothing.clone(),
        coherence: nothing,
        dual: coherence::dual(&fitting, &rarity),
        rarity,
        pairs: coherence::pairs(&fitting),
        rows: rows.hashes(),
    };
    coherence::combine(&mut set, &calibrating);
    set.word_order = coherence::word_order(&set, &calibrating);
    set.thresholds.coherence = coherence::threshold(&set, &calibrating);
    set
}

/// The file of known words (`assets/words.bin`) from a list with one word a line.
///
/// # Errors
/// [`EvalError::Training`] if the list is empty.
pub fn word_filter(list: &str) -> Result<Vec<u8>, EvalError> {
    crate::words::word_filter(list)
}

impl EmbeddedJudge {
    /// The weight file: what [`EmbeddedJudge::from_bytes`] reads.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.weights().to_bytes()
    }
}
