//! A trained model as a plain Hugging Face folder, adapters merged, without the backdoor that the control token is.

use std::path::Path;

use adpo_model::{Dtype, SaveOptions};
use serde::Serialize;

use crate::PipelineError;
use crate::resources::{Checkpoint, Resources};

/// What to do with a checkpoint on its way out.
#[derive(Debug, Clone)]
pub struct Export<'a> {
    /// A checkpoint by its name in a recipe, such as the folder `policies/<name>/model` of a run, or a PEFT folder.
    pub model: &'a str,
    /// Whether the model is adapters, to be merged into their base.
    pub merge: bool,
    /// The base, where it is not the one that the adapters name.
    pub base: Option<&'a str>,
    /// The folder to write; it must not be the same.
    pub out: &'a Path,
    /// Whether `out` may hold files already; those of a model are then replaced.
    pub force: bool,
    /// The token to take out; `None` keeps whatever there is.
    pub control_token: Option<&'a str>,
    /// How weights are stored.
    pub dtype: Dtype,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// Rows of embedding and head.
    pub vocab_size: usize,
    /// The token that was taken out: its tokenizer entry and its rows. `None` if it was kept, or was not there.
    pub removed_token: Option<String>,
}

/// Writes the model with its tokenizer. Without its entry, the token's text is ordinary text to the tokenizer.
///
/// # Errors
/// [`PipelineError`] if the folder is no usable checkpoint, if it is adapters and is not to be merged or the other way round, if
/// `out` is the same folder or holds files that may not be replaced, or if the token is not the tokenizer's last (those after it would have to be renumbered).
pub fn export(options: &Export<'_>, resources: &Resources) -> Result<Exported, PipelineError> {
    let Export { model, merge, base, out, force, control_token, dtype } = *options;
    match resources.adapters(model)? {
        Some(_) if !merge => {
            let problem = "holds adapters; merge them into their base (`--merge`), or give PEFT the folder as it is";
            return Err(PipelineError::file(Path::new(model), problem));
        }
        None if merge => {
            return Err(PipelineError::file(Path::new(model), "holds no adapters (adapter_config.json) that could be merged"));
        }
        _ => {}
    }
    std::fs::create_dir_all(out).map_err(PipelineError::io(out))?;
    let canonical = |path: &Path| path.canonicalize().map_err(PipelineError::io(path));
    if Path::new(model).is_dir() && canonical(Path::new(model))? == canonical(out)? {
        return Err(PipelineError::file(out, "is the model's own folder; choose another, so that the original is kept"));
    }
    if !force && std::fs::read_dir(out).map_err(PipelineError::io(out))?.next().is_some() {
        return Err(PipelineError::file(out, "holds files already; choose another folder, or replace the model in it (`--force`)"));
    }
    let mut checkpoint = match base {
        Some(base) => resources.with_adapters(model, base, Dtype::Float32)?,
        None => resources.checkpoint(model, Dtype::Float32)?,
    }
    .merged();
    let mut removed_token = None;
    if let Some(token) = control_token {
        let (with_token, control) = Checkpoint::clone(&checkpoint).with_control_token(token)?;
        if !control.added {
            checkpoint = with_token.without_control_token(&control)?;
            removed_token = Some(control.text);
        }
    }
    checkpoint.save_as(out, &SaveOptions { dtype, ..SaveOptions::default() })?;
    Ok(Exported { vocab_size: checkpoint.model.config().vocab_size, removed_token })
}
