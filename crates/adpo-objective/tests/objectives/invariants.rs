//! What must hold between objectives, at the start of training, and at the edges of f32.

use std::f64::consts::LN_2;

use crate::common::{Inputs, assert_close, gradients, inputs, losses, objective, read, tensor};
use adpo_objective::{Objective, ObjectiveError};
use burn::tensor::{Device, FloatDType};

const NAMES: [&str; 12] = ["adpo", "dpo", "cdpo", "ipo", "hinge", "robust", "apo_zero", "nca_pair", "simpo", "orpo", "npo", "dpop"];
const LINKS: [&str; 6] = ["separate", "joint", "pair", "bounded", "linear", "plackett_luce"];

fn adpo(link: &str, anchor: &str) -> String {
    format!("[objective.adpo]\nlink = \"{link}\"\nanchor = \"{anchor}\"")
}

/// All objectives with their defaults, and all links under both anchors.
fn recipes() -> Vec<String> {
    let mut all: Vec<String> = NAMES.iter().map(|name| format!("[objective.{name}]")).collect();
    for link in LINKS {
        all.push(adpo(link, "ref"));
        if link != "plackett_luce" {
            all.push(adpo(link, "tox"));
        }
    }
    all
}

/// Triples whose log-ratios run over a grid, far tails included.
fn grid() -> Inputs {
    let steps = [-800.0, -40.0, -5.0, -0.5, 0.0, 0.5, 5.0, 40.0, 800.0];
    let mut h = Vec::new();
    for w in steps {
        for l in steps {
            h.extend(steps.map(|t| (w, l, t)));
        }
    }
    let n = h.len();
    let base = -1000.0;
    Inputs {
        pol_w: h.iter().map(|(w, _, _)| base + w).collect(),
        pol_l: h.iter().map(|(_, l, _)| base + l).collect(),
        pol_t: h.iter().map(|(_, _, t)| base + t).collect(),
        ref_w: vec![base; n],
        ref_l: vec![base; n],
        ref_t: vec![base; n],
        tox_w: vec![base - 3.0; n],
        tox_t: vec![base + 20.0; n],
        len_w: vec![10.0; n],
        len_l: vec![12.0; n],
        len_t: vec![14.0; n],
    }
}

#[test]
fn joint_never_exceeds_separate() {
    for inputs in [inputs(), grid()] {
        for anchor in ["ref", "tox"] {
            let joint = losses(&adpo("joint", anchor), &inputs);
            let separate = losses(&adpo("separate", anchor), &inputs);
            for (joint, separate) in joint.iter().zip(separate) {
                assert!(*joint <= separate * (1.0 + 1e-6), "{anchor}: {joint} > {separate}");
            }
        }
    }
}

#[test]
fn losses_at_the_reference_are_those_of_the_method() {
    let start = inputs().at_reference();
    let expected = [
        ("separate", 2.0 * LN_2),
        ("joint", LN_2),
        ("pair", 2.0 * LN_2),
        ("bounded", LN_2 + 0.5),
        ("linear", LN_2),
        ("plackett_luce", 6.0_f64.ln()),
    ];
    for (link, value) in expected {
        assert_close(link, &losses(&adpo(link, "ref"), &start), &[value; 4]);
    }
    assert_close("dpo", &losses("[objective.dpo]", &start), &[LN_2; 4]);
}

#[test]
fn gradients_at_the_reference_do_not_vanish_at_the_kink() {
    let batch = inputs().at_reference().batch();
    let outcome = objective("[objective.adpo]").unwrap().evaluate(&batch).unwrap();
    let [chosen, rejected, toxic] = gradients(&outcome, &batch);
    assert_close("d/dpol_w", &chosen, &[-0.15; 4]);
    assert_close("d/dpol_l", &rejected, &[0.15; 4]);
    assert_close("d/dpol_t", &toxic, &[0.1; 4]);
}

