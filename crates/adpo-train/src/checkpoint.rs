//! Checkpoints of a run: written beside, then renamed, so that a folder that is there is whole.
//!
//! `checkpoints/step-00000040/` holds the weights as a Hugging Face folder (without the tokenizer), in bf16 where they were trained
//! in it and in f32 otherwise, or the adapters alone as a PEFT folder where only they are trained; `optimizer.safetensors`
//! (`first.<parameter>`, `second.<parameter>`, and beside bf16 weights `master.<parameter>`, all flat f32); and `trainer.json`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use adpo_data::{remove_folder, write_file, write_folder};
use adpo_model::{Dtype, Llama, SaveOptions, StoredTensor, TensorFile};
use safetensors::tensor::Dtype as StoredDtype;
use serde::{Deserialize, Serialize};

use crate::TrainError;

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
const MOMENTS: &str = "optimizer.safetensors";
const STATE: &str = "trainer.json";

impl Checkpoint {
    /// The model as it was, in the precision that it was trained in. `start`, where the run began, gives its base to a checkpoint of
    /// adapters; otherwise it goes before anything is loaded.
    pub(crate) fn load_model(&self, start: Llama, dtype: Dtype) -> Result<Llama, TrainError> {
        let loaded = if start.lora().is_some() {
            start.without_lora().load_adapter(&self.folder)
        } else {
            let device = start.device().inner();
            drop(start);
            Llama::load_as(&self.folder, dtype, &device)
        };
        loaded.map_err(|error| unusable(&self.folder, error))
    }

    /// Hands the optimiser's state to `restore`: little-endian f32 by name, in the mapped file. What `restore` says of it, the
    /// error says of the file.
    pub(crate) fn with_moments(&self, restore: impl FnOnce(BTreeMap<String, &[u8]>) -> Result<(), String>) -> Result<(), TrainError> {
        let path = self.folder.join(MOMENTS);
        let file = TensorFile::open(&path).map_err(|error| unusable(&self.folder, error))?;
        let tensors = file.tensors().map_err(|error| unusable(&self.folder, error))?;
        let wrong = |problem: String| unusable(&path, problem);
        let state = tensors.iter().map(|(name, view)| match view.dtype() {
            StoredDtype::F32 => Ok((name.to_owned(), view.data())),
            other => Err(wrong(format!("`{name}` is {other:?}, not F32"))),
        });
        restore(state.collect::<Result<_, _>>()?).map_err(wrong)
    }
}

/// A checkpoint that has its name was whole once.
fn unusable(at: &Path, problem: impl Display) -> TrainError {
    let fix = "if it cannot be put back, delete this checkpoint's folder, and the run goes on from the one before it";
    TrainError::checkpoint(at, format!("{problem}; {fix}"))
}

/// The newest whole checkpoint below `folder`, if there is one.
pub(crate) fn newest(folder: &Path) -> Result<Option<Checkpoint>, TrainError> {
    let Some(folder) = list(folder)?.pop() else { return Ok(None) };
    let path = folder.join(STATE);
    let text = std::fs::read_to_string(&path).map_err(|e| unusable(&path, e))?;
    let state = serde_json::from_str(&text).map_err(|e| unusable(&path, e))?;
    Ok(Some(Checkpoint { folder, state }))
}

/// Writes a checkpoint, and [`tidy`]s after it has its name: whatever goes wrong, the newest whole one is there.
pub(crate) fn save(folder: &Path, model: &Llama, moments: Vec<StoredTensor>, state: &TrainerState, keep: usize) -> Result<(), TrainError> {
    write_folder(folder.join(format!("{PREFIX}{:08}", state.step)), |folder| {
        match model.lora() {
            Some(_) => model.save_adapter(folder)?,
            None => model.save(folder, &SaveOptions { dtype: model.dtype(), ..SaveOptions::default() })?,
        }
        TensorFile::write(&folder.join(MOMENTS), moments)?;
        let path = folder.join(STATE);
        let text = serde_json::to_string_pretty(state).map_err(|e| TrainError::checkpoint(&path, e.to_string()))?;
        Ok::<_, TrainError>(write_file(&path, text)?)
    })?;
    tidy(folder, keep)
}

/// Removes what a killed run left unfinished, written or removed by half, and the oldest checkpoints beyond `keep`.
pub(crate) fn tidy(folder: &Path, keep: usize) -> Result<(), TrainError> {
    for left in entries(folder)?.iter().filter(|path| is_unfinished(path)) {
        std::fs::remove_dir_all(left).map_err(TrainError::io(left))?;
    }
    let all = list(folder)?;
    all[..all.len().saturating_sub(keep)].iter().try_for_each(|old| Ok(remove_folder(old)?))
}

/// Whole checkpoints, oldest first.
fn list(folder: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let mut found = entries(folder)?;
    found.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX)));
    found.sort();
    Ok(found)
}

/// How `adpo_data` calls a folder that is being written or removed.
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
