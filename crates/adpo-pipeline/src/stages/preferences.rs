//! In place of stages 2 and 3: preferences that the user brings.

use adpo_data::write_jsonl;

use super::{SeedRun, TRIPLES};
use crate::PipelineError;
use crate::corpus::Corpus;
use crate::stage::{Inputs, Made, Manifest};

pub(super) fn run(run: &SeedRun<'_>) -> Result<Manifest, PipelineError> {
    let sources = &run.recipe.preference.sources;
    let corpus = Corpus::new(run.resources, run.stream("preference-rows"));
    let inputs = Inputs::new().value("seed", &run.seed).value("sources", sources).hash("data", corpus.hash(sources)?);
    run.run_stage("preferences", inputs, |folder| {
        let (rows, counts) = corpus.preferences(sources)?;
        write_jsonl(folder.join(TRIPLES), &rows)?;
        Ok(Made { outputs: vec![TRIPLES], counts })
    })
}
