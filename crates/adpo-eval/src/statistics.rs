//! Intervals and tests for rates, means and paired outcomes.

use serde::{Deserialize, Serialize};

/// The 97.5 % quantile of the normal distribution: 95 % intervals.
const Z: f64 = 1.959_963_984_540_054;

/// An estimate with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The point estimate.
    pub estimate: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Wilson's score interval for `hits` of `n` (Wilson 1927; R: `prop.test(hits, n, correct = FALSE)`).
///
/// Nothing observed (`n` = 0) gives the whole range around an estimate of 0.
pub fn wilson(hits: usize, n: usize) -> Interval {
    if n == 0 {
        return Interval { estimate: 0.0, low: 0.0, high: 1.0 };
    }
    let (n, p) = (n as f64, hits as f64 / n as f64);
    let centre = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt() / (1.0 + Z * Z / n);
    // At the ends the formula is exact but its rounding is not.
    let low = if hits == 0 { 0.0 } else { (centre - half).max(0.0) };
    let high = if p == 1.0 { 1.0 } else { (centre + half).min(1.0) };
    Interval { estimate: p, low, high }
}

/// McNemar's test on paired yes/no outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct McNemar {
    /// Pairs in which the first is yes and the second no.
    pub only_first: usize,
    /// Pairs in which the second is yes and the first no.
    pub only_second: usize,
    /// Exact two-sided p-value.
    pub p: f64,
}

/// The exact McNemar test (Fay 2010; R: `binom.test(b, b + c)$p.value`, `exact2x2::mcnemar.exact`).
///
/// Given the discordant pairs, each side is a fair coin; two-sided is twice the smaller tail, at most 1.
pub fn mcnemar(only_first: usize, only_second: usize) -> McNemar {
    let n = only_first + only_second;
    let smaller = only_first.min(only_second);
    // Terms of the binomial in logarithms: 0.5^n alone underflows from n = 1075 on.
    let mut term = n as f64 * 0.5f64.ln();
    let mut tail = term.exp();
    for k in 0..smaller {
        term += ((n - k) as f64).ln() - ((k + 1) as f64).ln();
        tail += term.exp();
    }
    McNemar { only_first, only_second, p: (2.0 * tail).min(1.0) }
}

/// Holm's step-down adjustment of p-values (Holm 1979; R: `p.adjust(p, "holm")`), in the order given.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut adjusted = vec![0.0; p.len()];
    let mut floor = 0.0_f64;
    for (rank, &i) in order.iter().enumerate() {
        floor = floor.max((p[i] * (p.len() - rank) as f64).min(1.0));
        adjusted[i] = floor;
    }
    adjusted
}

/// A small counter-based generator (Steele, Lea & Flood 2014, SplitMix64): the same numbers everywhere, for ever.
#[derive(Debug, Clone)]
pub(crate) struct SplitMix(u64);

impl SplitMix {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..n` (Lemire's multiplication; the bias below 2⁻⁴⁰ for the sizes here is of no consequence).
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// Uniform in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// Percentile bootstrap (Efron 1979) of any statistic of `n` units, drawn with replacement `draws` times.
///
/// `statistic` gets the drawn indices; it should be cheap. Where it is not a number (a draw without positives,
/// say) that draw is left out.
pub fn bootstrap(n: usize, draws: usize, seed: u64, mut statistic: impl FnMut(&[usize]) -> f64) -> Interval {
    let everything: Vec<usize> = (0..n).collect();
    let estimate = statistic(&everything);
    if n == 0 {
        return Interval { estimate, low: estimate, high: estimate };
    }
    let mut random = SplitMix::new(seed);
    let mut drawn = vec![0; n];
    let mut values = Vec::with_capacity(draws);
    for _ in 0..draws {
        for slot in &mut drawn {
            *slot = random.below(n);
        }
        let value = statistic(&drawn);
        if value.is_finite() {
            values.push(value);
        }
    }
    values.sort_by(f64::total_cmp);
    let at = |q: f64| match values.len() {
        0 => estimate,
        len => values[((q * (len - 1) as f64).round() as usize).min(len - 1)],
    };
    Interval { estimate, low: at(0.025), high: at(0.975) }
}

/// The mean over prompts with its bootstrap interval; `values` holds one number per prompt.
///
/// Prompts are the unit: several samples of one prompt are averaged before they come here. Without any prompt the
/// mean is 0 with an interval of no width.
pub fn bootstrap_mean(values: &[f64], draws: usize, seed: u64) -> Interval {
    let mean = |indices: &[usize]| match indices.len() {
        0 => 0.0,
        n => indices.iter().map(|&i| values[i]).sum::<f64>() / n as f64,
    };
    bootstrap(values.len(), draws, seed, mean)
}

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
    use super::*;

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 5e-7, "{a} is not {b}");
    }

    #[test]
    fn wilson_equals_r_prop_test() {
        // prop.test(8, 10, correct = FALSE)$conf.int, and the same for 0, 10 of 10 and 15 of 148
        let cases = [(8, 10, 0.490_162_5, 0.943_317_8), (0, 10, 0.0, 0.277_532_8), (10, 10, 0.722_467_2, 1.0)];
        for (hits, n, low, high) in cases {
            let interval = wilson(hits, n);
            near(interval.low, low);
            near(interval.high, high);
        }
        // Newcombe 1998, table I, method 3: 15/148 gives 0.0624 to 0.1605, 1/29 gives 0.0061 to 0.1718.
        for (hits, n, low, high) in [(15, 148, 0.0624, 0.1605), (1, 29, 0.0061, 0.1718)] {
            let interval = wilson(hits, n);
            assert!((interval.low - low).abs() < 5e-5 && (interval.high - high).abs() < 5e-5, "{interval:?}");
        }
    }

    #[test]
    fn exact_mcnemar_equals_r_binom_test() {
        // binom.test(2, 10)$p.value, binom.test(5, 20), binom.test(10, 10), binom.test(0, 0) has no evidence at all
        near(mcnemar(2, 8).p, 0.109_375);
        near(mcnemar(15, 5).p, 0.041_389_465);
        near(mcnemar(10, 0).p, 0.001_953_125);
        near(mcnemar(5, 5).p, 1.0);
        near(mcnemar(0, 0).p, 1.0);
        let large = mcnemar(1_000, 1_200).p;
        assert!(large > 0.0 && large < 1e-4, "{large}");
    }

    #[test]
    fn holm_equals_r_p_adjust() {
        // p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
        let adjusted = holm(&[0.01, 0.04, 0.03, 0.005]);
        for (a, b) in adjusted.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            near(*a, b);
        }
    }

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

    #[test]
    fn bootstrap_of_a_mean_is_seeded_and_close_to_the_normal_interval() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 2)).collect();
        let interval = bootstrap_mean(&values, 10_000, 7);
        assert_eq!(interval, bootstrap_mean(&values, 10_000, 7));
        // Standard error 0.025, so ± 0.049.
        assert!((interval.low - 0.451).abs() < 0.005 && (interval.high - 0.549).abs() < 0.005, "{interval:?}");
    }

    #[test]
    fn nothing_observed_is_no_panic() {
        assert_eq!(bootstrap_mean(&[], 100, 1).estimate, 0.0);
        assert_eq!(wilson(0, 0).high, 1.0);
        assert!(holm(&[]).is_empty());
    }
}
