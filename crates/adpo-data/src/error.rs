use std::path::{Path, PathBuf};

use thiserror::Error;

/// Everything that can go wrong between a file of rows and a batch. Messages name the place and the fix.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file cannot be opened, read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A line of a row file is not what its format promises.
    #[error("{file}:{line}: {problem}")]
    Line {
        /// The file, or the name of embedded text.
        file: String,
        /// Counted from 1.
        line: usize,
        /// Field, problem and fix.
        problem: String,
    },
    /// A row of a Parquet file is not what its format promises.
    #[error("{file}, row {row}: {problem}")]
    ParquetRow {
        /// The file.
        file: String,
        /// Counted from 1.
        row: usize,
        /// Field, problem and fix.
        problem: String,
    },
    /// A file as a whole cannot be used.
    #[error("{file}: {problem}")]
    File {
        /// The file, or the name of embedded text.
        file: String,
        /// Problem and fix.
        problem: String,
    },
    /// The chat template cannot be parsed, refuses a dialogue, or writes something that cannot be trained on.
    #[error("chat template: {problem}")]
    Template {
        /// Problem and fix.
        problem: String,
    },
    /// The control token cannot be used with this tokenizer.
    #[error("control token `{token}`: {problem}")]
    Control {
        /// The token as text.
        token: String,
        /// Problem and fix.
        problem: String,
    },
    /// A row cannot be encoded.
    #[error("row `{row}`: {problem}")]
    Row {
        /// The row's id; `#n` where only its number is known (counted from 1).
        row: String,
        /// Problem and fix.
        problem: String,
    },
}

impl DataError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn file(file: impl std::fmt::Display, problem: impl std::fmt::Display) -> Self {
        Self::File { file: file.to_string(), problem: problem.to_string() }
    }
}
