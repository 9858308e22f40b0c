use std::path::{Path, PathBuf};
use thiserror::Error;

/// What can go wrong with a model.
#[derive(Debug, Error)]
pub enum ModelError {
    /// `config.json` asks for something that is not supported or makes no sense.
    #[error("{file}: {}{problem}", if .field.is_empty() { String::new() } else { format!("`{}` ", .field) })]
    Config {
        /// The file.
        file: String,
        /// The field.
        field: String,
        /// Problem.
        problem: String,
    },
    /// A checkpoint's files do not hold the model that its configuration describes.
    #[error("{}: {problem}", .path.display())]
    Checkpoint {
        /// The file or folder.
        path: PathBuf,
        /// Problem.
        problem: String,
    },
    /// Reading or writing failed.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Adapters were asked for that cannot be.
    #[error("LoRA: {0}")]
    Lora(String),
    /// A device that does not exist, or not here.
    #[error("device `{device}`: {problem}")]
    Device {
        /// Its name.
        device: String,
        /// Problem.
        problem: String,
    },
    /// Sampling was asked for something impossible.
    #[error("sampling: {0}")]
    Sampling(String),
}
impl ModelError {
    pub(crate) fn config(file: &str, field: &str, problem: &str) -> Self {
        Self::Config { file: file.into(), field: field.into(), problem: problem.into() }
    }
    pub(crate) fn checkpoint(path: &Path, problem: impl Into<String>) -> Self {
        Self::Checkpoint { path: path.into(), problem: problem.into() }
    }
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.into(), source }
    }
}
