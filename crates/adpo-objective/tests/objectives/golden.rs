//! Values and gradients of every objective against float64 reference values that were computed, and
//! their gradients checked by central differences, outside of this project's code.

use crate::common::{assert_close, golden, gradients, inputs, losses, numbers, objective, read};

/// Name in golden.json, and the recipe that must reproduce it.
const CASES: [(&str, &str); 24] = [
    ("dpo_b0.1", "[objective.dpo]"),
    ("dpo_b0.3", "[objective.dpo]\nbeta = 0.3"),
    ("dpo_b0.9", "[objective.dpo]\nbeta = 0.9"),
    ("cdpo", "[objective.cdpo]"),
    ("robust_dpo", "[objective.robust]"),
    ("hinge", "[objective.hinge]"),
    ("ipo_avg", "[objective.ipo]"),
    ("ipo_sum", "[objective.ipo]\ntokens = \"summed\""),
    ("nca_pair", "[objective.nca_pair]"),
    ("apo_zero", "[objective.apo_zero]"),
    ("dpop_paper", "[objective.dpop]\nlambda = 5"),
    ("simpo", "[objective.simpo]"),
    ("orpo", "[objective.orpo]"),
    ("npo_t", "[objective.npo]"),
    ("pl3_ranking", "[objective.adpo]\nlink = \"plackett_luce\""),
    ("adpo_separate_ref", "[objective.adpo]"),
    ("adpo_separate_tox", "[objective.adpo]\nanchor = \"tox\""),
    ("adpo_joint_ref", "[objective.adpo]\nlink = \"joint\""),
    ("adpo_joint_tox", "[objective.adpo]\nlink = \"joint\"\nanchor = \"tox\""),
    ("adpo_pair_ref", "[objective.adpo]\nlink = \"pair\""),
    ("adpo_pair_tox", "[objective.adpo]\nlink = \"pair\"\nanchor = \"tox\""),
    ("adpo_linear_ref", "[objective.adpo]\nlink = \"linear\""),
    ("adpo_bounded_ref", "[objective.adpo]\nlink = \"bounded\""),
    ("adpo_separate_ref", "[objective.adpo]\nlink = \"separate\"\nanchor = \"ref\"\nbeta = 0.3\ngamma = 0.2\npenalty_weight = 1"),
];

#[test]
fn every_objective_reproduces_its_golden_losses_and_gradients() {
    let golden = golden();
    for (name, recipe) in CASES {
        let objective = objective(recipe).unwrap_or_else(|error| panic!("{name}: {error}"));
        let batch = inputs().batch();
        let outcome = objective.evaluate(&batch).unwrap_or_else(|error| panic!("{name}: {error}"));
        let expected = numbers(&golden["losses"][name]["per_sample"]);
        assert_close(name, &read(&outcome.losses), &expected);
        let found = gradients(&outcome, &batch);
        for (role, gradient) in ["pol_w", "pol_l", "pol_t"].into_iter().zip(found) {
            let expected = numbers(&golden["grads"][name][role]);
            assert_close(&format!("{name} d/d{role}"), &gradient, &expected);
        }
    }
}

#[test]
fn values_at_the_reference_are_the_golden_ones() {
    let golden = golden();
    let start = &golden["at_init_policy_eq_ref"];
    // The fixture's start has all log-probs at zero, those under the control token too.
    let mut zero = inputs();
    for values in [
        &mut zero.pol_w,
        &mut zero.pol_l,
        &mut zero.pol_t,
        &mut zero.ref_w,
        &mut zero.ref_l,
        &mut zero.ref_t,
        &mut zero.tox_w,
        &mut zero.tox_t,
    ] {
        values.fill(0.0);
    }
    let mut checked = 0;
    for (name, recipe) in CASES {
        if let Some(expected) = start[name].as_f64() {
            assert_close(name, &losses(recipe, &zero), &[expected; 4]);
            checked += 1;
        }
    }
    assert!(checked >= 13, "only {checked} starting values were compared");
}

#[test]
fn dpo_plus_an_nll_term_is_cpo_with_an_empty_reference() {
    // golden's cpo_full: −log σ(0.1 (log π_w − log π_l)) − log π_w / |y_w|.
    let mut no_reference = inputs();
    no_reference.ref_w.fill(0.0);
    no_reference.ref_l.fill(0.0);
    let batch = no_reference.batch();
    let objective = objective("[objective.dpo]\nnll_weight = 1").expect("a valid recipe");
    let outcome = objective.evaluate(&batch).expect("a complete batch");
    let golden = golden();
    let expected = numbers(&golden["losses"]["cpo_full"]["per_sample"]);
    assert_close("cpo_full", &read(&outcome.losses), &expected);
    let [chosen, rejected, _] = gradients(&outcome, &batch);
    assert_close("d/dpol_w", &chosen, &numbers(&golden["grads"]["cpo_full"]["pol_w"]));
    assert_close("d/dpol_l", &rejected, &numbers(&golden["grads"]["cpo_full"]["pol_l"]));
}
