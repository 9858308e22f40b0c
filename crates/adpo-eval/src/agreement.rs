//! How far a judge agrees with people.

use serde::{Deserialize, Serialize};

use crate::statistics::Interval;

/// How far one measure of one judge agrees with labels that it never saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Agreement {
    /// Name of the weight set.
    pub judge: String,
    /// What was measured.
    pub measure: String,
    /// On which rows.
    pub data: String,
    /// Number of rows.
    pub rows: usize,
    /// Number of independent prompts or contexts: the units of the bootstrap.
    pub prompts: usize,
    /// Area under the ROC curve.
    pub auc: Interval,
    /// At `threshold`.
    pub accuracy: Interval,
    /// Cohen's κ at `threshold`.
    pub kappa: Interval,
    /// Mean of both classes' F1 at `threshold`.
    pub macro_f1: Interval,
    /// The share of yes rows that the judge calls yes at `threshold`.
    pub sensitivity: Interval,
    /// The share of no rows that the judge calls no at `threshold`.
    pub specificity: Interval,
    /// From which score on the judge says yes; one half for coherence.
    pub threshold: f64,
}
