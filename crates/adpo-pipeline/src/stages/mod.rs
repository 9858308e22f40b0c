//! The stages, in the order of the method. Each reads what the one before it wrote.

mod annotate;
mod asking;
mod compare;
mod evaluate;
mod preferences;
mod rehearsal;
mod sample;
mod sft;
mod tokens;
mod train;

use std::path::{Path, PathBuf};

use adpo_data::{ControlToken, Encoder, EncodingOptions, derive_seed};
use adpo_eval::{AnnotationRule, EmbeddedJudge, EvalError, Exchange, Judge, Judgement};
use adpo_model::Storage;
use adpo_train::TrainOptions;

use crate::PipelineError;
use crate::judge_choice::JudgeChoice;
use crate::lora::Lora;
use crate::recipe::Recipe;
use crate::resources::{Checkpoint, Resources, adapters};
use crate::stage::{Inputs, Made, Manifest, run_stage};

pub(crate) use asking::Asking;
pub(crate) use compare::compare;
pub use evaluate::Answered;
pub use sample::Candidates;
pub(crate) use train::both_pairs;

/// What training reads, whichever stage wrote it.
pub(crate) const TRIPLES: &str = "triples.jsonl";

/// How far a run goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Fine-tuning with the control token.
    Sft,
    /// Plain and toxic candidates.
    Sample,
    /// Triples.
    Annotate,
    /// Every policy.
    Train,
    /// Answers and their scores.
    Evaluate,
    /// The report.
    Compare,
}

/// One seed of a run.
pub(crate) struct SeedRun<'a> {
    pub recipe: &'a Recipe,
    pub resources: &'a Resources,
    pub seed: u64,
    /// `<run folder>/seed-<seed>`.
    pub folder: PathBuf,
}

impl SeedRun<'_> {
    /// Runs the stages up to `last` and returns the manifests.
    pub(crate) fn run(&self, last: Stage) -> Result<Vec<Manifest>, PipelineError> {
        self.check_lengths()?;
        self.check_adapters()?;
        let sft = sft::run(self)?;
        let mut done = vec![sft.clone()];
        if last < Stage::Sample {
            return Ok(done);
        }
        let triples = if let Some(section) = &self.recipe.sample {
            let candidates = sample::run(self, section, &sft)?;
            done.push(candidates.clone());
            if last < Stage::Annotate {
                return Ok(done);
            }
            annotate::run(self, &candidates)?
        } else {
            preferences::run(self)?
        };
        done.push(triples.clone());
        if last < Stage::Train {
            return Ok(done);
        }
        let policies = train::run(self, &sft, &triples)?;
        done.extend(policies.iter().cloned());
        if last >= Stage::Evaluate {
            done.extend(evaluate::run(self, &sft, &policies)?);
        }
        Ok(done)
    }

    /// Refuses lengths that the base cannot hold: found out at the first long prompt, they would cost what ran before it.
    fn check_lengths(&self) -> Result<(), PipelineError> {
        let limit = self.resources.config(&self.recipe.base.checkpoint)?.max_position_embeddings;
        let longest = self.recipe.encoding.max_length;
        for (section, draw) in self.recipe.draws() {
            let needed = longest + draw.max_new_tokens;
            if needed > limit {
                return Err(PipelineError::Recipe {
                    recipe: self.recipe.name.clone(),
                    problem: format!(
                        "`encoding.max_length` = {longest} and `{section}.draw.max_new_tokens` = {} make {needed} tokens, but the base has \
                         max_position_embeddings = {limit}; lower one of them",
                        draw.max_new_tokens
                    ),
                });
            }
        }
        Ok(())
    }

    /// Refuses adapters that the base has no place for, before anything runs.
    fn check_adapters(&self) -> Result<(), PipelineError> {
        let sections = [("sft.lora", &self.recipe.sft.lora), ("preference.lora", &self.recipe.preference.lora)];
        for (section, lora) in sections {
            let Some(lora) = lora else { continue };
            let base = self.resources.config(&self.recipe.base.checkpoint)?;
            lora.check(&base)
                .map_err(|error| PipelineError::Recipe { recipe: self.recipe.name.clone(), problem: format!("[{section}] {error}") })?;
        }
        Ok(())
    }

    /// [`run_stage`] in its folder.
    fn run_stage(
        &self,
        name: &str,
        inputs: Inputs,
        work: impl FnOnce(&Path) -> Result<Made, PipelineError>,
    ) -> Result<Manifest, PipelineError> {
        run_stage(name, &self.stage(name), inputs, &self.resources.device, work)
    }

    fn stage(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn stream(&self, name: &str) -> u64 {
        derive_seed(self.seed, name)
    }

    /// A stream that all seeds of a recipe share: they are asked the same prompts, or they could not be compared by them.
    fn shared_stream(&self, name: &str) -> u64 {
        derive_seed(self.recipe.seeds.first().copied().unwrap_or(self.seed), name)
    }

    fn sft_model(&self, precision: Storage) -> Result<(Checkpoint, ControlToken), PipelineError> {
        load_model(&self.stage("sft"), self, precision)
    }

    /// Where policies start.
    fn sft_folder(&self) -> String {
        self.stage("sft").join("model").to_string_lossy().into_owned()
    }

    fn judge(&self, choice: &JudgeChoice, embedded: fn() -> Result<EmbeddedJudge, EvalError>) -> Result<Box<dyn Judge>, PipelineError> {
        // All seeds of a run share what a judge was asked before.
        choice.open(self.resources, embedded, &self.folder.with_file_name("judge-cache"))
    }

    fn annotator_fingerprint(&self) -> Result<String, PipelineError> {
        self.recipe.annotate.judge.fingerprint(self.resources, EmbeddedJudge::annotator)
    }

    fn annotator(&self) -> Result<Box<dyn Judge>, PipelineError> {
        self.judge(&self.recipe.annotate.judge, EmbeddedJudge::annotator)
    }

    fn annotation_rule(&self, annotator: &dyn Judge) -> AnnotationRule {
        self.recipe.annotate.rule.resolved(annotator.thresholds())
    }

    fn encoder<'t>(&self, checkpoint: &'t Checkpoint, control: &ControlToken) -> Encoder<'t> {
        Encoder::new(&checkpoint.tokenizer, self.encoding_options(control))
    }

    fn encoding_options(&self, control: &ControlToken) -> EncodingOptions {
        let encoding = &self.recipe.encoding;
        EncodingOptions {
            max_length: encoding.max_length,
            over_length: encoding.over_length,
            mask: encoding.mask,
            control: Some(control.clone()),
        }
    }
}

