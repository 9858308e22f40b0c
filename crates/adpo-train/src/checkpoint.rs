//! Checkpoints of a run: written beside, then renamed, so that a folder that is there is whole.
//!
//! `checkpoints/step-00000040/` holds the weights as a Hugging Face folder (without the tokenizer), in bf16 where they were trained
//! in it and in f32 otherwise, or the adapters alone as a PEFT folder where only they are trained; `optimizer.safetensors`
//! (`first.<parameter>`, `second.<parameter>`, and beside bf16 weights `master.<parameter>`, all flat f32); and `trainer.json`, which has
//! the hashes of all of them, of itself, and of the metrics up to its step. One that is not what was written is set aside, as
//! `damaged-step-00000040`, and training goes on from the one before it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use adpo_data::{read_text, remove_folder, write_file, write_folder};
use adpo_model::{Dtype, Llama, SaveOptions, StoredTensor, TensorFile};
use rayon::prelude::*;
use safetensors::tensor::Dtype as StoredDtype;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{TrainError, metrics};

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

/// `trainer.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Sealed {
    #[serde(flatten)]
    state: TrainerState,
    /// SHA-256 of the metrics up to the step.
    metrics: String,
    /// SHA-256 of the other files, by name.
    files: BTreeMap<String, String>,
    /// SHA-256 of all that stands above.
    seal: String,
}

impl Sealed {
    fn new(state: &TrainerState, metrics: String, files: BTreeMap<String, String>) -> Self {
        let sealed = Self { state: state.clone(), metrics, files, seal: String::new() };
        Self { seal: sealed.hash(), ..sealed }
    }

    fn hash(&self) -> String {
        let Self { state, metrics, files, seal: _ } = self;
        // Numbers, text and maps of text can be written.
        hex::encode(Sha256::digest(serde_json::to_vec(&(state, metrics, files)).unwrap_or_default()))
    }
}

/// A checkpoint on disk.
pub(crate) struct Checkpoint {
    pub folder: PathBuf,
    pub state: TrainerState,
}

const PREFIX: &str = "step-";
const DAMAGED: &str = "damaged-";
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

/// The newest checkpoint below `run` that is what was written, if there is one; those after it are told and set aside.
pub(crate) fn newest(run: &Path) -> Result<Option<Checkpoint>, TrainError> {
    while let Some(folder) = list(&folder_of(run))?.pop() {
        match whole(run, &folder) {
            Ok(state) => return Ok(Some(Checkpoint { folder, state })),
            Err(problem) => {
                log::warn!("{problem}; training goes on from the checkpoint before it, or from the start");
                let name = folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
                let aside = folder.with_file_name(format!("{DAMAGED}{name}"));
                remove_folder(&aside)?;
                std::fs::rename(&folder, &aside).map_err(TrainError::io(&folder))?;
            }
        }
    }
    Ok(None)
}

/// The folder of the newest checkpoint, whatever is in it.
pub(crate) fn newest_folder(run: &Path) -> Result<Option<PathBuf>, TrainError> {
    Ok(list(&folder_of(run))?.pop())
}

/// Where a run has its checkpoints.
fn folder_of(run: &Path) -> PathBuf {
    run.join("checkpoints")
}

/// The state in a checkpoint, or which of its files is not what was written.
fn whole(run: &Path, folder: &Path) -> Result<TrainerState, String> {
    let path = folder.join(STATE);
    let damaged = |path: &Path| format!("{} is damaged: it is not what training wrote there", path.display());
    let sealed: Option<Sealed> = read_text(&path).ok().and_then(|text| serde_json::from_str(&text).ok());
    let sealed = sealed.filter(|sealed| sealed.seal == sealed.hash()).ok_or_else(|| damaged(&path))?;
    let found = hashes(folder).map_err(|error| error.to_string())?;
    if let Some(name) = sealed.files.keys().find(|name| found.get(*name) != sealed.files.get(*name)) {
        return Err(damaged(&folder.join(name)));
    }
    if metrics::hash(run, sealed.state.step).map_err(|error| error.to_string())? != sealed.metrics {
        return Err(format!("{}, up to the step of {}", damaged(&metrics::path(run)), folder.display()));
    }
    Ok(sealed.state)
}

/// SHA-256 of the files in a checkpoint besides `trainer.json`.
fn hashes(folder: &Path) -> Result<BTreeMap<String, String>, TrainError> {
    let files: Vec<PathBuf> = entries(folder)?.into_iter().filter(|path| !path.ends_with(STATE)).collect();
    let hash = |path: &PathBuf| -> Result<(String, String), TrainError> {
        let mut file = std::fs::File::open(path).map_err(TrainError::io(path))?;
        let mut hash = Sha256::new();
        std::io::copy(&mut file, &mut Hashing(&mut hash)).map_err(TrainError::io(path))?;
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Ok((name, hex::encode(hash.finalize())))
    };
    files.par_iter().map(hash).collect()
}

/// Hashes what is written to it.
struct Hashing<'h>(&'h mut Sha256);

impl std::io::Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Writes a checkpoint, and [`tidy`]s after it has its name: whatever goes wrong, the newest whole one is there.
pub(crate) fn save(run: &Path, model: &Llama, moments: Vec<StoredTensor>, state: &TrainerState, keep: usize) -> Result<(), TrainError> {
    let metrics = metrics::hash(run, state.step)?;
    write_folder(folder_of(run).join(format!("{PREFIX}{:08}", state.step)), |folder| {
        match model.lora() {
            Some(_) => model.save_adapter(folder)?,
            None => model.save(folder, &SaveOptions { dtype: model.dtype(), ..SaveOptions::default() })?,
        }
        TensorFile::write(&folder.join(MOMENTS), moments)?;
        let path = folder.join(STATE);
        let sealed = Sealed::new(state, metrics, hashes(folder)?);
        let text = serde_json::to_string_pretty(&sealed).map_err(|e| TrainError::checkpoint(&path, e.to_string()))?;
        Ok::<_, TrainError>(write_file(&path, text)?)
    })?;
    tidy(run, keep)
}

/// Removes what a killed run left unfinished, written or removed by half, and the oldest checkpoints beyond `keep`.
pub(crate) fn tidy(run: &Path, keep: usize) -> Result<(), TrainError> {
    let folder = &folder_of(run);
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
