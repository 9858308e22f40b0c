//! One seed of a run: what its stages share.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use adpo_data::{ControlToken, Encoder, EncodingOptions, derive_seed, remove_folder};
use adpo_eval::{AnnotationRule, EmbeddedJudge, EvalError, Judge};
use adpo_model::Dtype;
use adpo_train::TrainOptions;

use super::stage::Artifact;
use crate::PipelineError;
use crate::judge_choice::JudgeChoice;
use crate::lora::Lora;
use crate::manifest::Inputs;
use crate::recipe::Recipe;
use crate::resources::{Checkpoint, Resources};

/// One seed of a run.
pub(crate) struct SeedRun<'a> {
    pub recipe: &'a Recipe,
    pub resources: &'a Resources,
    pub seed: u64,
    /// `<run folder>/seed-<seed>`.
    pub folder: PathBuf,
    /// Whether the control token means something to the models of this run: SFT teaches it, or the base has it.
    pub has_control_token: bool,
    /// Work of the run that follows the stage at hand, as a multiple of it: for the time left that people are told.
    pub rest: Cell<f64>,
}

impl<'a> SeedRun<'a> {
    pub(crate) fn new(recipe: &'a Recipe, resources: &'a Resources, seed: u64, run_folder: &Path) -> Result<Self, PipelineError> {
        let folder = run_folder.join(format!("seed-{seed}"));
        let has_control_token = recipe.teaches_control_token() || resources.knows_token(&recipe.base.checkpoint, &recipe.control.token)?;
        Ok(Self { recipe, resources, seed, folder, has_control_token, rest: Cell::new(0.0) })
    }
}

impl SeedRun<'_> {
    pub(crate) fn refuse(&self, problem: String) -> PipelineError {
        PipelineError::Recipe { recipe: self.recipe.name.clone(), problem }
    }

    /// A stage's folder.
    pub(crate) fn stage(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn stream(&self, name: &str) -> u64 {
        derive_seed(self.seed, name)
    }

    /// A stream that all seeds of a recipe share: they are asked the same prompts, or they could not be compared by them.
    pub(super) fn shared_stream(&self, name: &str) -> u64 {
        derive_seed(self.recipe.seeds.first().copied().unwrap_or(self.seed), name)
    }

    /// What policies need to start.
    pub(super) fn start(&self) -> Option<Artifact> {
        self.recipe.sft.is_some().then_some(Artifact::SftModel)
    }

    /// The checkpoint where policies start, by its folder or name: what SFT made, or the base.
    pub(super) fn start_checkpoint(&self) -> String {
        if self.recipe.sft.is_some() {
            self.stage("sft").join("model").to_string_lossy().into_owned()
        } else {
            self.recipe.base.checkpoint.clone()
        }
    }

    /// Adds what a stage that works with the starting model depends on, where no stage makes that.
    pub(super) fn hash_start(&self, inputs: Inputs) -> Result<Inputs, PipelineError> {
        let base = &self.recipe.base.checkpoint;
        Ok(if self.recipe.sft.is_some() { inputs } else { inputs.hash("base", self.resources.checkpoint_hash(base)?) })
    }

    /// The type that a model is loaded in to be trained. Where adapters lie on it, or will, it is frozen and as narrow as it computes;
    /// where all weights are trained, they move in float32, and the optimiser takes them before they are rounded.
    pub(super) fn start_dtype(&self, train: &TrainOptions, lora: Option<&Lora>, model: &str) -> Result<Dtype, PipelineError> {
        Ok(if lora.is_some() || self.resources.adapters(model)?.is_some() { train.dtype } else { Dtype::Float32 })
    }

    pub(super) fn start_model(&self, dtype: Dtype) -> Result<(Checkpoint, Option<ControlToken>), PipelineError> {
        self.with_control_token(self.resources.checkpoint(&self.start_checkpoint(), dtype)?)
    }

    /// The model that training left in a policy's folder.
    pub(super) fn policy_model(&self, policy: &str, dtype: Dtype) -> Result<(Checkpoint, Option<ControlToken>), PipelineError> {
        let model = self.stage("policies").join(policy).join("model");
        let name = model.to_string_lossy();
        // A policy's adapters lie on this run's starting model, wherever the run's folder was when they were trained.
        let on_start =
            self.recipe.preference.iter().any(|preference| preference.lora.is_some()) && self.resources.adapters(&name)?.is_some();
        let checkpoint = if on_start {
            self.resources.with_adapters(&name, &self.start_checkpoint(), dtype)?
        } else {
            self.resources.checkpoint(&name, dtype)?
        };
        self.with_control_token(checkpoint)
    }

    /// The model of a system, by its name in reports.
    pub(super) fn system_model(&self, system: &str, dtype: Dtype) -> Result<(Checkpoint, Option<ControlToken>), PipelineError> {
        if system == self.recipe.start_system() { self.start_model(dtype) } else { self.policy_model(system, dtype) }
    }

    pub(super) fn with_control_token(&self, checkpoint: Checkpoint) -> Result<(Checkpoint, Option<ControlToken>), PipelineError> {
        if !self.has_control_token {
            return Ok((checkpoint, None));
        }
        let (checkpoint, control) = checkpoint.with_control_token(&self.recipe.control.token)?;
        Ok((checkpoint, Some(control)))
    }

    pub(super) fn judge(
        &self,
        choice: &JudgeChoice,
        embedded: fn() -> Result<EmbeddedJudge, EvalError>,
    ) -> Result<Box<dyn Judge>, PipelineError> {
        // All seeds of a run share what a judge was asked before.
        choice.open(self.resources, embedded, &self.folder.with_file_name("judge-cache"))
    }

    pub(super) fn annotator_fingerprint(&self) -> Result<String, PipelineError> {
        self.recipe.annotate.judge.fingerprint(self.resources, EmbeddedJudge::annotator)
    }

    pub(super) fn annotator(&self) -> Result<Box<dyn Judge>, PipelineError> {
        self.judge(&self.recipe.annotate.judge, EmbeddedJudge::annotator)
    }

    pub(super) fn annotation_rule(&self, annotator: &dyn Judge) -> AnnotationRule {
        self.recipe.annotate.rule.resolved(annotator.thresholds())
    }

    pub(super) fn encoder<'t>(&self, checkpoint: &'t Checkpoint, control: Option<&ControlToken>) -> Encoder<'t> {
        Encoder::new(&checkpoint.tokenizer, self.encoding_options(control))
    }

    pub(crate) fn encoding_options(&self, control: Option<&ControlToken>) -> EncodingOptions {
        let encoding = &self.recipe.encoding;
        EncodingOptions {
            max_length: encoding.max_length,
            over_length: encoding.over_length,
            mask: encoding.mask,
            control: control.cloned(),
        }
    }
}

/// Removes the checkpoints of a finished training from its folder, unless the options keep some: its model is kept in any case.
pub(super) fn drop_checkpoints(train: &TrainOptions, folder: &Path) -> Result<(), PipelineError> {
    if train.save_total_limit.is_none() {
        remove_folder(folder.join("checkpoints"))?;
    }
    Ok(())
}
