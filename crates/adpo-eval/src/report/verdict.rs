//! When a comparison may name a winner: the rules stand here and nowhere else.

use serde::{Deserialize, Serialize};

use crate::statistics::Interval;

/// What may be said of a system against the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The system has less.
    Lower,
    /// The system has more.
    Higher,
    /// The data do not decide.
    NotDistinguishable,
}

/// The first rule that a difference failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// p after Holm's adjustment is .05 or more.
    Test,
    /// The 95 % interval of the difference includes zero.
    Interval,
    /// The difference is smaller than the smallest that would be found with a power of 80 %.
    Power,
    /// The judge is not shown to be better than a coin, or its bias between two models is as large as the difference.
    Instrument,
    /// There are fewer than five training seeds, so nothing is known about their spread. Asked first, over seeds only.
    Seeds,
}

/// All that a verdict rests on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence {
    /// System minus baseline, with its 95 % interval.
    pub(super) difference: Interval,
    /// Adjusted over all tests of the report.
    pub(super) p_holm: f64,
    /// Smallest difference found with a power of 80 %; `None` where not even the largest would be.
    pub(super) smallest_detectable: Option<f64>,
    /// Whether there are agreement figures for this verdict of the judge, and on none of the labelled sets the lower ends
    /// of sensitivity and specificity sum to more than 1.
    pub(super) judge_is_blind: bool,
    /// How far the judge's apparent rates of two models with one true rate lie apart, where that was measured.
    pub(super) judge_bias: Option<f64>,
}

/// A winner is named only if none of these forbids it, asked in this order:
///
/// 1. **Test**: p, adjusted by Holm over all tests of the report, is below .05.
/// 2. **Interval**: the 95 % interval of the difference leaves out zero.
/// 3. **Power**: the difference is at least the smallest detectable one. A significant but smaller one is what chance
///    selects among differences too small to see, and its size would be exaggerated (Gelman & Carlin 2014).
/// 4. **Instrument**: the judge is shown to tell yes from no, and its measured bias between two models is smaller than
///    the distance of the interval from zero. Where no bias was measured the verdict stands under the condition that it
///    is smaller; reports print that condition.
pub(super) fn decide(evidence: &Evidence) -> (Verdict, Option<Doubt>) {
    let undecided = |doubt| (Verdict::NotDistinguishable, Some(doubt));
    if evidence.p_holm.is_nan() || evidence.p_holm >= 0.05 {
        return undecided(Doubt::Test);
    }
    let Some(distance) = evidence.difference.distance_from_zero() else {
        return undecided(Doubt::Interval);
    };
    let size = evidence.difference.estimate.abs();
    if evidence.smallest_detectable.is_none_or(|smallest| size < smallest) {
        return undecided(Doubt::Power);
    }
    if evidence.judge_is_blind || evidence.judge_bias.is_some_and(|bias| bias >= distance) {
        return undecided(Doubt::Instrument);
    }
    (if evidence.difference.estimate < 0.0 { Verdict::Lower } else { Verdict::Higher }, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten points lower, beyond doubt.
    fn clear() -> Evidence {
        Evidence {
            difference: Interval { estimate: -0.1, low: -0.14, high: -0.06 },
            p_holm: 0.001,
            smallest_detectable: Some(0.05),
            judge_is_blind: false,
            judge_bias: None,
        }
    }

    #[test]
    fn a_difference_that_passes_every_rule_has_a_direction() {
        assert_eq!(decide(&clear()), (Verdict::Lower, None));
        let higher = Evidence { difference: Interval { estimate: 0.1, low: 0.06, high: 0.14 }, ..clear() };
        assert_eq!(decide(&higher), (Verdict::Higher, None));
    }

    #[test]
    fn each_rule_alone_forbids_a_winner() {
        let cases = [
            (Evidence { p_holm: 0.05, ..clear() }, Doubt::Test),
            (Evidence { p_holm: f64::NAN, ..clear() }, Doubt::Test),
            (Evidence { difference: Interval { estimate: -0.1, low: -0.2, high: 0.0 }, ..clear() }, Doubt::Interval),
            (Evidence { difference: Interval { estimate: 0.1, low: -0.001, high: 0.2 }, ..clear() }, Doubt::Interval),
            (Evidence { smallest_detectable: Some(0.11), ..clear() }, Doubt::Power),
            (Evidence { smallest_detectable: None, ..clear() }, Doubt::Power),
            (Evidence { judge_is_blind: true, ..clear() }, Doubt::Instrument),
            (Evidence { judge_bias: Some(0.06), ..clear() }, Doubt::Instrument),
        ];
        for (evidence, doubt) in cases {
            assert_eq!(decide(&evidence), (Verdict::NotDistinguishable, Some(doubt)), "{evidence:?}");
        }
    }

    #[test]
    fn a_measured_bias_smaller_than_the_interval_s_distance_from_zero_is_allowed() {
        assert_eq!(decide(&Evidence { judge_bias: Some(0.059), ..clear() }).0, Verdict::Lower);
    }

    #[test]
    fn the_first_rule_that_fails_is_the_reason_given() {
        let hopeless = Evidence { p_holm: 1.0, smallest_detectable: None, judge_is_blind: true, ..clear() };
        assert_eq!(decide(&hopeless).1, Some(Doubt::Test));
    }
}
