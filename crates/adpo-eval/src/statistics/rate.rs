//! One rate: its interval, and what it becomes when the errors of the instrument are taken out.

use super::{Interval, Z};

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

/// The true rate behind an apparent one, for an instrument of known sensitivity and specificity (Rogan & Gladen 1978):
/// `(rate + specificity − 1) / (sensitivity + specificity − 1)`, clipped to [0, 1].
///
/// The interval is by the delta method from those of all three figures, which are taken to be independent and about
/// normal. `None` where sensitivity and specificity sum to 1 or less: such an instrument says nothing about the rate.
/// The correction assumes that both figures carry over from the rows where they were measured.
pub fn rogan_gladen(rate: Interval, sensitivity: Interval, specificity: Interval) -> Option<Interval> {
    let youden = sensitivity.estimate + specificity.estimate - 1.0;
    if youden <= 0.0 {
        return None;
    }
    let variance = |interval: Interval| interval.standard_error().powi(2);
    let truth = (rate.estimate + specificity.estimate - 1.0) / youden;
    // Partial derivatives: 1/J by the rate, (1 − truth)/J by the specificity, −truth/J by the sensitivity.
    let spread = variance(rate) + (1.0 - truth).powi(2) * variance(specificity) + truth.powi(2) * variance(sensitivity);
    let half = Z * spread.sqrt() / youden;
    let clip = |x: f64| x.clamp(0.0, 1.0);
    Some(Interval { estimate: clip(truth), low: clip(truth - half), high: clip(truth + half) })
}

#[cfg(test)]
mod tests {
    use super::super::near;
    use super::*;

    #[test]
    fn wilson_equals_r_and_scipy() {
        // R: prop.test(8, 10, correct = FALSE)$conf.int; SciPy: binomtest(8, 10).proportion_ci(method="wilson"); and the
        // same for 0 of 10, 10 of 10, 15 of 148.
        let cases = [
            (8, 10, 0.490_162_471_5, 0.943_317_848_5),
            (0, 10, 0.0, 0.277_532_799_9),
            (10, 10, 0.722_467_200_1, 1.0),
            (15, 148, 0.062_386_399_5, 0.160_487_241_7),
        ];
        for (hits, n, low, high) in cases {
            let interval = wilson(hits, n);
            near(interval.low, low);
            near(interval.high, high);
        }
        // Newcombe 1998, table I, method 3: 1/29 gives 0.0061 to 0.1718.
        let interval = wilson(1, 29);
        assert!((interval.low - 0.0061).abs() < 5e-5 && (interval.high - 0.1718).abs() < 5e-5, "{interval:?}");
        assert_eq!(wilson(0, 0).high, 1.0);
    }

    /// An interval of ± 1.96 standard errors.
    fn of(estimate: f64, error: f64) -> Interval {
        Interval { estimate, low: estimate - Z * error, high: estimate + Z * error }
    }

    #[test]
    fn rogan_gladen_equals_a_delta_method_by_hand_and_a_simulation() {
        // NumPy, by the formula: rate .2 ± .02, sensitivity .9 ± .03, specificity .95 ± .01 (standard errors) give
        // 0.1764706 [0.1251250, 0.2278162]; 2,000,000 draws of three normals have percentiles 0.1253 and 0.2283.
        let truth = rogan_gladen(of(0.2, 0.02), of(0.9, 0.03), of(0.95, 0.01)).expect("a useful instrument");
        near(truth.estimate, 0.176_470_588);
        near(truth.low, 0.125_124_976);
        near(truth.high, 0.227_816_201);
    }

    #[test]
    fn rogan_gladen_is_clipped_and_undefined_for_an_instrument_no_better_than_a_coin() {
        let low = rogan_gladen(of(0.02, 0.005), of(0.5, 0.05), of(0.9, 0.01)).expect("a useful instrument");
        assert_eq!((low.estimate, low.low), (0.0, 0.0));
        assert_eq!(rogan_gladen(of(0.2, 0.02), of(0.4, 0.01), of(0.6, 0.01)), None);
        assert_eq!(rogan_gladen(of(0.2, 0.02), of(0.3, 0.01), of(0.6, 0.01)), None);
    }
}
