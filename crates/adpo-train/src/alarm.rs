//! The likelihood-displacement alarm: the question that users of DPO ask most, answered before they ask.

/// Steps per window.
const WINDOW: usize = 8;
/// Nats below the reference from which a falling chosen log-ratio is worth a warning.
const FLOOR: f64 = -2.0;

/// Watches `kl/chosen` (the mean log-ratio of the chosen answers).
#[derive(Default)]
pub(crate) struct DisplacementAlarm {
    seen: Vec<f64>,
    told: bool,
}

impl DisplacementAlarm {
    /// Takes one step's value; gives the warning once, when the last window lies below the floor and below the
    /// window before it.
    pub(crate) fn observe(&mut self, kl_chosen: f64) -> Option<String> {
        self.seen.push(kl_chosen);
        let n = self.seen.len();
        if self.told || n < 2 * WINDOW {
            return None;
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let (before, now) = (mean(&self.seen[n - 2 * WINDOW..n - WINDOW]), mean(&self.seen[n - WINDOW..]));
        self.told = now < FLOOR && now < before;
        self.told.then(|| {
            format!(
                "the chosen answers lose probability: kl/chosen fell from {before:.1} to {now:.1} nats over the last {WINDOW} steps. \
                 A preference loss only asks for a margin, so the model may lower both answers and put the mass elsewhere \
                 (likelihood displacement, arXiv 2410.08847), which ends in evasive or broken text. Lower the learning rate, \
                 set `nll_weight` (0.1 to 1), or lower `penalty_weight`; judge the result by diversity and coherence, not by the margin"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alarm_rings_once_when_chosen_keeps_falling() {
        let mut alarm = DisplacementAlarm::default();
        let rung = (0..60).filter_map(|i| alarm.observe(-0.2 * f64::from(i))).count();
        assert_eq!(rung, 1);
    }

    #[test]
    fn a_low_but_steady_ratio_is_no_alarm() {
        let mut alarm = DisplacementAlarm::default();
        assert!((0..60).all(|_| alarm.observe(-5.0).is_none()));
    }
}
