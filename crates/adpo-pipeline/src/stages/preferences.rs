//! In place of stages 2 and 3: preferences that the user brings.

use std::path::Path;

use adpo_data::{Preference, write_jsonl_with};

use super::seed_run::SeedRun;
use super::stage::{Artifact, Stage, StageKind, TRIPLES};
use crate::PipelineError;
use crate::corpus::Corpus;
use crate::manifest::{Inputs, Made, Manifest};
use crate::recipe::Source;

pub(super) fn stages<'a>(run: &'a SeedRun<'_>) -> Vec<Box<dyn Stage + 'a>> {
    let own = run.recipe.preference.iter().filter(|preference| !preference.sources.is_empty());
    own.map(|preference| -> Box<dyn Stage> { Box::new(OwnPreferences { sources: &preference.sources }) }).collect()
}

struct OwnPreferences<'a> {
    sources: &'a [Source],
}

fn corpus<'a>(run: &SeedRun<'a>) -> Corpus<'a> {
    Corpus::new(run.resources, run.stream("preference-rows"))
}

impl Stage for OwnPreferences<'_> {
    fn kind(&self) -> StageKind {
        StageKind::Annotate
    }

    fn name(&self) -> String {
        "preferences".to_owned()
    }

    fn makes(&self) -> Artifact {
        Artifact::Triples
    }

    fn needs(&self) -> Vec<Artifact> {
        Vec::new()
    }

    fn inputs(&self, run: &SeedRun<'_>) -> Result<Inputs, PipelineError> {
        Ok(Inputs::new().value("seed", &run.seed).value("sources", &self.sources).hash("data", corpus(run).hash(self.sources)?))
    }

    fn work(&self, run: &SeedRun<'_>, _done: &[Manifest], folder: &Path) -> Result<Made, PipelineError> {
        let counts = write_jsonl_with(folder.join(TRIPLES), |file| {
            corpus(run).preferences(self.sources, |rows| Ok(rows.iter().try_for_each(|row| file.push(row))?))
        })?;
        Ok(Made { outputs: vec![TRIPLES], counts })
    }

    /// Rows that lack a toxic response are found here and not at the first step of a policy that penalises one.
    fn check_data(&self, run: &SeedRun<'_>) -> Result<(), PipelineError> {
        let penalises = run.recipe.policies.iter().find(|policy| policy.objective.needs_toxic());
        corpus(run).check::<Preference>("preference", self.sources, |row| match penalises {
            Some(policy) if row.value.toxic.is_none() => Err(format!(
                "row `{}` has no toxic response, and the objective of policy `{}` penalises one; give rows with `toxic`, or a pairwise \
                 objective such as dpo",
                row.id, policy.name
            )),
            _ => Ok(()),
        })
    }
}