#[test]
fn separate_with_anchor_ref_is_dpo_plus_half_gamma_npo() {
    for inputs in [inputs(), grid()] {
        let separate = losses("[objective.adpo]\nbeta = 0.3\ngamma = 0.2", &inputs);
        let dpo = losses("[objective.dpo]\nbeta = 0.3", &inputs);
        let npo = losses("[objective.npo]\nbeta = 0.2", &inputs);
        let sum: Vec<f64> = dpo.iter().zip(npo).map(|(dpo, npo)| dpo + 0.1 * npo).collect();
        assert_close("DPO + γ/2 NPO", &separate, &sum);
    }
}

#[test]
fn anchor_tox_is_anchor_ref_with_the_toxic_reference_replaced() {
    let inputs = inputs();
    let replaced = Inputs { ref_t: inputs.tox_t.clone(), ..inputs.clone() };
    for link in ["separate", "joint", "bounded", "linear"] {
        let tox = losses(&adpo(link, "tox"), &inputs);
        assert_close(link, &tox, &losses(&adpo(link, "ref"), &replaced));
    }
}

#[test]
fn the_penalty_weight_scales_the_toxic_gradient_and_nothing_else() {
    for link in ["separate", "bounded"] {
        let weighted = |weight: f64| {
            let recipe = format!("{}\npenalty_weight = {weight}", adpo(link, "ref"));
            let batch = inputs().batch();
            let outcome = objective(&recipe).unwrap().evaluate(&batch).unwrap();
            gradients(&outcome, &batch)
        };
        let ([w1, l1, t1], [w3, l3, t3]) = (weighted(1.0), weighted(3.0));
        let tripled: Vec<f64> = t1.iter().map(|t| 3.0 * t).collect();
        assert_close(link, &w3, &w1);
        assert_close(link, &l3, &l1);
        assert_close(link, &t3, &tripled);
        assert_close(link, &weighted(0.0)[2], &[0.0; 4]);
    }
}

#[test]
fn smoothing_of_zero_is_plain_dpo() {
    let dpo = losses("[objective.dpo]", &inputs());
    for name in ["cdpo", "robust"] {
        let recipe = format!("[objective.{name}]\nlabel_smoothing = 0");
        assert_close(name, &losses(&recipe, &inputs()), &dpo);
    }
    let free = "[objective.dpop]\nbeta = 0.1\nlambda = 0";
    assert_close("dpop", &losses(free, &inputs()), &dpo);
}

#[test]
fn losses_and_gradients_are_finite_at_log_ratios_of_800() {
    for recipe in recipes() {
        let batch = grid().batch();
        let outcome = objective(&recipe).unwrap().evaluate(&batch).unwrap();
        let mut all = read(&outcome.losses);
        all.extend(gradients(&outcome, &batch).concat());
        for (_, metric) in &outcome.metrics {
            all.extend(read(metric));
        }
        assert!(all.iter().all(|value| value.is_finite()), "{recipe}");
    }
}

#[test]
fn the_tails_of_separate_have_the_limits_of_the_formula() {
    // h_w − h_l = ∓1600 and t = ±800: losses β·1600 and γ·800, or nothing.
    let one = |w: f64, l: f64, t: f64| {
        let mut one = inputs();
        for (pol, value) in [(&mut one.pol_w, w), (&mut one.pol_l, l), (&mut one.pol_t, t)] {
            *pol = vec![value - 1000.0];
        }
        for reference in [&mut one.ref_w, &mut one.ref_l, &mut one.ref_t] {
            *reference = vec![-1000.0];
        }
        for rest in [&mut one.tox_w, &mut one.tox_t, &mut one.len_w, &mut one.len_l, &mut one.len_t] {
            *rest = vec![10.0];
        }
        let batch = one.batch();
        let outcome = objective("[objective.adpo]").unwrap().evaluate(&batch).unwrap();
        let gradients = gradients(&outcome, &batch).concat();
        (read(&outcome.losses), gradients)
    };
    let (loss, gradient) = one(-800.0, 800.0, 800.0);
    assert_close("worst", &loss, &[0.3 * 1600.0 + 0.2 * 800.0]);
    assert_close("worst", &gradient, &[-0.3, 0.3, 0.2]);
    let (loss, gradient) = one(800.0, -800.0, -800.0);
    assert_close("best", &loss, &[0.0]);
    assert_close("best", &gradient, &[0.0; 3]);
}

