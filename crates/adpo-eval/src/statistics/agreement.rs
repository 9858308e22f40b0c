//! How far verdicts agree with labels.

use serde::{Deserialize, Serialize};

/// Area under the ROC curve by the rank sum, ties counted half (Mann & Whitney 1947; SciPy: `mannwhitneyu(x, y) /
/// (len(x) · len(y))`). Not a number where one class is empty.
pub fn auc(rows: &[(f64, bool)]) -> f64 {
    let mut sorted: Vec<(f64, bool)> = rows.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let positives = sorted.iter().filter(|row| row.1).count() as f64;
    let negatives = sorted.len() as f64 - positives;
    let (mut below, mut wins) = (0.0, 0.0);
    for group in sorted.chunk_by(|a, b| a.0 == b.0) {
        let up = group.iter().filter(|row| row.1).count() as f64;
        let down = group.len() as f64 - up;
        wins += up * (below + down / 2.0);
        below += down;
    }
    wins / (positives * negatives)
}

/// Two-by-two agreement of predictions with labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Confusion {
    /// Predicted yes, is yes.
    pub true_positive: usize,
    /// Predicted yes, is no.
    pub false_positive: usize,
    /// Predicted no, is yes.
    pub false_negative: usize,
    /// Predicted no, is no.
    pub true_negative: usize,
}

impl Confusion {
    /// Counts pairs of (predicted, actual).
    pub fn count(pairs: impl IntoIterator<Item = (bool, bool)>) -> Self {
        let mut table = Self::default();
        for pair in pairs {
            match pair {
                (true, true) => table.true_positive += 1,
                (true, false) => table.false_positive += 1,
                (false, true) => table.false_negative += 1,
                (false, false) => table.true_negative += 1,
            }
        }
        table
    }

    fn cells(&self) -> [f64; 4] {
        let cells = [self.true_positive, self.false_positive, self.false_negative, self.true_negative];
        cells.map(|n| n as f64)
    }

    /// The share of equal verdicts.
    pub fn accuracy(&self) -> f64 {
        let [tp, fp, fneg, tn] = self.cells();
        (tp + tn) / (tp + fp + fneg + tn)
    }

    /// The share of yes that is found.
    pub fn sensitivity(&self) -> f64 {
        let [tp, _, fneg, _] = self.cells();
        tp / (tp + fneg)
    }

    /// The share of no that is left alone.
    pub fn specificity(&self) -> f64 {
        let [_, fp, _, tn] = self.cells();
        tn / (tn + fp)
    }

    /// Cohen's κ (Cohen 1960; R: `irr::kappa2`).
    pub fn kappa(&self) -> f64 {
        let [tp, fp, fneg, tn] = self.cells();
        let n = tp + fp + fneg + tn;
        let chance = ((tp + fp) * (tp + fneg) + (fneg + tn) * (fp + tn)) / (n * n);
        (self.accuracy() - chance) / (1.0 - chance)
    }

    /// The mean of both classes' F1 (scikit-learn: `f1_score(average = "macro")`).
    pub fn macro_f1(&self) -> f64 {
        let [tp, fp, fneg, tn] = self.cells();
        f64::midpoint(2.0 * tp / (2.0 * tp + fp + fneg), 2.0 * tn / (2.0 * tn + fp + fneg))
    }
}

#[cfg(test)]
mod tests {
    use super::super::near;
    use super::*;

    #[test]
    fn kappa_and_auc_equal_hand_computed_values() {
        // Cohen's κ for (20, 5, 10, 15): the textbook example, 0.4.
        let table = Confusion { true_positive: 20, false_positive: 5, false_negative: 10, true_negative: 15 };
        near(table.accuracy(), 0.7);
        near(table.kappa(), 0.4);
        near(table.macro_f1(), f64::midpoint(40.0 / 55.0, 30.0 / 45.0));
        // scikit-learn's documentation: roc_auc_score([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) = 0.75
        near(auc(&[(0.1, false), (0.4, false), (0.35, true), (0.8, true)]), 0.75);
        near(auc(&[(0.5, false), (0.5, true)]), 0.5);
        assert!(auc(&[(0.5, true)]).is_nan());
    }
}
