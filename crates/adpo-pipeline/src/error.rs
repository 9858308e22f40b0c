use std::path::{Path, PathBuf};

use thiserror::Error;

/// Everything that can stop a pipeline.
#[derive(Debug, Error)]
pub enum PipelineError {
    /// A recipe cannot be read or asks for something impossible.
    #[error("recipe {recipe}: {problem}")]
    Recipe {
        /// The file, or the name of an embedded recipe.
        recipe: String,
        /// Field, problem and fix.
        problem: String,
    },
    /// A checkpoint's name leads nowhere.
    #[error("checkpoint `{name}`: {problem}")]
    Checkpoint {
        /// The name, as the recipe or the command line has it.
        name: String,
        /// What was looked for, where, and the fix.
        problem: String,
    },
    /// A source of rows cannot be found.
    #[error("data `{id}`: {problem}")]
    Data {
        /// The source's id, as the recipe writes it.
        id: String,
        /// Problem and fix.
        problem: String,
    },
    /// A stage had nothing left to work on.
    #[error("stage `{stage}`: {problem}")]
    Stage {
        /// The stage's name.
        stage: String,
        /// Problem and fix.
        problem: String,
    },
    /// A judge cannot be had.
    #[error("judge `{judge}`: {problem}")]
    Judge {
        /// The judge's model.
        judge: String,
        /// Problem and fix.
        problem: String,
    },
    /// A model cannot be talked to, or not like this.
    #[error("model {model}: {problem}")]
    Speaker {
        /// The model, as it was asked for.
        model: String,
        /// Problem and fix.
        problem: String,
    },
    /// A model cannot be served.
    #[error("serve: {0}")]
    Serve(String),
    /// Two policies cannot be compared.
    #[error("diff: {0}")]
    Diff(String),
    /// Somebody else is at work in a run's folder.
    #[error("{folder}: {holder} is at work here; wait for it, or give this run another folder (`--run-dir`)")]
    Busy {
        /// The folder.
        folder: PathBuf,
        /// Who, as far as the lock says.
        holder: String,
    },
    /// A file of the run folder cannot be used.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: PathBuf,
        /// Problem and fix.
        problem: String,
    },
    /// A measurement could not be made.
    #[error("bench: {0}")]
    Bench(String),
    /// Reading or writing failed.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Rows could not be read or encoded.
    #[error(transparent)]
    Rows(#[from] adpo_data::DataError),
    /// The model could not be loaded, saved or run.
    #[error(transparent)]
    Model(#[from] adpo_model::ModelError),
    /// Training stopped.
    #[error(transparent)]
    Train(#[from] adpo_train::TrainError),
    /// The embedded judges or the report failed.
    #[error(transparent)]
    Eval(#[from] adpo_eval::EvalError),
}

impl PipelineError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn file(path: &Path, problem: impl std::fmt::Display) -> Self {
        Self::File { path: path.to_owned(), problem: problem.to_string() }
    }

    pub(crate) fn stage(stage: &str, problem: impl Into<String>) -> Self {
        Self::Stage { stage: stage.to_owned(), problem: problem.into() }
    }
}
