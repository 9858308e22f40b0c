//! Two systems on the same prompts: exact tests, and their adjustment for being many.

use serde::{Deserialize, Serialize};

use super::random::SplitMix;

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

/// The sign-flip permutation test of paired differences.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SignFlip {
    /// Two-sided p-value.
    pub p: f64,
    /// Whether all sign patterns were tried, or a seeded sample of them.
    pub exact: bool,
}

/// Up to this many differences that are not zero, all their sign patterns are tried: about a million.
const EXACT_UP_TO: usize = 20;

/// The sign-flip permutation test (Fisher 1935; SciPy: `permutation_test((d,), mean, permutation_type="samples")`).
///
/// If the systems do not differ, each difference could as well have had the other sign. p is the share of sign patterns
/// whose sum is at least as far from zero as the one observed: over all patterns for up to 20 differences that are not
/// zero, else over `draws` seeded ones and the observed one itself (the +1 of Phipson & Smyth 2010: p is never 0).
pub fn sign_flip(differences: &[f64], draws: usize, seed: u64) -> SignFlip {
    let moved: Vec<f64> = differences.iter().copied().filter(|d| *d != 0.0).collect();
    // Sums of the same numbers in another order differ in their last digits, and ties count as at least as far.
    let tolerance = 1e-9 * moved.iter().map(|d| d.abs()).sum::<f64>();
    let observed = moved.iter().sum::<f64>().abs() - tolerance;
    if moved.len() <= EXACT_UP_TO {
        return SignFlip { p: exact_share(&moved, observed), exact: true };
    }
    let mut random = SplitMix::new(seed);
    let far = (0..draws).filter(|_| flipped_sum(&moved, &mut random).abs() >= observed).count();
    SignFlip { p: (far + 1) as f64 / (draws + 1) as f64, exact: false }
}

/// Walks through all sign patterns in Gray-code order, one flip at a time.
fn exact_share(differences: &[f64], observed: f64) -> f64 {
    let patterns = 1_u64 << differences.len();
    let mut signed = differences.to_vec();
    let mut sum: f64 = signed.iter().sum();
    let mut far = u64::from(sum.abs() >= observed);
    for pattern in 1..patterns {
        let flip = &mut signed[pattern.trailing_zeros() as usize];
        sum -= 2.0 * *flip;
        *flip = -*flip;
        far += u64::from(sum.abs() >= observed);
    }
    far as f64 / patterns as f64
}

fn flipped_sum(differences: &[f64], random: &mut SplitMix) -> f64 {
    let mut sum = 0.0;
    for chunk in differences.chunks(64) {
        let mut bits = random.next();
        for d in chunk {
            // A random sign bit, without a branch that the processor could guess wrong.
            sum += f64::from_bits(d.to_bits() ^ (bits << 63));
            bits >>= 1;
        }
    }
    sum
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

#[cfg(test)]
mod tests {
    use super::super::near;
    use super::*;

    #[test]
    fn exact_mcnemar_equals_r_binom_test() {
        // R: binom.test(2, 10)$p.value, or SciPy: binomtest(2, 10).pvalue; then (5, 20), (10, 10), (1000, 2200).
        near(mcnemar(2, 8).p, 0.109_375);
        near(mcnemar(15, 5).p, 0.041_389_465_3);
        near(mcnemar(10, 0).p, 0.001_953_125);
        assert!((mcnemar(1_000, 1_200).p / 2.181_702_640_8e-5 - 1.0).abs() < 1e-8);
        near(mcnemar(5, 5).p, 1.0);
        // Nothing is no evidence.
        near(mcnemar(0, 0).p, 1.0);
    }

    #[test]
    fn exact_sign_flips_equal_scipy_permutation_test() {
        // scipy.stats.permutation_test((np.array(d),), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
        let cases: [(&[f64], f64); 3] = [
            (&[0.3, -0.1, 0.25, 0.4, 0.05, 0.2, -0.05, 0.15], 0.0625),
            (&[1.0, 1.0, 1.0, 0.0, -1.0, 1.0, 1.0, 0.0, 1.0], 0.125),
            (&[0.5, -0.5, 0.0, 0.2], 1.0),
        ];
        for (differences, p) in cases {
            let test = sign_flip(differences, 10, 1);
            assert!(test.exact);
            near(test.p, p);
        }
        assert_eq!(sign_flip(&[], 10, 1).p, 1.0);
        assert_eq!(sign_flip(&[0.0; 50], 10, 1), SignFlip { p: 1.0, exact: true });
    }

    #[test]
    fn on_yes_and_no_the_sign_flip_test_is_mcnemar_s() {
        let outcomes: Vec<f64> = std::iter::repeat_n(1.0, 13).chain(std::iter::repeat_n(-1.0, 4)).chain([0.0; 30]).collect();
        near(sign_flip(&outcomes, 0, 0).p, mcnemar(13, 4).p);
    }

    #[test]
    fn drawn_sign_flips_come_near_scipy_are_seeded_and_never_zero() {
        // scipy.stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=1_000_000).pvalue with
        // d[i] = ((37 i) mod 101) / 101 − 0.45 for i < 60: 0.28724.
        let differences: Vec<f64> = (0..60).map(|i| f64::from((i * 37) % 101) / 101.0 - 0.45).collect();
        let test = sign_flip(&differences, 10_000, 7);
        assert!(!test.exact && (test.p - 0.287_24).abs() < 0.015, "{test:?}");
        assert_eq!(test, sign_flip(&differences, 10_000, 7));
        assert_ne!(test, sign_flip(&differences, 10_000, 8));
        assert_eq!(sign_flip(&[1.0; 100], 999, 1).p, 0.001);
    }

    #[test]
    fn holm_equals_r_p_adjust() {
        // R: p.adjust(c(0.01, 0.04, 0.03, 0.005, 0.2, 0.03), "holm"), or statsmodels' multipletests
        let adjusted = holm(&[0.01, 0.04, 0.03, 0.005, 0.2, 0.03]);
        for (a, b) in adjusted.iter().zip([0.05, 0.12, 0.12, 0.03, 0.2, 0.12]) {
            near(*a, b);
        }
        assert!(holm(&[]).is_empty());
    }
}
