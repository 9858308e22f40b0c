//! Reads recipes and says what each would run: a dry check before anything is loaded.
//!
//! `cargo run --release -p adpo-pipeline --example check_recipe -- recipes/*.toml`

use adpo_pipeline::{PipelineError, Recipe};

fn main() -> Result<(), PipelineError> {
    for path in std::env::args().skip(1) {
        let recipe = Recipe::from_file(path.as_ref())?;
        let policies: Vec<String> = recipe.policies.iter().map(|p| format!("{} ({})", p.name, p.objective.name())).collect();
        println!("{}: base {}, {} seed(s), policies {}", recipe.name, recipe.base.checkpoint, recipe.seeds.len(), policies.join(", "));
    }
    Ok(())
}
