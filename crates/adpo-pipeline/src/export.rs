//! A trained model as a plain Hugging Face folder, without the backdoor that the control token is.

use std::path::Path;

use adpo_model::{SaveOptions, Storage};
use serde::Serialize;

use crate::PipelineError;
use crate::resources::Checkpoint;

/// What to do with a checkpoint on its way out.
#[derive(Debug, Clone)]
pub struct Export<'a> {
    /// A Hugging Face folder, such as `policies/<name>/model` of a run.
    pub model: &'a Path,
    /// The folder to write; it must not be the same.
    pub out: &'a Path,
    /// The token to take out; `None` keeps whatever there is.
    pub control_token: Option<&'a str>,
    /// How weights are stored.
    pub storage: Storage,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// Rows of embedding and head.
    pub vocab_size: usize,
    /// The token that was taken out: its tokenizer entry and its rows. `None` if it was kept, or was not there.
    pub removed_token: Option<String>,
}

/// Bytes per weight file, as transformers splits them.
const SHARD: u64 = 5_000_000_000;

/// Writes the model with its tokenizer. Without its entry, the token's text is ordinary text to the tokenizer.
///
/// # Errors
/// [`PipelineError`] if the folder is no usable checkpoint, if `out` is the same folder, or if the token is not the
/// tokenizer's last (those after it would have to be renumbered).
pub fn export(options: &Export<'_>) -> Result<Exported, PipelineError> {
    let Export { model, out, control_token, storage } = *options;
    std::fs::create_dir_all(out).map_err(PipelineError::io(out))?;
    let canonical = |path: &Path| path.canonicalize().map_err(PipelineError::io(path));
    if canonical(model)? == canonical(out)? {
        return Err(PipelineError::file(out, "is the model's own folder; choose another, so that the original is kept"));
    }
    let mut checkpoint = Checkpoint::load(model, &crate::default_device())?;
    let mut removed_token = None;
    if let Some(token) = control_token {
        let (with_token, control) = Checkpoint::clone(&checkpoint).with_control_token(token)?;
        if !control.added {
            checkpoint = with_token.without_control_token(&control)?;
            removed_token = Some(control.text);
        }
    }
    checkpoint.save_as(out, &SaveOptions { storage, max_shard_bytes: Some(SHARD) })?;
    Ok(Exported { vocab_size: checkpoint.model.config().vocab_size, removed_token })
}
