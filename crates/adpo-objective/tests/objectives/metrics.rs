//! Names and values of the reported measures.

use std::collections::BTreeMap;

use crate::common::{assert_close, inputs, objective, read};

fn metrics(recipe: &str) -> BTreeMap<&'static str, Vec<f64>> {
    let outcome = objective(recipe).unwrap().evaluate(&inputs().batch()).unwrap();
    let count = outcome.metrics.len();
    let map: BTreeMap<_, _> = outcome.metrics.iter().map(|(name, m)| (*name, read(m))).collect();
    assert_eq!(map.len(), count, "a name twice");
    map
}

fn names(recipe: &str) -> Vec<&'static str> {
    metrics(recipe).into_keys().collect()
}

const PAIR: [&str; 9] = [
    "kl/chosen",
    "kl/rejected",
    "logps/chosen",
    "logps/rejected",
    "rewards/accuracies",
    "rewards/chosen",
    "rewards/margins",
    "rewards/rejected",
    "rewards/ties",
];
const TOXIC: [&str; 3] = ["kl/toxic", "logps/toxic", "rewards/toxic"];

fn sorted(parts: &[&[&'static str]]) -> Vec<&'static str> {
    let mut all = parts.concat();
    all.sort_unstable();
    all
}

#[test]
fn adpo_reports_the_measures_of_the_method() {
    let two_terms = ["loss/penalty", "loss/preference", "penalties/toxic"];
    for link in ["separate", "pair", "bounded", "linear"] {
        let recipe = format!("[objective.adpo]\nlink = \"{link}\"");
        assert_eq!(names(&recipe), sorted(&[&PAIR, &TOXIC, &two_terms]), "{link}");
    }
    let joint = names("[objective.adpo]\nlink = \"joint\"");
    assert_eq!(joint, sorted(&[&PAIR, &TOXIC, &["penalties/toxic"]]));
    let ranking = names("[objective.adpo]\nlink = \"plackett_luce\"");
    assert_eq!(ranking, sorted(&[&PAIR, &TOXIC]));
}

#[test]
fn dpo_reports_no_penalty_and_an_nll_term_only_when_it_has_one() {
    assert_eq!(names("[objective.dpo]"), sorted(&[&PAIR, &TOXIC]));
    let with_nll = names("[objective.dpo]\nnll_weight = 0.5");
    assert_eq!(with_nll, sorted(&[&PAIR, &TOXIC, &["loss/nll"]]));
}

#[test]
fn pairs_without_a_toxic_response_report_nothing_toxic() {
    let mut batch = inputs().batch();
    batch.policy.toxic = None;
    let outcome = objective("[objective.dpo]").unwrap().evaluate(&batch).unwrap();
    assert!(outcome.metrics.iter().all(|(name, _)| !name.contains("toxic")));
}

#[test]
fn values_are_those_of_the_formulas() {
    let found = metrics("[objective.adpo]\nanchor = \"tox\"\npenalty_weight = 2");
    assert_close("kl/chosen", &found["kl/chosen"], &[1.5, 0.5, -0.25, -3.0]);
    assert_close("kl/rejected", &found["kl/rejected"], &[-1.0, -0.5, -1.5, -0.5]);
    assert_close("kl/toxic", &found["kl/toxic"], &[-7.0, -0.5, -1.5, -8.0]);
    assert_close("rewards/chosen", &found["rewards/chosen"], &[0.45, 0.15, -0.075, -0.9]);
    assert_close("rewards/margins", &found["rewards/margins"], &[0.75, 0.3, 0.375, -0.75]);
    assert_close("rewards/toxic", &found["rewards/toxic"], &[-2.1, -0.15, -0.45, -2.4]);
    // Against the anchor in use, unlike the reward.
    assert_close("penalties/toxic", &found["penalties/toxic"], &[-5.2, -1.2, -1.6, -7.0]);
    assert_close("accuracies", &found["rewards/accuracies"], &[1.0, 1.0, 1.0, 0.0]);
    assert_close("logps/toxic", &found["logps/toxic"], &inputs().pol_t);

    let outcome = objective("[objective.adpo]\nanchor = \"tox\"\npenalty_weight = 2\nnll_weight = 0.5");
    let outcome = outcome.unwrap().evaluate(&inputs().batch()).unwrap();
    let part = |name| {
        let (_, part) = outcome.metrics.iter().find(|(n, _)| *n == name).expect("reported");
        read(part)
    };
    let (a, b, c) = (part("loss/preference"), part("loss/penalty"), part("loss/nll"));
    let sum: Vec<f64> = (0..4).map(|i| a[i] + b[i] + c[i]).collect();
    assert_close("the parts of the loss", &sum, &read(&outcome.losses));
}

#[test]
fn at_the_reference_every_margin_is_a_tie_and_no_accuracy() {
    let batch = inputs().at_reference().batch();
    let outcome = objective("[objective.dpo]").unwrap().evaluate(&batch).unwrap();
    for (name, metric) in outcome.metrics {
        match name {
            "rewards/ties" => assert_eq!(read(&metric), [1.0; 4]),
            "rewards/accuracies" | "kl/chosen" | "rewards/margins" => {
                assert_eq!(read(&metric), [0.0; 4], "{name}");
            }
            _ => {}
        }
    }
}

#[test]
fn ipo_averages_its_loss_but_not_its_rewards_as_in_trl() {
    assert_close("rewards", &metrics("[objective.ipo]")["rewards/chosen"], &[0.15, 0.05, -0.025, -0.3]);
}

#[test]
fn reference_free_objectives_reward_the_mean_token_log_prob() {
    let mut batch = inputs().batch();
    batch.reference = None;
    let outcome = objective("[objective.simpo]").unwrap().evaluate(&batch).unwrap();
    let names: Vec<_> = outcome.metrics.iter().map(|(name, _)| *name).collect();
    assert!(!names.contains(&"kl/chosen"), "{names:?}");
    let (_, chosen) = outcome.metrics.iter().find(|(n, _)| *n == "rewards/chosen").expect("reported");
    assert_close("rewards", &read(chosen), &[-2.4, -61.0 / 22.0, -14.5 / 6.0, -3.2]);
}

#[test]
fn metrics_do_not_hold_on_to_the_graph() {
    let outcome = objective("[objective.adpo]\nnll_weight = 1").unwrap();
    let outcome = outcome.evaluate(&inputs().batch()).unwrap();
    assert!(outcome.losses.is_autodiff());
    for (name, metric) in outcome.metrics {
        assert!(!metric.is_autodiff(), "{name}");
    }
}
