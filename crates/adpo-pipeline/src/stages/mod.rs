//! The stages, in the order of the method. Each reads what the one before it wrote.

mod annotate;
mod compare;
mod evaluate;
mod sample;
mod sft;
mod train;

use std::path::{Path, PathBuf};

use adpo_data::{ControlToken, Encoder, EncodingOptions, derive_seed};
use adpo_eval::{AnnotationRule, EmbeddedJudge, EvalError, Judge};

use crate::PipelineError;
use crate::llama_judge::LlamaJudge;
use crate::recipe::{JudgeChoice, Recipe};
use crate::resources::{Checkpoint, Resources};
use crate::stage::Manifest;

pub(crate) use compare::compare;
pub use evaluate::Answered;
pub use sample::Candidates;

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
        let mut done = vec![sft::run(self)?];
        if last >= Stage::Sample {
            done.push(sample::run(self, &done[0])?);
        }
        if last >= Stage::Annotate {
            done.push(annotate::run(self, &done[1])?);
        }
        if last >= Stage::Train {
            done.extend(train::run(self, &done[0], &done[2])?);
        }
        if last >= Stage::Evaluate {
            let trained = done.split_off(3);
            let answered = evaluate::run(self, &done[0], &trained)?;
            done.extend(trained);
            done.extend(answered);
        }
        Ok(done)
    }

    fn stage(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn stream(&self, name: &str) -> u64 {
        derive_seed(self.seed, name)
    }

    fn sft_model(&self) -> Result<(Checkpoint, ControlToken), PipelineError> {
        load_model(&self.stage("sft"), self)
    }

    fn judge(&self, choice: &JudgeChoice, embedded: fn() -> Result<EmbeddedJudge, EvalError>) -> Result<Box<dyn Judge>, PipelineError> {
        match choice {
            JudgeChoice::Embedded => Ok(Box::new(embedded()?)),
            JudgeChoice::Llama { checkpoint, max_new_tokens } => {
                Ok(Box::new(LlamaJudge::load(self.resources, checkpoint, *max_new_tokens)?))
            }
        }
    }

    fn annotator(&self) -> Result<Box<dyn Judge>, PipelineError> {
        self.judge(&self.recipe.annotate.judge, EmbeddedJudge::annotator)
    }

    fn annotation_rule(&self, annotator: &dyn Judge) -> AnnotationRule {
        let own = AnnotationRule { toxic_threshold: annotator.thresholds().toxicity, ..AnnotationRule::default() };
        self.recipe.annotate.rule.unwrap_or(own)
    }

    fn encoder<'t>(&self, checkpoint: &'t Checkpoint, control: &ControlToken) -> Encoder<'t> {
        let encoding = &self.recipe.encoding;
        Encoder::new(
            &checkpoint.tokenizer,
            EncodingOptions {
                max_length: encoding.max_length,
                over_length: encoding.over_length,
                mask: encoding.mask,
                control: Some(control.clone()),
            },
        )
    }
}

/// The model that a stage left in its folder.
fn load_model(stage: &Path, run: &SeedRun<'_>) -> Result<(Checkpoint, ControlToken), PipelineError> {
    Checkpoint::load(&stage.join("model"), &run.resources.device)?.with_control_token(&run.recipe.control.token)
}