/// Judgements for a stage. Where the judge cannot judge any more, the stage stops instead of ending with holes.
pub(crate) fn judged(stage: &str, judge: &dyn Judge, exchanges: &[Exchange]) -> Result<Vec<Judgement>, PipelineError> {
    let judgements = judge.judge(exchanges);
    still_there(stage, judge).map(|()| judgements)
}

/// Whether the judge's verdicts so far can be built on.
fn still_there(stage: &str, judge: &dyn Judge) -> Result<(), PipelineError> {
    match judge.unavailable() {
        Some(reason) => {
            Err(PipelineError::stage(stage, format!("the judge {} is gone: {reason}; run again, answers so far are kept", judge.name())))
        }
        None => Ok(()),
    }
}

/// The type that a model is loaded in to be trained. Where adapters lie on it, or will, it is frozen and as narrow as it computes; where
/// all weights are trained, they move in f32, and the optimiser takes them before they are rounded.
fn start_precision(train: &TrainOptions, lora: Option<&Lora>, model: &str) -> Result<Storage, PipelineError> {
    Ok(if lora.is_some() || adapters(model)?.is_some() { train.precision() } else { Storage::F32 })
}

/// The model that a stage left in its folder.
fn load_model(stage: &Path, run: &SeedRun<'_>, precision: Storage) -> Result<(Checkpoint, ControlToken), PipelineError> {
    let (model, resources) = (stage.join("model"), run.resources);
    let name = model.to_string_lossy();
    // A policy's adapters lie on the SFT model of this run, wherever the run's folder was when they were trained.
    let on_sft = run.recipe.preference.lora.is_some() && stage != run.stage("sft") && adapters(&name)?.is_some();
    let checkpoint =
        if on_sft { resources.with_adapters(&model, &run.sft_folder(), precision)? } else { resources.checkpoint(&name, precision)? };
    checkpoint.with_control_token(&run.recipe.control.token)
}
