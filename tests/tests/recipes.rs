//! Every recipe that the project ships can be read by the program that ships it.

use std::path::Path;

use adpo_objective::Objective;
use adpo_pipeline::{BaseRecipe, Pairs, Policy, Recipe};

fn recipes() -> impl Iterator<Item = std::path::PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = std::fs::read_dir(root.join("../recipes")).expect("the recipes are there");
    let files = entries.map(|entry| entry.expect("readable").path()).filter(|path| path.extension().is_some_and(|e| e == "toml"));
    files.chain([root.join("../crates/adpo-cli/assets/quickstart.toml")])
}

/// Whether it makes a base model.
fn is_base(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("tiny-base"))
}

#[test]
fn every_recipe_parses_and_has_the_baselines_of_a_fair_comparison() {
    let mut runs = 0;
    for path in recipes() {
        if is_base(&path) {
            BaseRecipe::from_file(&path).expect("the base recipe parses");
            continue;
        }
        let recipe = Recipe::from_file(&path).unwrap_or_else(|e| panic!("{e}"));
        // ADPO, DPO at ADPO's β, and DPO on all that ADPO sees.
        let has = |wanted: &dyn Fn(&Policy) -> bool| recipe.policies.iter().any(wanted);
        assert!(has(&|policy| matches!(policy.objective, Objective::Adpo(_))), "{}", path.display());
        for pairs in [Pairs::Rejected, Pairs::RejectedAndToxic] {
            let baseline = |policy: &Policy| policy.pairs == pairs && matches!(&policy.objective, Objective::Dpo(dpo) if dpo.beta == 0.3);
            assert!(has(&baseline), "{}: {pairs:?}", path.display());
        }
        runs += 1;
    }
    assert_eq!(runs, 8);
}

#[test]
fn a_resolved_recipe_is_a_recipe() {
    for path in recipes().filter(|path| !is_base(path)) {
        let recipe = Recipe::from_file(&path).unwrap_or_else(|e| panic!("{e}"));
        let text = toml::to_string(&recipe).expect("serialises");
        assert_eq!(Recipe::from_toml(&text, "resolved").expect("parses"), recipe);
    }
}

#[test]
fn an_audit_of_a_system_that_is_not_there_is_refused() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/adpo-cli/assets/quickstart.toml");
    let mut recipe = Recipe::from_file(&path).expect("the recipe parses");
    recipe.evaluate.as_mut().expect("it evaluates").audit = Some(vec!["sft".to_owned(), "dpo".to_owned()]);
    let text = toml::to_string(&recipe).expect("serialises");
    let error = Recipe::from_toml(&text, "edited.toml").expect_err("no system is called dpo").to_string();
    assert!(error.contains("evaluate.audit") && error.contains("`dpo`") && error.contains("dpo-0.3"), "{error}");
}

#[test]
fn a_share_of_evasive_responses_belongs_to_rows_that_say_which_they_are() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/adpo-cli/assets/quickstart.toml");
    let text = std::fs::read_to_string(path).expect("readable");
    let refused = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        Recipe::from_toml(&text.replacen(from, to, 1), "edited.toml").expect_err("refused").to_string()
    };
    let other = refused(r#"{ id = "embedded:dialogues", buckets = [0, 1, 3]"#, r#"{ id = "hh.jsonl", buckets = [0, 1, 3]"#);
    assert!(other.contains("`hh.jsonl`: `evasive_share` belongs to `embedded:dialogues`"), "{other}");
    let above = refused("evasive_share = 0.25", "evasive_share = 1.5");
    assert!(above.contains("`evasive_share` lies in [0, 1]"), "{above}");
    let none = refused("samples = 3", "samples = 0");
    assert!(none.contains("`sft.rehearsal.samples` lies between 1 and 10000"), "{none}");
}
