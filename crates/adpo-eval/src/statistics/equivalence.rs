//! The size of a difference, the smallest that would have been detected, and tests of equivalence.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use super::Interval;

/// Power that a claim of "no difference" needs, and for which the smallest detectable difference is stated.
pub const POWER: f64 = 0.8;

/// With fewer pairs that differ no exact two-sided test reaches 5 %: 2 · 0.5⁵ is more.
const LEAST_DIFFERING: usize = 6;

/// What paired differences come down to. Each is in [−1, 1]: a change of a yes/no outcome, or of a mean score.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Differences {
    /// Pairs.
    pub pairs: usize,
    /// Pairs that differ.
    pub differing: usize,
    /// The mean difference.
    pub mean: f64,
    /// The mean of their squares; for yes/no outcomes this is the share of discordant pairs.
    pub mean_square: f64,
}

impl Differences {
    /// Sums up differences.
    pub fn of(differences: &[f64]) -> Self {
        let n = differences.len().max(1) as f64;
        Self {
            pairs: differences.len(),
            differing: differences.iter().filter(|d| **d != 0.0).count(),
            mean: differences.iter().sum::<f64>() / n,
            mean_square: differences.iter().map(|d| d * d).sum::<f64>() / n,
        }
    }

    /// With one more pair of +1 and one of −1 (Bonett & Price 2012, for yes/no outcomes; for scores in [0, 1] it is the
    /// same, and wider than need be). Without them, pairs that never differ would have an interval of no width.
    fn adjusted(&self) -> (f64, f64, f64) {
        let (n, more) = (self.pairs as f64, self.pairs as f64 + 2.0);
        (more, self.mean * n / more, (self.mean_square * n + 2.0) / more)
    }

    fn standard_error(&self) -> f64 {
        let (n, mean, mean_square) = self.adjusted();
        ((mean_square - mean * mean) / n).sqrt()
    }

    /// The mean difference with its interval at `confidence` (Bonett & Price 2012, adjusted Wald).
    pub fn interval(&self, confidence: f64) -> Interval {
        let (_, centre, _) = self.adjusted();
        let half = quantile(f64::midpoint(1.0, confidence)) * self.standard_error();
        Interval { estimate: self.mean, low: (centre - half).max(-1.0), high: (centre + half).min(1.0) }
    }

    /// The smallest difference that a two-sided test at 5 % finds with a power of 80 % among pairs like these
    /// (see [`smallest_detectable`]); not less than six pairs, with which exact tests begin to reach 5 %. `None` where
    /// not even all pairs would do.
    pub fn smallest_detectable(&self) -> Option<f64> {
        let (n, _, mean_square) = self.adjusted();
        let floor = LEAST_DIFFERING as f64 / self.pairs.max(1) as f64;
        let smallest = smallest_detectable(n, mean_square).max(floor);
        (smallest <= 1.0).then_some(smallest)
    }

    /// Two one-sided tests (Schuirmann 1987): is the difference within ± `margin`? Paired, so on the differences.
    pub fn equivalence(&self, margin: f64) -> Equivalence {
        let (n, mean, mean_square) = self.adjusted();
        let error = self.standard_error();
        let interval = self.interval(0.9);
        let p = cumulative((mean - margin) / error).max(cumulative(-(mean + margin) / error));
        let power = tost_power(n, mean_square, margin);
        let outcome = match () {
            () if power < POWER => EquivalenceOutcome::CannotDecide,
            () if p < 0.05 => EquivalenceOutcome::Equivalent,
            () => EquivalenceOutcome::NotShown,
        };
        Equivalence { margin, low: interval.low, high: interval.high, p, power, outcome }
    }
}

/// A paired equivalence test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Equivalence {
    /// Differences up to this size, either way, count as none.
    pub margin: f64,
    /// Lower end of the 90 % interval of the difference: equivalence at 5 % is this interval within the margin.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// The larger of the two one-sided p-values; not adjusted for the number of tests.
    pub p: f64,
    /// The chance of showing equivalence, were there no difference at all.
    pub power: f64,
    /// What follows.
    pub outcome: EquivalenceOutcome,
}

/// What an equivalence test says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum EquivalenceOutcome {
    /// No difference larger than the margin.
    Equivalent,
    /// A larger difference is not ruled out.
    NotShown,
    /// The power is below 80 %: with so few pairs the test could hardly have shown it, whatever it says.
    CannotDecide,
}

/// The smallest mean difference that a two-sided test at 5 % finds with a power of 80 % (Miettinen 1968 for yes/no
/// outcomes): `(z.975 + z.80) · √(mean square / n)`. 2.8 points at n = 1,000 and 10 % discordant pairs.
pub fn smallest_detectable(n: f64, mean_square: f64) -> f64 {
    (quantile(0.975) + quantile(POWER)) * (mean_square / n).sqrt()
}

/// The power of a paired TOST at 5 % where there is no true difference: `2 Φ(margin/SE − z.95) − 1` with
/// `SE = √(mean square / n)` (Phillips 1990, normal approximation). 28 % at n = 1,000, 10 % discordant pairs and a margin
/// of two points; 80 % takes about 2,140 pairs.
pub fn tost_power(n: f64, mean_square: f64, margin: f64) -> f64 {
    (2.0 * cumulative(margin / (mean_square / n).sqrt() - quantile(0.95)) - 1.0).max(0.0)
}

