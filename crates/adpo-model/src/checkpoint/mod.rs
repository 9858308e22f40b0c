//! Hugging Face folders in and out, whole models and PEFT's adapters.

mod adapter;
mod bert;
mod index;
mod read;
mod tensors;
mod write;

use std::path::Path;

use burn::tensor::Device;

use crate::{Bert, Dtype, Llama, LoraConfig, ModelError};

pub(crate) use index::open;
pub(crate) use read::{Stored, assemble};
pub use tensors::{StoredTensor, TensorFile};

/// How a checkpoint is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SaveOptions {
    /// The type of the numbers.
    pub dtype: Dtype,
    /// Starts a new file before one would exceed this; left out, all goes into `model.safetensors`.
    pub max_shard_bytes: Option<u64>,
}

impl Default for SaveOptions {
    /// f32, in files of at most 5 GB, as transformers 4 writes them.
    fn default() -> Self {
        Self { dtype: Dtype::Float32, max_shard_bytes: Some(5_000_000_000) }
    }
}

const CONFIG: &str = "config.json";
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

impl Llama {
    /// Loads a Hugging Face folder: `config.json` and one `model.safetensors`, or many with
    /// `model.safetensors.index.json`; f32, f16 or bf16.
    ///
    /// The weights are f32 in memory. Nothing of the model's size is allocated before the files were found to hold it.
    ///
    /// # Errors
    /// [`ModelError`] for a configuration that is not supported, files that are missing, cut off or malformed, and one
    /// error that lists every tensor that is missing, unexpected or of the wrong shape.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, ModelError> {
        Self::load_as(folder, Dtype::Float32, device)
    }

    /// [`Llama::load`] with weights of another type in memory, as `from_pretrained(dtype=…)` of transformers: each tensor is rounded
    /// to nearest even on its way from the file, and taken as it is where the file has it so. The same weights as of
    /// [`Llama::with_dtype`] after a load in f32, without its copy of the model.
    ///
    /// # Errors
    /// As [`Llama::load`], and [`ModelError::Device`] for a type that the device does not have.
    pub fn load_as(folder: &Path, dtype: Dtype, device: &Device) -> Result<Self, ModelError> {
        dtype.check_device(device)?;
        read::folder(folder, dtype, device)
    }

    /// Loads a model that is part of a program: the text of its `config.json` and the bytes of its safetensors.
    ///
    /// # Errors
    /// As [`Llama::load`].
    pub fn load_bytes(config: &str, weights: &[u8], device: &Device) -> Result<Self, ModelError> {
        read::embedded(config, weights, device)
    }

    /// Writes a folder that transformers loads. Each file is written beside and renamed; besides the model itself, one
    /// tensor at a time is in memory.
    ///
    /// # Errors
    /// [`ModelError::Io`] or [`ModelError::Checkpoint`] if a file cannot be written, [`ModelError::Lora`] for a model with
    /// adapters: they are merged first, or written alone.
    pub fn save(&self, folder: &Path, options: &SaveOptions) -> Result<(), ModelError> {
        write::folder(self, folder, options)
    }

    /// The model with the adapters of a PEFT folder: `adapter_config.json` and `adapter_model.safetensors`. Where they bring rows
    /// for tokens beyond the vocabulary, the vocabulary grows. Dropout is not applied when they are trained on.
    ///
    /// # Errors
    /// [`ModelError`] as for [`Llama::load`] and [`Llama::with_lora`], and for anything of PEFT's that changes the forward pass and
    /// is not supported, naming the field.
    pub fn load_adapter(self, folder: &Path) -> Result<Self, ModelError> {
        adapter::load(self, folder)
    }

    /// Writes the adapters alone, in f32, as a folder that PEFT loads.
    ///
    /// # Errors
    /// [`ModelError::Lora`] if there are none, [`ModelError::Io`] or [`ModelError::Checkpoint`] if a file cannot be written.
    pub fn save_adapter(&self, folder: &Path) -> Result<(), ModelError> {
        adapter::save(self, folder)
    }
}

impl Bert {
    /// Loads an encoder's folder, as sentence-transformers and transformers write it: `config.json` and `model.safetensors`; f32, f16 or
    /// bf16, f32 in memory. BERT's pooler is not read: sentence encoders take the mean.
    ///
    /// # Errors
    /// [`ModelError`] for a configuration that is not supported, files that are missing, cut off or malformed, and one error that lists
    /// every tensor that is missing, unexpected or of the wrong shape.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, ModelError> {
        bert::load(folder, device)
    }
}

impl LoraConfig {
    /// The configuration in a PEFT folder; `None` for a folder that holds no adapters.
    ///
    /// # Errors
    /// [`ModelError`] as for [`Llama::load_adapter`].
    pub fn from_folder(folder: &Path) -> Result<Option<Self>, ModelError> {
        adapter::is_there(folder).then(|| adapter::config(folder)).transpose()
    }
}
