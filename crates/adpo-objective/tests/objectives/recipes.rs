//! Objectives as TOML: what can be written, what cannot, and that it survives the round trip.

use crate::common::objective;
use adpo_objective::{Adpo, Anchor, ApoZero, Cdpo, Dpo, Dpop, Hinge, Ipo, IpoTokens, Link, NcaPair, Npo, Objective, Orpo, Robust, Simpo};

fn all_with_defaults() -> Vec<Objective> {
    vec![
        Objective::Adpo(Adpo::default()),
        Objective::Dpo(Dpo::default()),
        Objective::Cdpo(Cdpo::default()),
        Objective::Ipo(Ipo::default()),
        Objective::Hinge(Hinge::default()),
        Objective::Robust(Robust::default()),
        Objective::ApoZero(ApoZero::default()),
        Objective::NcaPair(NcaPair::default()),
        Objective::Simpo(Simpo::default()),
        Objective::Orpo(Orpo::default()),
        Objective::Npo(Npo::default()),
        Objective::Dpop(Dpop::default()),
    ]
}

/// As it stands in a recipe: a table under `objective`.
fn written(objective: &Objective) -> String {
    let recipe = std::collections::BTreeMap::from([("objective", objective)]);
    toml::to_string(&recipe).expect("objectives are plain tables")
}

fn refused(recipe: &str) -> String {
    objective(recipe).expect_err("this recipe must be refused").to_string()
}

#[test]
fn every_objective_survives_a_round_trip_through_toml() {
    let mut all = all_with_defaults();
    for link in [Link::Separate, Link::Joint, Link::Pair, Link::Bounded, Link::Linear, Link::PlackettLuce] {
        all.push(Objective::Adpo(Adpo { link, ..Adpo::default() }).resolved());
    }
    all.push(Objective::Adpo(Adpo {
        link: Link::Pair,
        anchor: Anchor::Tox,
        beta: 0.25,
        gamma: Some(0.5),
        penalty_weight: Some(2.0),
        nll_weight: 0.1,
    }));
    all.push(Objective::Ipo(Ipo { tokens: IpoTokens::Summed, ..Ipo::default() }));
    for objective_in in all {
        let text = written(&objective_in);
        let back = objective(&text).unwrap_or_else(|error| panic!("{text}\n{error}"));
        assert_eq!(back, objective_in, "{text}");
    }
}

#[test]
fn an_empty_table_is_the_default() {
    for default in all_with_defaults() {
        let read = objective(&format!("[objective.{}]", default.name())).expect("an empty table");
        assert_eq!(read, default);
    }
}

#[test]
fn a_resolved_objective_spells_out_what_takes_effect() {
    let resolved = |link| {
        let objective = Objective::Adpo(Adpo { link, ..Adpo::default() }).resolved();
        let Objective::Adpo(adpo) = objective else { panic!("still ADPO") };
        (adpo.gamma, adpo.penalty_weight)
    };
    assert_eq!(resolved(Link::Separate), (Some(0.2), Some(1.0)));
    assert_eq!(resolved(Link::Joint), (Some(0.2), None));
    assert_eq!(resolved(Link::PlackettLuce), (None, None));
}

#[test]
fn an_option_of_another_objective_cannot_be_written() {
    let message = refused("[objective.dpo]\nlabel_smoothing = 0.1");
    assert!(message.contains("unknown field `label_smoothing`"), "{message}");
    assert!(message.contains("line 2"), "{message}");
    for recipe in [
        "[objective.dpo]\ngamma = 0.2",
        "[objective.npo]\nnll_weight = 1",
        "[objective.orpo]\nbeta = 0.1",
        "[objective.ipo]\nlink = \"joint\"",
        "[objective.adpo]\nlambda = 1",
    ] {
        assert!(refused(recipe).contains("unknown field"), "{recipe}");
    }
}

#[test]
fn an_option_without_a_place_in_the_link_names_the_fix() {
    for link in ["joint", "linear", "plackett_luce"] {
        let message = refused(&format!("[objective.adpo]\nlink = \"{link}\"\npenalty_weight = 1"));
        let expected = format!("penalty_weight has no place in link = \"{link}\"; remove it");
        assert!(message.contains(&expected), "{message}");
    }
    let message = refused("[objective.adpo]\nlink = \"plackett_luce\"\ngamma = 0.2");
    assert!(message.contains("gamma has no place in link = \"plackett_luce\""), "{message}");
    let message = refused("[objective.adpo]\nlink = \"plackett_luce\"\nanchor = \"tox\"");
    assert!(message.contains("write anchor = \"ref\""), "{message}");
}

#[test]
fn numbers_out_of_range_are_refused_with_what_is_allowed() {
    let message = refused("[objective.dpo]\nbeta = 0");
    assert!(message.contains("objective.dpo: beta = 0 is out of range; set beta to a number above 0"), "{message}");
    for recipe in [
        "[objective.adpo]\ngamma = 0",
        "[objective.adpo]\npenalty_weight = -1",
        "[objective.adpo]\nnll_weight = -0.1",
        "[objective.dpo]\nbeta = nan",
        "[objective.dpo]\nbeta = inf",
        "[objective.cdpo]\nlabel_smoothing = 0.5",
        "[objective.robust]\nlabel_smoothing = -0.1",
        "[objective.simpo]\ngamma = -1",
        "[objective.orpo]\nlambda = -1",
        "[objective.dpop]\nlambda = -1",
    ] {
        assert!(refused(recipe).contains("is out of range"), "{recipe}");
    }
}

#[test]
fn options_set_in_code_are_checked_before_they_are_used() {
    let objective = Objective::Dpo(Dpo { beta: -0.1, ..Dpo::default() });
    let error = objective.evaluate(&crate::common::inputs().batch()).expect_err("β must be above 0");
    assert_eq!(Err(error), objective.validate());
}

#[test]
fn exactly_one_objective_can_be_chosen() {
    refused("[objective.dpo]\n[objective.adpo]");
    refused("[objective]");
    let message = refused("[objective.adppo]");
    assert!(message.contains("unknown variant `adppo`"), "{message}");
}
