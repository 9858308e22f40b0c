//! In place of stages 2 and 3: preferences that the user brings.

use adpo_data::write_jsonl_with;

use super::{SeedRun, TRIPLES};
use crate::PipelineError;
use crate::corpus::Corpus;
use crate::stage::{Inputs, Made, Manifest};

pub(super) fn run(run: &SeedRun<'_>) -> Result<Manifest, PipelineError> {
    let sources = &run.recipe.preference.sources;
    let corpus = Corpus::new(run.resources, run.stream("preference-rows"));
    let inputs = Inputs::new().value("seed", &run.seed).value("sources", sources).hash("data", corpus.hash(sources)?);
    run.run_stage("preferences", inputs, |folder| {
        let counts = write_jsonl_with(folder.join(TRIPLES), |file| {
            corpus.preferences(sources, |rows| Ok(rows.iter().try_for_each(|row| file.push(row))?))
        })?;
        Ok(Made { outputs: vec![TRIPLES], counts })
    })
}
