use std::path::{Path, PathBuf};

use thiserror::Error;

/// Everything that can stop a training run.
#[derive(Debug, Error)]
pub enum TrainError {
    /// An option has a value that cannot work.
    #[error("training option `{field}`: {problem}")]
    Options {
        /// The option's name, as a recipe writes it.
        field: &'static str,
        /// What is wrong, and the fix.
        problem: String,
    },
    /// There is nothing to train on.
    #[error("no training examples are left; check the counts of dropped rows, `max_length` and the data split")]
    NoExamples,
    /// An objective needs something that the data or the reference does not offer.
    #[error("row `{row}`: {problem}")]
    Row {
        /// The row's id.
        row: String,
        /// What is missing, and the fix.
        problem: String,
    },
    /// The loss or the gradient became NaN or infinite.
    #[error(
        "{what} is {value} at step {step} (rows {}); the last good checkpoint is {}. \
         Lower the learning rate, or look at these rows",
        .rows.join(", "),
        .checkpoint.as_ref().map_or_else(|| "none: no step was saved yet".to_owned(), |p| p.display().to_string())
    )]
    NotFinite {
        /// `loss` or `grad_norm`.
        what: &'static str,
        /// The value seen.
        value: f64,
        /// The step, counted from 1.
        step: usize,
        /// The rows of that step.
        rows: Vec<String>,
        /// The newest checkpoint on disk.
        checkpoint: Option<PathBuf>,
    },
    /// A weight became NaN or infinite; nothing was saved of it.
    #[error(
        "the weights `{name}` are not finite after step {step}; the last good checkpoint is {}. Lower the learning rate",
        .checkpoint.as_ref().map_or_else(|| "none: no step was saved yet".to_owned(), |p| p.display().to_string())
    )]
    Weights {
        /// The step, counted from 1.
        step: usize,
        /// The parameter.
        name: String,
        /// The newest checkpoint on disk.
        checkpoint: Option<PathBuf>,
    },
    /// The policy does not start where the reference is.
    #[error(
        "step-0 identity: {problem}. The reference must be the checkpoint that the policy starts from, \
         in the same dtype and with the same template; delete a stale reference cache if there is one"
    )]
    Identity {
        /// What differs and by how much.
        problem: String,
    },
    /// A checkpoint belongs to another run.
    #[error("{path}: {problem}")]
    Checkpoint {
        /// The checkpoint or one of its files.
        path: PathBuf,
        /// What is wrong, and the fix.
        problem: String,
    },
    /// Reading or writing failed.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file of rows could not be read or written.
    #[error(transparent)]
    Rows(#[from] adpo_data::DataError),
    /// The model could not be loaded, saved or run.
    #[error(transparent)]
    Model(#[from] adpo_model::ModelError),
    /// The objective refused its inputs.
    #[error(transparent)]
    Objective(#[from] adpo_objective::ObjectiveError),
}

impl TrainError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn checkpoint(path: &Path, problem: impl Into<String>) -> Self {
        Self::Checkpoint { path: path.to_owned(), problem: problem.into() }
    }
}
