//! What training wrote down, step by step, thinned to what a chart can show.

use std::collections::BTreeMap;
use std::path::Path;

use adpo_data::read_jsonl;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::PipelineError;

/// What is drawn, by its name in `metrics.jsonl`.
const DRAWN: [&str; 10] = [
    "loss",
    "rewards/margins",
    "kl/chosen",
    "kl/rejected",
    "kl/toxic",
    "logps/chosen",
    "logps/rejected",
    "logps/toxic",
    "grad_norm",
    "learning_rate",
];

/// Most points of a curve.
const POINTS: usize = 400;

/// One training.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Curve {
    pub seed: u64,
    /// The system that it made.
    pub training: String,
    /// Whether it trained on preferences; else it made the starting model.
    pub policy: bool,
    /// How many steps a point stands for.
    pub every: usize,
    /// The last step of each point.
    pub steps: Vec<u64>,
    /// The mean over each point's steps, by name; none where no step has a finite number.
    pub values: BTreeMap<&'static str, Vec<Option<f64>>>,
}

impl Curve {
    pub(super) fn read(seed: u64, training: &str, policy: bool, folder: &Path) -> Result<Self, PipelineError> {
        Ok(Self::new(seed, training, policy, &read_jsonl::<Map<String, Value>>(folder.join("metrics.jsonl"))?))
    }

    fn new(seed: u64, training: &str, policy: bool, lines: &[Map<String, Value>]) -> Self {
        let every = lines.len().div_ceil(POINTS).max(1);
        let number = |line: &Map<String, Value>, name: &str| line.get(name).and_then(Value::as_f64).filter(|x| x.is_finite());
        let mean = |lines: &[Map<String, Value>], name: &str| {
            let known: Vec<f64> = lines.iter().filter_map(|line| number(line, name)).collect();
            (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
        };
        // Log-ratios say more than the log-probabilities that they are made of.
        let with_reference = lines.iter().any(|line| line.contains_key("kl/chosen"));
        let drawn = DRAWN.into_iter().filter(|name| !(with_reference && name.starts_with("logps/")));
        let values = drawn
            .filter(|name| lines.iter().any(|line| number(line, name).is_some()))
            .map(|name| (name, lines.chunks(every).map(|point| mean(point, name)).collect()))
            .collect();
        let last = |point: &[Map<String, Value>]| point.last().and_then(|line| line.get("step")).and_then(Value::as_u64);
        let steps = lines.chunks(every).zip(1..).map(|(point, number)| last(point).unwrap_or(number * every as u64)).collect();
        Self { seed, training: training.to_owned(), policy, every, steps, values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(n: u64, line: impl Fn(u64) -> Value) -> Vec<Map<String, Value>> {
        (1..=n).filter_map(|step| line(step).as_object().cloned()).collect()
    }

    #[test]
    fn a_long_training_is_thinned_to_means_and_a_short_one_left_alone() {
        let long = Curve::new(1, "sft", false, &lines(1001, |step| serde_json::json!({"step": step, "loss": step as f64})));
        assert_eq!((long.every, long.steps.len(), long.steps[0], long.steps.last()), (3, 334, 3, Some(&1001)));
        assert_eq!(long.values["loss"][..2], [Some(2.0), Some(5.0)]);
        let short = Curve::new(1, "sft", false, &lines(3, |step| serde_json::json!({"step": step, "loss": 0.5})));
        assert_eq!((short.every, short.steps), (1, vec![1, 2, 3]));
    }

    #[test]
    fn a_number_that_is_none_leaves_a_gap_and_log_probabilities_stand_in_where_there_is_no_reference() {
        let bare = lines(2, |step| serde_json::json!({"step": step, "loss": (step == 2).then_some(1.0), "logps/chosen": -9.0}));
        let bare = Curve::new(1, "simpo", true, &bare);
        assert_eq!(bare.values["loss"], [None, Some(1.0)]);
        assert!(bare.values.contains_key("logps/chosen"));
        let both = Curve::new(1, "dpo", true, &lines(2, |_| serde_json::json!({"kl/chosen": 0.1, "logps/chosen": -9.0})));
        assert_eq!((both.values.keys().copied().collect::<Vec<_>>(), both.steps), (vec!["kl/chosen"], vec![1, 2]));
    }
}
