//! Stage 4: every policy of the recipe, each from the same model, on the same triples, for the same number of steps.

use std::path::Path;

use adpo_data::{EncodedRows, EncodedTriple, Encoder, Preference, Row, stream_jsonl};
use adpo_train::{Reference, TrainOptions, train_preference};

use super::seed_run::SeedRun;
use super::seed_run::drop_checkpoints;
use super::stage::{Artifact, Load, Stage, StageKind, TRIPLES};
use crate::PipelineError;
use crate::corpus::chunks;
use crate::lora::Lora;
use crate::manifest::{Inputs, Made, Manifest};
use crate::recipe::{self, Pairs, Policy, ReferenceChoice};
use crate::resources::Checkpoint;

pub(super) fn stages<'a>(run: &'a SeedRun<'_>) -> Vec<Box<dyn Stage + 'a>> {
    let Some(section) = &run.recipe.preference else { return Vec::new() };
    let policies = run.recipe.policies.iter();
    policies.map(|policy| -> Box<dyn Stage> { Box::new(Training { section, policy, start: run.start() }) }).collect()
}

struct Training<'a> {
    section: &'a recipe::Preference,
    policy: &'a Policy,
    start: Option<Artifact>,
}

impl Stage for Training<'_> {
    fn kind(&self) -> StageKind {
        StageKind::Train
    }

    fn name(&self) -> String {
        format!("policies/{}", self.policy.name)
    }

    fn makes(&self) -> Artifact {
        Artifact::Policy(self.policy.name.clone())
    }

    fn needs(&self) -> Vec<Artifact> {
        self.start.iter().cloned().chain([Artifact::Triples]).collect()
    }

    fn inputs(&self, run: &SeedRun<'_>) -> Result<Inputs, PipelineError> {
        let inputs = Inputs::new()
            .value("seed", &run.seed)
            .value("encoding", &run.recipe.encoding)
            .value("preference", &recipe::Preference { train: self.section.train.deciding(), ..self.section.clone() })
            .value("policy", self.policy);
        run.hash_start(inputs)
    }

    fn work(&self, run: &SeedRun<'_>, done: &[Manifest], folder: &Path) -> Result<Made, PipelineError> {
        let Self { section, policy, .. } = *self;
        let (lora, start) = (section.lora.as_ref(), run.start_checkpoint());
        let train = policy.train_options(&section.train).map_err(|problem| run.refuse(problem))?;
        let (checkpoint, control) = run.start_model(run.start_dtype(&train, lora, &start)?)?;
        let made = done.iter().find(|manifest| run.stage(&manifest.stage).join(TRIPLES).exists());
        let made = made.ok_or_else(|| PipelineError::stage(&self.name(), "there are no triples"))?;
        let (file, both) = (run.stage(&made.stage).join(TRIPLES), policy.pairs == Pairs::RejectedAndToxic);
        let triples = run.tokens("triples", (&checkpoint, control.as_ref()), &(made.hash(), policy.pairs), |encoder, cache| {
            let mut rows = 0;
            chunks(stream_jsonl::<Row<Preference>>(file)?, |chunk| {
                rows += chunk.len();
                for triple in encoder.in_parallel(&chunk, Encoder::preference)?.into_iter().flatten() {
                    if both { both_pairs(triple).iter().try_for_each(|pair| cache.push(pair))? } else { cache.push(&triple)? }
                }
                Ok(())
            })?;
            Ok(serde_json::json!({ "triples": rows }))
        })?;
        let mut options = TrainOptions {
            seed: run.stream("preference-order"),
            tensorboard: run.resources.tensorboard,
            rest_of_run: run.rest.get(),
            ..train
        };
        if both {
            options.batch_size *= 2;
        }
        let objective = &policy.objective;
        let device = &run.resources.device;
        let reference = match section.reference {
            _ if !objective.needs_reference() => None,
            // Beside adapters, whose base has that type already, it shares the policy's own weights.
            ReferenceChoice::Live => Some(Reference::live(checkpoint.model.clone().with_dtype(options.dtype), device)),
            ReferenceChoice::Precomputed => {
                Some(Reference::precomputed(&checkpoint.model, &triples, objective, &options, device, &run.stage("reference"))?)
            }
        };
        let model = Lora::beside(lora, checkpoint.model, &start, control.as_ref(), run.stream("preference-lora"))?;
        let trained = train_preference(model, reference.as_ref(), &triples, objective, &options, folder)?;
        Checkpoint { model: Lora::finish(lora, trained.model), tokenizer: checkpoint.tokenizer }.save(&folder.join("model"))?;
        let mut counts = triples.report().clone();
        counts["examples"] = triples.len().into();
        counts["warnings"] = serde_json::json!(trained.warnings);
        Ok(Made { outputs: vec!["model", "metrics.jsonl"], counts })
    }

    fn tidy(&self, folder: &Path) -> Result<(), PipelineError> {
        drop_checkpoints(&self.section.train, folder)
    }

    fn check_data(&self, run: &SeedRun<'_>) -> Result<(), PipelineError> {
        if self.policy.objective.needs_tox_anchor() && !run.has_control_token {
            return Err(run.refuse(format!(
                "the anchor of policy `{}` is the reference's response to `{}`, which the base does not know; take `anchor = \"ref\"`, or \
                 teach the token in `[sft]`",
                self.policy.name, run.recipe.control.token
            )));
        }
        Ok(())
    }

    fn load(&self) -> Load<'_> {
        Load::PreferenceTraining(self.section, self.policy)
    }
}

/// (`y_w`, `y_l`) and (`y_w`, `y_t`).
pub(crate) fn both_pairs(triple: EncodedTriple) -> Vec<EncodedTriple> {
    let toxic = triple.toxic.clone().map(|toxic| EncodedTriple {
        row: format!("{}#toxic", triple.row),
        rejected: toxic,
        toxic: None,
        ..triple.clone()
    });
    std::iter::once(EncodedTriple { toxic: None, ..triple }).chain(toxic).collect()
}
