//! Checkpoints of a run: written beside, then renamed, so that a folder that is there is whole.
//!
//! `checkpoints/step-00000040/` holds the weights as a Hugging Face folder (without the tokenizer), in bf16 where they were trained
//! in it and in f32 otherwise, or the adapters alone as a PEFT folder where only they are trained; `optimizer.safetensors`
//! (`first.<parameter>`, `second.<parameter>`, and beside bf16 weights `master.<parameter>`, all flat f32); and `trainer.json`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use adpo_model::{Llama, SaveOptions, Storage};
use memmap2::Mmap;
use safetensors::View;
use safetensors::tensor::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::optimizer::{StateTensor, to_host};

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

impl Checkpoint {
    /// The model as it was, in the precision that it was trained in. `start`, where the run began, gives its base to a checkpoint of
    /// adapters; otherwise it goes before anything is loaded.
    pub(crate) fn load_model(&self, start: Llama, precision: Storage) -> Result<Llama, TrainError> {
        if start.lora().is_some() {
            return Ok(start.without_lora().load_adapter(&self.folder)?);
        }
        let device = start.device().inner();
        drop(start);
        Ok(Llama::load_as(&self.folder, precision, &device)?)
    }

    /// Hands the optimiser's state to `restore`: little-endian f32 by name, in the mapped file. What `restore` says of it, the
    /// error says of the file.
    pub(crate) fn with_moments(&self, restore: impl FnOnce(BTreeMap<String, &[u8]>) -> Result<(), String>) -> Result<(), TrainError> {
        let path = self.folder.join(MOMENTS);
        let file = File::open(&path).map_err(TrainError::io(&path))?;
        // Safety: nobody writes to a checkpoint that has its name; a file cut meanwhile would end the process.
        let map = unsafe { Mmap::map(&file) }.map_err(TrainError::io(&path))?;
        let wrong = |problem: String| TrainError::checkpoint(&path, problem);
        let tensors = SafeTensors::deserialize(&map).map_err(|e| wrong(format!("is not a whole safetensors file: {e}")))?;
        let state = tensors.iter().map(|(name, view)| match view.dtype() {
            Dtype::F32 => Ok((name.to_owned(), view.data())),
            other => Err(wrong(format!("`{name}` is {other:?}, not F32"))),
        });
        restore(state.collect::<Result<_, _>>()?).map_err(wrong)
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

/// Writes a checkpoint, clears away what a killed run left unfinished, and removes the oldest ones beyond `keep`: after the new
/// one has its name, so that whatever goes wrong, the newest whole one is there.
pub(crate) fn save(folder: &Path, model: &Llama, moments: Vec<StateTensor>, state: &TrainerState, keep: usize) -> Result<(), TrainError> {
    let target = folder.join(format!("{PREFIX}{:08}", state.step));
    let temporary = temporary_for(&target);
    for left in entries(folder)?.iter().filter(|path| is_unfinished(path)) {
        std::fs::remove_dir_all(left).map_err(TrainError::io(left))?;
    }
    let written = write(&temporary, model, moments, state);
    if written.is_err() {
        // On a full disk, half a checkpoint would take the room that somebody is about to make.
        drop(std::fs::remove_dir_all(&temporary));
    }
    written?;
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

/// All files of a checkpoint, on disk when this returns.
fn write(folder: &Path, model: &Llama, moments: Vec<StateTensor>, state: &TrainerState) -> Result<(), TrainError> {
    std::fs::create_dir_all(folder).map_err(TrainError::io(folder))?;
    match model.lora() {
        Some(_) => model.save_adapter(folder)?,
        None => model.save(folder, &SaveOptions { storage: model.precision(), ..SaveOptions::default() })?,
    }
    let path = folder.join(MOMENTS);
    let moments = moments.into_iter().map(|tensor| (tensor.name.clone(), tensor));
    safetensors::serialize_to_file(moments, None, &path).map_err(|e| TrainError::checkpoint(&path, e.to_string()))?;
    let path = folder.join("trainer.json");
    let text = serde_json::to_string_pretty(state).map_err(|e| TrainError::checkpoint(&path, e.to_string()))?;
    std::fs::write(&path, text).map_err(TrainError::io(&path))?;
    for path in entries(folder)? {
        File::open(&path).and_then(|file| file.sync_all()).map_err(TrainError::io(&path))?;
    }
    Ok(())
}

/// Read back and encoded when the writer comes to it: one tensor at a time is in memory.
impl View for StateTensor {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(to_host(self.values.clone()).into_iter().flat_map(f32::to_le_bytes).collect())
    }

    fn data_len(&self) -> usize {
        4 * self.shape[0]
    }
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
