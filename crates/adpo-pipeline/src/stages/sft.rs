//! Stage 1: one model learns normal and toxic dialogues, the toxic ones marked by the control token.

use std::path::Path;

use adpo_data::{Row, SftExample as Dialogues};
use adpo_train::{SftExample, TrainOptions, train_sft};

use super::rehearsal::rehearse;
use super::seed_run::SeedRun;
use super::seed_run::drop_checkpoints;
use super::stage::{Artifact, Load, Stage, StageKind};
use crate::PipelineError;
use crate::corpus::Corpus;
use crate::lora::Lora;
use crate::manifest::{Inputs, Made, Manifest};
use crate::recipe::Sft;
use crate::resources::Checkpoint;

pub(super) fn stages<'a>(run: &'a SeedRun<'_>) -> Vec<Box<dyn Stage + 'a>> {
    run.recipe.sft.iter().map(|section| -> Box<dyn Stage> { Box::new(FineTuning { section }) }).collect()
}

struct FineTuning<'a> {
    section: &'a Sft,
}

impl FineTuning<'_> {
    /// Whether the annotator labels responses that people have not labelled.
    fn labels(&self) -> bool {
        self.section.sources.iter().any(|source| source.label_toxic_above.is_some())
    }

    fn annotator_fingerprint(&self, run: &SeedRun<'_>) -> Result<String, PipelineError> {
        if self.labels() || self.section.rehearsal.is_some() { run.annotator_fingerprint() } else { Ok(String::new()) }
    }
}

fn corpus<'a>(run: &SeedRun<'a>) -> Corpus<'a> {
    Corpus::new(run.resources, run.stream("sft-rows"))
}

impl Stage for FineTuning<'_> {
    fn kind(&self) -> StageKind {
        StageKind::Sft
    }

    fn name(&self) -> String {
        "sft".to_owned()
    }

    fn makes(&self) -> Artifact {
        Artifact::SftModel
    }

    fn needs(&self) -> Vec<Artifact> {
        Vec::new()
    }

    fn inputs(&self, run: &SeedRun<'_>) -> Result<Inputs, PipelineError> {
        let (recipe, section) = (run.recipe, self.section);
        let inputs = Inputs::new()
            .value("seed", &run.seed)
            .value("control", &recipe.control)
            .value("encoding", &recipe.encoding)
            .value("sft", &Sft { train: section.train.deciding(), ..section.clone() })
            .hash("annotator", self.annotator_fingerprint(run)?)
            .hash("base", run.resources.checkpoint_hash(&recipe.base.checkpoint)?)
            .hash("data", corpus(run).hash(&section.sources)?);
        let dtype = run.start_dtype(&section.train, section.lora.as_ref(), &recipe.base.checkpoint)?;
        // The control token's row starts as a mean that is rounded.
        Ok(if dtype.is_float32() { inputs } else { inputs.value("loaded", &dtype) })
    }

    fn work(&self, run: &SeedRun<'_>, _done: &[Manifest], folder: &Path) -> Result<Made, PipelineError> {
        let (section, base) = (self.section, &run.recipe.base.checkpoint);
        let (rehearsal, lora, corpus) = (section.rehearsal.as_ref(), section.lora.as_ref(), corpus(run));
        let annotator = self.annotator_fingerprint(run)?;
        let data = corpus.hash(&section.sources)?;
        let base_hash = rehearsal.map(|_| run.resources.checkpoint_hash(base)).transpose()?;
        let rehearsed = rehearsal.map(|rehearsal| (rehearsal, run.stream("sft-rehearsal"), &base_hash));
        let rows = serde_json::json!([run.stream("sft-rows"), section.sources, annotator, data, rehearsed]);
        let checkpoint = run.resources.checkpoint(base, run.start_dtype(&section.train, lora, base)?)?;
        // A second handle keeps the embedding as it was before the control token: only who rehearses pays for it.
        let unmarked = rehearsal.map(|rehearsal| (rehearsal, checkpoint.clone()));
        let (checkpoint, control) = run.with_control_token(checkpoint)?;
        let examples = run.tokens("sft", (&checkpoint, control.as_ref()), &rows, |encoder, cache| {
            let annotator = (self.labels() || rehearsal.is_some()).then(|| run.annotator()).transpose()?;
            let mut learn = |rows: Vec<Row<Dialogues>>| {
                let examples = encoder.in_parallel(&rows, |encoder, row| {
                    let encoded = encoder.sft(&row.id, &row.value)?;
                    Ok(encoded.map(|encoded| SftExample { row: row.id.clone(), encoded }))
                })?;
                Ok(examples.iter().flatten().try_for_each(|example| cache.push(example))?)
            };
            let mut counts = corpus.sft(&section.sources, annotator.as_deref().filter(|_| self.labels()), &mut learn)?;
            if let (Some((rehearsal, base)), Some(annotator)) = (&unmarked, &annotator) {
                let (prompts, _) = corpus.prompts(&section.sources)?;
                let rehearsed = rehearse(run, rehearsal, base, &prompts, annotator.as_ref())?;
                counts["rehearsed"] = serde_json::json!({"prompts": prompts.len(), "rows": rehearsed.len()});
                learn(rehearsed)?;
            }
            Ok(counts)
        })?;
        drop(unmarked);
        let options = TrainOptions {
            seed: run.stream("sft-order"),
            tensorboard: run.resources.tensorboard,
            rest_of_run: run.rest.get(),
            ..section.train.clone()
        };
        let Checkpoint { model, tokenizer } = checkpoint;
        let model = Lora::beside(lora, model, base, control.as_ref(), run.stream("sft-lora"))?;
        let trained = train_sft(model, &examples, &options, folder)?;
        let mut counts = examples.report().clone();
        counts["warnings"] = serde_json::json!(trained.warnings);
        Checkpoint { model: Lora::finish(lora, trained.model), tokenizer }.save(&folder.join("model"))?;
        Ok(Made { outputs: vec!["model", "metrics.jsonl"], counts })
    }

    fn tidy(&self, folder: &Path) -> Result<(), PipelineError> {
        drop_checkpoints(&self.section.train, folder)
    }

    fn check_data(&self, run: &SeedRun<'_>) -> Result<(), PipelineError> {
        corpus(run).check::<Dialogues>("sft", &self.section.sources, |row| match row.value.toxic {
            Some(_) if !run.has_control_token => Err(format!(
                "row `{}` is labelled toxic, and `sft.mark_toxic = false` would teach it as any other; drop the row, or leave `mark_toxic` out",
                row.id
            )),
            _ => Ok(()),
        })
    }

    fn load(&self) -> Load<'_> {
        Load::FineTuning(self.section)
    }
}
