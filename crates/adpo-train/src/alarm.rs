//! The likelihood-displacement alarm: warns when the chosen responses lose probability, which DPO users often ask about.

use crate::StepRecord;

/// Steps per window.
const WINDOW: usize = 8;
/// Nats below the reference from which a falling chosen log-ratio is worth a warning.
const FLOOR: f64 = -2.0;

/// Watches the mean log-ratio of the chosen responses: `kl/chosen`, or without a reference `logps/chosen` against its own
/// first window.
#[derive(Default)]
pub(crate) struct DisplacementAlarm {
    seen: Vec<f64>,
    told: bool,
}

impl DisplacementAlarm {
    /// Takes one step's value; gives the warning once, when the last window lies below the floor and below the
    /// window before it.
    pub(crate) fn observe(&mut self, record: &StepRecord) -> Option<String> {
        let (name, value) = ["kl/chosen", "logps/chosen"].into_iter().find_map(|name| Some((name, record.get(name)?)))?;
        self.seen.push(value);
        let n = self.seen.len();
        if self.told || n < 2 * WINDOW {
            return None;
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let (before, now) = (mean(&self.seen[n - 2 * WINDOW..n - WINDOW]), mean(&self.seen[n - WINDOW..]));
        let start = if name == "kl/chosen" { 0.0 } else { mean(&self.seen[..WINDOW]) };
        self.told = now - start < FLOOR && now < before;
        self.told.then(|| {
            format!(
                "the chosen responses lose probability: {name} fell from {before:.1} to {now:.1} nats over the last {WINDOW} steps. \
                 A preference loss only asks for a margin, so the model may lower both responses and put the mass elsewhere \
                 (likelihood displacement, arXiv 2410.08847), which ends in evasive or broken text. Lower the learning rate, \
                 set `nll_weight` (0.1 to 1), or lower `penalty_weight`; judge the result by diversity and coherence, not by the margin"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, value: f64) -> StepRecord {
        StepRecord { step: 1, values: [(name.to_owned(), value)].into() }
    }

    #[test]
    fn the_alarm_rings_once_when_chosen_keeps_falling_with_a_reference_or_without() {
        for (name, start) in [("kl/chosen", 0.0), ("logps/chosen", -90.0)] {
            let mut alarm = DisplacementAlarm::default();
            let rung = (0..60).filter_map(|i| alarm.observe(&record(name, start - 0.2 * f64::from(i)))).count();
            assert_eq!(rung, 1, "{name}");
        }
    }

    #[test]
    fn a_low_but_steady_ratio_is_no_alarm() {
        let mut alarm = DisplacementAlarm::default();
        assert!((0..60).all(|_| alarm.observe(&record("kl/chosen", -5.0)).is_none()));
    }
}
