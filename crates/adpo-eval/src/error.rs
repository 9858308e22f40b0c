/// What can go wrong in this crate; every message says where and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Evaluator weights that cannot be used.
    #[error("evaluator weights {name}: {reason}; rebuild them with `adpo evaluators train`")]
    Weights {
        /// Which weight set.
        name: String,
        /// What is wrong with them.
        reason: String,
    },
    /// Training rows are missing or one-sided.
    #[error("training the {head} head: {reason}")]
    Training {
        /// The head.
        head: &'static str,
        /// What is missing.
        reason: String,
    },
    /// An endpoint that cannot be asked as described.
    #[error("endpoint {url}: {problem}")]
    Endpoint {
        /// Its URL, or those of its group.
        url: String,
        /// What is wrong, and the fix.
        problem: String,
    },
    /// No API key where one was said to be.
    #[error("environment variable {variable}: {problem}; it should hold the endpoint's API key")]
    ApiKey {
        /// The variable's name.
        variable: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Responses cannot be drawn as described.
    #[error("sampling: {0}")]
    Sample(String),
    /// Rows could not be read or written.
    #[error(transparent)]
    Rows(#[from] adpo_data::DataError),
    /// A report was asked for something that its input cannot give.
    #[error("report: {0}")]
    Report(String),
}

#[cfg(feature = "http")]
impl EvalError {
    pub(crate) fn io(path: &std::path::Path, source: std::io::Error) -> Self {
        Self::Io { path: path.display().to_string(), source }
    }
}
