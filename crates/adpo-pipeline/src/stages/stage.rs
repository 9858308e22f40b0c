//! The trait of a stage.

use std::path::Path;

use adpo_eval::TokenForm;

use super::seed_run::SeedRun;
use crate::PipelineError;
use crate::draw::Draw;
use crate::manifest::{Inputs, Made, Manifest};
use crate::recipe::{Policy, Preference, Sft, Source};

/// What training reads, whichever stage wrote it.
pub(crate) const TRIPLES: &str = "triples.jsonl";

/// What kind of stage: how far a run goes is told by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum StageKind {
    /// Fine-tuning with the control token.
    Sft,
    /// Plain and toxic candidates.
    Sample,
    /// Triples, made of candidates or brought by the user.
    Annotate,
    /// Every policy.
    Train,
    /// Responses to held-out prompts, and their scores.
    Evaluate,
    /// The report.
    Compare,
}

impl StageKind {
    /// The name on a command line and in a plan.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sft => "sft",
            Self::Sample => "sample",
            Self::Annotate => "annotate",
            Self::Train => "train",
            Self::Evaluate => "evaluate",
            Self::Compare => "compare",
        }
    }
}

/// What one stage makes and another one needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Artifact {
    /// The fine-tuned model.
    SftModel,
    /// Responses to be sorted into triples.
    Candidates,
    Triples,
    /// The policy of this name.
    Policy(String),
    /// What a system said, with the control token in this form or without it.
    Responses(String, Option<TokenForm>),
    Report,
}

/// One stage of a run: its name, what it needs, what it makes, and its way to run.
pub(crate) trait Stage {
    fn kind(&self) -> StageKind;

    /// Its name in manifests, and its folder below the seed's.
    fn name(&self) -> String;

    fn makes(&self) -> Artifact;

    fn needs(&self) -> Vec<Artifact>;

    /// Hashes of what its result depends on besides the outputs of stages that it needs.
    fn inputs(&self, run: &SeedRun<'_>) -> Result<Inputs, PipelineError>;

    /// Does its work in `folder`; `done` are the manifests of all stages before it.
    fn work(&self, run: &SeedRun<'_>, done: &[Manifest], folder: &Path) -> Result<Made, PipelineError>;

    /// Removes what nobody needs once it is finished.
    fn tidy(&self, _folder: &Path) -> Result<(), PipelineError> {
        Ok(())
    }

    /// Refuses data that it could not work on. Called for all stages before the first one runs.
    fn check_data(&self, _run: &SeedRun<'_>) -> Result<(), PipelineError> {
        Ok(())
    }

    /// The resources that it needs, for a plan.
    fn load(&self) -> Load<'_> {
        Load::Light
    }
}

/// The resources that a stage needs.
pub(crate) enum Load<'a> {
    /// Nothing worth planning.
    Light,
    FineTuning(&'a Sft),
    PreferenceTraining(&'a Preference, &'a Policy),
    Drawing(DrawingLoad<'a>),
}

/// Completions of prompts.
pub(crate) struct DrawingLoad<'a> {
    pub draw: &'a Draw,
    pub sources: &'a [Source],
    /// The random stream that a limit of the sources draws by.
    pub stream: &'static str,
    /// In which ways the prompts are put.
    pub ways: &'static [Option<TokenForm>],
    /// Whether the annotator works beside the model.
    pub judges: bool,
    /// Whether completions are scored afterwards, each with its prompt.
    pub scores: bool,
    /// Completions of each prompt, about.
    pub completions: usize,
    /// Prompts at most, whatever the sources hold.
    pub at_most: Option<usize>,
}