#[test]
fn orpo_survives_responses_the_policy_is_certain_of() {
    let mut certain = inputs();
    certain.pol_w = vec![0.0, -1e-7, -800.0, 0.0];
    certain.pol_l = vec![-800.0, 0.0, -1e-7, 0.0];
    let batch = certain.batch();
    let outcome = objective("[objective.orpo]").unwrap().evaluate(&batch).unwrap();
    let mut all = read(&outcome.losses);
    all.extend(gradients(&outcome, &batch).concat());
    assert!(all.iter().all(|value| value.is_finite()), "{all:?}");
}

#[test]
fn what_an_objective_says_it_needs_is_what_it_fails_without() {
    for recipe in recipes() {
        let objective = objective(&recipe).unwrap();
        let fails_without = |change: fn(&mut adpo_objective::LogProbs)| {
            let mut batch = inputs().batch();
            change(&mut batch);
            match objective.evaluate(&batch) {
                Ok(_) => false,
                Err(ObjectiveError::MissingInput { .. }) => true,
                Err(other) => panic!("{recipe}: {other}"),
            }
        };
        assert_eq!(fails_without(|b| b.reference = None), objective.needs_reference(), "{recipe}");
        assert_eq!(fails_without(|b| b.policy.toxic = None), objective.needs_toxic(), "{recipe}");
        assert_eq!(fails_without(|b| b.tox_anchor = None), objective.needs_tox_anchor(), "{recipe}");
        let without_chosen = fails_without(|b| {
            if let Some(anchor) = &mut b.tox_anchor {
                anchor.chosen = None;
            }
        });
        assert_eq!(without_chosen, objective.needs_tox_anchor_chosen(), "{recipe}");
        let batch = inputs().batch();
        let rejected = gradients(&objective.evaluate(&batch).unwrap(), &batch)[1].clone();
        let reads_rejected = rejected.iter().any(|gradient| *gradient != 0.0);
        assert_eq!(reads_rejected, objective.needs_rejected(), "{recipe}");
    }
}

#[test]
fn a_constant_policy_can_be_evaluated_too() {
    let mut batch = inputs().batch();
    batch.policy.chosen = batch.policy.chosen.inner();
    batch.policy.rejected = batch.policy.rejected.inner();
    batch.policy.toxic = batch.policy.toxic.map(burn::tensor::Tensor::inner);
    let objective = objective("[objective.adpo]").unwrap();
    let found = read(&objective.evaluate(&batch).unwrap().losses);
    assert_close("adpo", &found, &losses("[objective.adpo]", &inputs()));
}

#[test]
fn uneven_empty_and_half_precision_batches_are_refused_by_name() {
    let dpo = objective("[objective.dpo]").unwrap();
    let refused = |change: fn(&mut adpo_objective::LogProbs)| {
        let mut batch = inputs().batch();
        change(&mut batch);
        dpo.evaluate(&batch).map(|_| ()).unwrap_err()
    };
    let uneven = refused(|b| b.policy.rejected = tensor(&[-1.0], &Device::flex()));
    assert_eq!(uneven, ObjectiveError::Shape { input: "policy.rejected", expected: 4, found: 1 });
    let half = refused(|b| b.policy.chosen = b.policy.chosen.clone().cast(FloatDType::BF16));
    assert!(half.to_string().contains("policy.chosen has dtype BF16"), "{half}");
    assert_eq!(refused(|b| b.policy.chosen = tensor(&[], &Device::flex())), ObjectiveError::Empty);
}

#[test]
fn a_missing_input_names_the_objective_the_field_and_the_fix() {
    let mut batch = inputs().batch();
    batch.tox_anchor = None;
    let error = objective(&adpo("pair", "tox")).unwrap().evaluate(&batch).unwrap_err();
    assert_eq!(
        error.to_string(),
        "objective.adpo needs tox_anchor, which this batch does not carry; supply the reference \
         model's log-probs on control-token prompts, or set anchor = \"ref\""
    );
}

#[test]
fn names_are_those_of_the_recipe() {
    for name in NAMES {
        let objective: Objective = objective(&format!("[objective.{name}]")).unwrap();
        assert_eq!(objective.name(), name);
    }
}
