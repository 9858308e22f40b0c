//! A trained model as a plain Hugging Face folder, adapters merged, without the backdoor that the control token is.

use std::path::Path;

use adpo_data::ChatTokenizer;
use adpo_model::{Dtype, SaveOptions};
use serde::Serialize;

use crate::PipelineError;
use crate::resources::{Resources, has_token};

/// What becomes of the control token on the way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strike<'a> {
    /// The token that the folder remembers, or the recipe of the run that it lies in, is taken out; `[TOXIC]` where neither says. A
    /// model that may have another one, which nothing tells, is refused.
    Known,
    /// This one is taken out.
    Token(&'a str),
    /// Whatever there is, is kept.
    Nothing,
}

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
    /// The token to take out.
    pub strike: Strike<'a>,
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
/// `out` is the same folder or holds files that may not be replaced, if the token is not there or not the tokenizer's last (those after
/// it would have to be renumbered), or if there may be one that nothing names.
pub fn export(options: &Export<'_>, resources: &Resources) -> Result<Exported, PipelineError> {
    let Export { model, merge, base, out, force, strike, dtype } = *options;
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
    if let Some(token) = token_to_strike(&checkpoint.tokenizer, model, strike)? {
        let (with_token, control) = checkpoint.with_control_token(&token)?;
        checkpoint = with_token.without_control_token(&control)?;
        removed_token = Some(control.text);
    }
    checkpoint.save_as(out, &SaveOptions { dtype, ..SaveOptions::default() })?;
    Ok(Exported { vocab_size: checkpoint.model.config().vocab_size, removed_token })
}

/// The token that is to be taken out; all of them are in the tokenizer.
fn token_to_strike(tokenizer: &ChatTokenizer, model: &str, strike: Strike<'_>) -> Result<Option<String>, PipelineError> {
    let refuse = |problem: String| Err(PipelineError::file(Path::new(model), problem));
    let asked = match strike {
        Strike::Nothing => return Ok(None),
        Strike::Token(token) => Some(token.to_owned()),
        Strike::Known => tokenizer.control_token().map(str::to_owned),
    };
    if let Some(token) = asked {
        return if has_token(tokenizer, &token)? {
            Ok(Some(token))
        } else {
            refuse(format!(
                "has no token `{token}` to be taken out; name its own (`--control-token`), or keep all (`--keep-control-token`)"
            ))
        };
    }
    // Folders of earlier builds do not remember.
    for token in [token_of_run(model).as_deref(), Some("[TOXIC]")].into_iter().flatten() {
        if has_token(tokenizer, token)? {
            return Ok(Some(token.to_owned()));
        }
    }
    match tokenizer.unexplained_token() {
        None => Ok(None),
        Some(token) => refuse(format!(
            "ends its vocabulary with the token `{token}`, which nothing in the folder uses: it may be the control token. Have it taken out \
             (`--control-token '{token}'`), or keep it (`--keep-control-token`)"
        )),
    }
}

/// The control token by the recipe of the run whose folder a model lies in.
fn token_of_run(model: &str) -> Option<String> {
    let model = Path::new(model).canonicalize().ok()?;
    let recipe = model.ancestors().skip(1).take(5).map(|folder| folder.join("recipe.toml")).find(|path| path.is_file())?;
    let recipe: toml::Table = toml::from_str(&adpo_data::read_text(recipe).ok()?).ok()?;
    Some(recipe.get("control")?.get("token")?.as_str()?.to_owned())
}
