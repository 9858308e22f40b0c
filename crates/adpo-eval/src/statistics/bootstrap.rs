//! Bootstrap intervals: prompts (and training seeds) are drawn with replacement.

use super::Interval;
use super::random::SplitMix;

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
    percentiles(estimate, values)
}

/// The middle 95 % of drawn values around an estimate.
fn percentiles(estimate: f64, mut values: Vec<f64>) -> Interval {
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
    let n = values.len();
    if n == 0 {
        return Interval { estimate: 0.0, low: 0.0, high: 0.0 };
    }
    let mut random = SplitMix::new(seed);
    let means = (0..draws).map(|_| (0..n).map(|_| values[random.below(n)]).sum::<f64>() / n as f64).collect();
    percentiles(values.iter().sum::<f64>() / n as f64, means)
}

/// The mean over training seeds and prompts, both drawn with replacement and independently of each other.
///
/// `values[seed][prompt]`: every seed's model answers the *same* prompts, so seeds and prompts are crossed, not nested,
/// and drawing cells or prompts within seeds would give too narrow an interval (Owen 2007, the pigeonhole bootstrap).
/// `None` where there is nothing, or where the seeds have different numbers of prompts. Of few seeds it is too
/// optimistic (it sees (S − 1)/S of the variance between them); below five do not use it.
pub fn bootstrap_crossed(values: &[Vec<f64>], draws: usize, seed: u64) -> Option<Interval> {
    let (seeds, n) = (values.len(), values.first()?.len());
    if n == 0 || values.iter().any(|row| row.len() != n) {
        return None;
    }
    let mut random = SplitMix::new(seed);
    let mut prompts = vec![0; n];
    let mean = |drawn: &[usize], prompts: &[usize]| {
        let sum: f64 = drawn.iter().map(|&s| prompts.iter().map(|&p| values[s][p]).sum::<f64>()).sum();
        sum / (drawn.len() * prompts.len()) as f64
    };
    let means = (0..draws).map(|_| {
        let drawn: Vec<usize> = (0..seeds).map(|_| random.below(seeds)).collect();
        prompts.fill_with(|| random.below(n));
        mean(&drawn, &prompts)
    });
    let means = means.collect();
    let (all_seeds, all_prompts): (Vec<usize>, Vec<usize>) = ((0..seeds).collect(), (0..n).collect());
    Some(percentiles(mean(&all_seeds, &all_prompts), means))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bootstrap_of_a_mean_is_seeded_and_close_to_the_normal_interval() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 2)).collect();
        let interval = bootstrap_mean(&values, 10_000, 7);
        assert_eq!(interval, bootstrap_mean(&values, 10_000, 7));
        assert_ne!(interval, bootstrap_mean(&values, 10_000, 8));
        // Standard error 0.025, so ± 0.049.
        assert!((interval.low - 0.451).abs() < 0.005 && (interval.high - 0.549).abs() < 0.005, "{interval:?}");
    }

    #[test]
    fn the_mean_s_own_loop_draws_what_the_general_one_draws() {
        let values: Vec<f64> = (0..37).map(|i| f64::from(i * i % 11)).collect();
        let mean = |drawn: &[usize]| drawn.iter().map(|&i| values[i]).sum::<f64>() / drawn.len() as f64;
        assert_eq!(bootstrap_mean(&values, 500, 3), bootstrap(values.len(), 500, 3, mean));
    }

    #[test]
    fn percentiles_come_near_scipy_bootstrap() {
        // scipy.stats.bootstrap((d,), np.mean, n_resamples=200_000, method="percentile", rng=1).confidence_interval with
        // d[i] = ((37 i) mod 101) / 101 for i < 80: [0.43144, 0.55941]
        let values: Vec<f64> = (0..80).map(|i| f64::from((i * 37) % 101) / 101.0).collect();
        let interval = bootstrap_mean(&values, 10_000, 5);
        assert!((interval.low - 0.431_44).abs() < 0.003 && (interval.high - 0.559_41).abs() < 0.003, "{interval:?}");
    }

    #[test]
    fn crossed_seeds_widen_the_interval_where_seeds_differ_and_not_where_they_agree() {
        let prompts: Vec<f64> = (0..200).map(|i| f64::from(i % 2)).collect();
        let width = |interval: Interval| interval.high - interval.low;
        let alone = width(bootstrap_mean(&prompts, 4_000, 1));
        let same = bootstrap_crossed(&vec![prompts.clone(); 6], 4_000, 1).expect("a table");
        assert!((width(same) / alone - 1.0).abs() < 0.05, "{same:?}");
        let shifted: Vec<Vec<f64>> = (0..6).map(|s| prompts.iter().map(|p| p + f64::from(s) / 5.0).collect()).collect();
        let apart = bootstrap_crossed(&shifted, 4_000, 1).expect("a table");
        // Seeds 0, .2, … 1 have a standard deviation of .3416; over six seeds that is a standard error of .1394, prompts
        // add .0354: together ± .282.
        assert!((width(apart) / 2.0 - 0.282).abs() < 0.02, "{apart:?}");
        assert!((apart.estimate - 1.0).abs() < 1e-12);
    }

    #[test]
    fn nothing_observed_is_no_panic() {
        assert_eq!(bootstrap_mean(&[], 100, 1).estimate, 0.0);
        assert_eq!(bootstrap_crossed(&[], 100, 1), None);
        assert_eq!(bootstrap_crossed(&[vec![], vec![]], 100, 1), None);
        assert_eq!(bootstrap_crossed(&[vec![1.0], vec![]], 100, 1), None);
    }
}