/// The two-sided p-value of a difference with this 95 % interval, by the normal approximation.
pub fn two_sided_p(difference: Interval) -> f64 {
    2.0 * cumulative(-difference.estimate.abs() / difference.standard_error())
}

/// Φ, the standard normal's distribution function.
fn cumulative(z: f64) -> f64 {
    Normal::standard().cdf(z)
}

/// Its inverse.
fn quantile(p: f64) -> f64 {
    Normal::standard().inverse_cdf(p)
}

#[cfg(test)]
mod tests {
    use super::super::near;
    use super::*;

    /// `up` pairs of +1, `down` of −1, `same` of 0.
    fn pairs(up: usize, down: usize, same: usize) -> Differences {
        let all: Vec<f64> = [(1.0, up), (-1.0, down), (0.0, same)].into_iter().flat_map(|(d, n)| std::iter::repeat_n(d, n)).collect();
        Differences::of(&all)
    }

    #[test]
    fn power_and_detectable_difference_are_those_of_the_plan() {
        // SciPy: 2 * norm.cdf(0.02 / sqrt(0.1 / n) - norm.ppf(0.95)) - 1
        near(tost_power(1_000.0, 0.1, 0.02), 0.277_520_063);
        near(tost_power(2_140.0, 0.1, 0.02), 0.799_769_149);
        near(tost_power(2_141.0, 0.1, 0.02), 0.800_009_154);
        near(tost_power(100.0, 0.1, 0.02), 0.0);
        // SciPy: (norm.ppf(0.975) + norm.ppf(0.8)) * sqrt(0.1 / 1000)
        near(smallest_detectable(1_000.0, 0.1), 0.028_015_852);
    }

    #[test]
    fn intervals_equal_numpy_on_the_sample_with_two_more_pairs() {
        // a = np.append(d, [1, -1]); scipy.stats.norm.interval(0.95, a.mean(), a.std() / sqrt(len(a)))
        let d = pairs(12, 30, 158);
        let at = |interval: Interval, low, high| {
            near(interval.low, low);
            near(interval.high, high);
        };
        near(d.interval(0.95).estimate, -0.09);
        at(d.interval(0.95), -0.152_285_964, -0.025_931_858);
        at(d.interval(0.9), -0.142_128_765, -0.036_089_056);
        let scores = Differences::of(&[0.3, -0.1, 0.25, 0.4, 0.05, 0.2, -0.05, 0.15]);
        at(scores.interval(0.95), -0.173_733_153, 0.413_733_153);
        // Never different in 300 pairs is not "no difference": two more in 300 would not surprise.
        at(pairs(0, 0, 300).interval(0.9), -0.007_702_564, 0.007_702_564);
    }

    #[test]
    fn equivalence_equals_scipy_and_needs_power() {
        // max(norm.sf((m + .02) / se), norm.cdf((m - .02) / se)) with m, se of the sample with two more pairs
        let shown = pairs(40, 42, 2_918).equivalence(0.02);
        assert!((shown.p / 1.204_277_679e-10 - 1.0).abs() < 1e-6, "{shown:?}");
        near(shown.power, 0.999_999_071);
        near(shown.low, -0.005_687_946);
        assert_eq!(shown.outcome, EquivalenceOutcome::Equivalent);
        let open = pairs(12, 30, 158).equivalence(0.02);
        near(open.p, 0.983_983_160);
        near(open.power, 0.0);
        assert_eq!(open.outcome, EquivalenceOutcome::CannotDecide);
        assert_eq!(pairs(80, 150, 2_770).equivalence(0.02).outcome, EquivalenceOutcome::NotShown);
        // Three equal pairs are no proof of anything.
        assert_eq!(pairs(0, 0, 3).equivalence(0.02).outcome, EquivalenceOutcome::CannotDecide);
        assert_eq!(pairs(0, 0, 0).equivalence(0.02).outcome, EquivalenceOutcome::CannotDecide);
    }

    #[test]
    fn a_p_value_from_an_interval_equals_scipy() {
        // 2 * norm.sf(0.03 / 0.01)
        let z = 1.959_963_984_540_054;
        near(two_sided_p(Interval { estimate: -0.03, low: -0.03 - z * 0.01, high: -0.03 + z * 0.01 }), 0.002_699_796);
        near(two_sided_p(Interval { estimate: 0.0, low: -1.0, high: 1.0 }), 1.0);
        assert!(two_sided_p(Interval { estimate: 0.0, low: 0.0, high: 0.0 }).is_nan());
    }

    #[test]
    fn what_no_exact_test_could_find_is_not_called_detectable() {
        assert_eq!(pairs(0, 0, 5).smallest_detectable(), None);
        assert_eq!(pairs(0, 0, 0).smallest_detectable(), None);
        assert_eq!(pairs(0, 0, 600).smallest_detectable(), Some(0.01));
        let usual = pairs(50, 50, 900).smallest_detectable().expect("1,000 pairs");
        assert!((usual - 0.028).abs() < 0.0005, "{usual}");
    }
}
