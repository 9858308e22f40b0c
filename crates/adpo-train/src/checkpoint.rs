//! Checkpoints of a run: written beside, then renamed, so that a folder that is there is whole.
//!
//! `checkpoints/step-00000040/` holds the weights as a Hugging Face folder (without the tokenizer), in bf16 where they were trained
//! in it and in f32 otherwise, or the adapters alone as a PEFT folder where only they are trained; `optimizer.safetensors`
//! (`first.<parameter>`, `second.<parameter>`, and beside bf16 weights `master.<parameter>`, all flat f32); and `trainer.json`.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use adpo_model::{Llama, SaveOptions};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::optimizer::StateTensor;

/// What a resume needs besides weights and moments. The order of the examples follows from the seed and the step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TrainerState {
    /// Optimiser steps done.
    pub step: usize,
    /// Tokens seen so far.
    pub num_tokens: u64,
    /// Hash of options and data; another one is another run.
    pub fingerprint: String,
}

/// A checkpoint on disk.
pub(crate) struct Checkpoint {
    pub folder: PathBuf,
    pub state: TrainerState,
}

const PREFIX: &str = "step-";

impl Checkpoint {
    /// The model as it was. `start`, where the run began, gives its base to a checkpoint of adapters.
    pub(crate) fn load_model(&self, start: Llama) -> Result<Llama, TrainError> {
        if start.lora().is_some() {
            return Ok(start.without_lora().load_adapter(&self.folder)?);
        }
        Ok(Llama::load(&self.folder, &start.device().inner())?)
    }

    pub(crate) fn load_moments(&self) -> Result<Vec<StateTensor>, TrainError> {
        let path = self.folder.join("optimizer.safetensors");
        let bytes = std::fs::read(&path).map_err(TrainError::io(&path))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| TrainError::checkpoint(&path, e.to_string()))?;
        file.iter()
            .map(|(name, view)| match view.dtype() {
                Dtype::F32 => Ok(StateTensor {
                    name: name.to_owned(),
                    values: view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
                }),
                other => Err(TrainError::checkpoint(&path, format!("`{name}` is {other:?}, not F32"))),
            })
            .collect()
    }
}

/// The newest whole checkpoint below `folder`, if there is one.
pub(crate) fn newest(folder: &Path) -> Result<Option<Checkpoint>, TrainError> {
    let Some(folder) = list(folder)?.pop() else { return Ok(None) };
    let path = folder.join("trainer.json");
    let text = std::fs::read_to_string(&path).map_err(TrainError::io(&path))?;
    let state = serde_json::from_str(&text).map_err(|e| TrainError::checkpoint(&path, e.to_string()))?;
    Ok(Some(Checkpoint { folder, state }))
}

/// Writes a checkpoint, clears away what a killed run left unfinished, and removes the oldest ones beyond `keep`.
pub(crate) fn save(folder: &Path, model: &Llama, moments: &[StateTensor], state: &TrainerState, keep: usize) -> Result<(), TrainError> {
    let target = folder.join(format!("{PREFIX}{:08}", state.step));
    let temporary = temporary_for(&target);
    for left in entries(folder)?.iter().filter(|path| is_unfinished(path)) {
        std::fs::remove_dir_all(left).map_err(TrainError::io(left))?;
    }
    std::fs::create_dir_all(&temporary).map_err(TrainError::io(&temporary))?;
    match model.lora() {
        Some(_) => model.save_adapter(&temporary)?,
        None => model.save(&temporary, &SaveOptions { storage: model.precision(), ..SaveOptions::default() })?,
    }
    save_moments(&temporary.join("optimizer.safetensors"), moments)?;
    let path = temporary.join("trainer.json");
    let text = serde_json::to_string_pretty(state).map_err(|e| TrainError::checkpoint(&path, e.to_string()))?;
    std::fs::write(&path, text).map_err(TrainError::io(&path))?;
    for entry in std::fs::read_dir(&temporary).map_err(TrainError::io(&temporary))? {
        let path = entry.map_err(TrainError::io(&temporary))?.path();
        File::open(&path).and_then(|file| file.sync_all()).map_err(TrainError::io(&path))?;
    }
    std::fs::rename(&temporary, &target).map_err(TrainError::io(&target))?;
    File::open(folder).and_then(|f| f.sync_all()).map_err(TrainError::io(folder))?;
    let all = list(folder)?;
    for old in &all[..all.len().saturating_sub(keep)] {
        // Under its own name, a folder half removed would look like a checkpoint.
        let doomed = temporary_for(old);
        std::fs::rename(old, &doomed).map_err(TrainError::io(old))?;
        std::fs::remove_dir_all(&doomed).map_err(TrainError::io(&doomed))?;
    }
    Ok(())
}

fn save_moments(path: &Path, moments: &[StateTensor]) -> Result<(), TrainError> {
    let bytes: BTreeMap<&str, Vec<u8>> =
        moments.iter().map(|t| (t.name.as_str(), t.values.iter().flat_map(|v| v.to_le_bytes()).collect())).collect();
    let views = bytes
        .iter()
        .map(|(name, data)| Ok((*name, TensorView::new(Dtype::F32, vec![data.len() / 4], data)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|e| TrainError::checkpoint(path, e.to_string()))?;
    safetensors::serialize_to_file(views, None, path).map_err(|e| TrainError::checkpoint(path, e.to_string()))
}

/// Whole checkpoints, oldest first.
fn list(folder: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let mut found = entries(folder)?;
    found.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX)));
    found.sort();
    Ok(found)
}

/// Where a checkpoint is while it is being written or removed.
fn temporary_for(checkpoint: &Path) -> PathBuf {
    let name = checkpoint.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    checkpoint.with_file_name(format!(".{name}.tmp"))
}

fn is_unfinished(path: &Path) -> bool {
    let begins = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&format!(".{PREFIX}")));
    begins && path.extension().is_some_and(|extension| extension == "tmp")
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, TrainError> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(folder).map_err(TrainError::io(folder))?;
    entries.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>().map_err(TrainError::io(folder))
}
