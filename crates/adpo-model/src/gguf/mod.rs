//! GGUF files, llama.cpp's: a model with its tokenizer and template in one file, often quantised.
//!
//! A file is looked at once, from its start: every length and offset in it is held against the file's own before anything is made of it
//! (`header`). What it says is then put in the words of a Hugging Face folder, which the rest of this crate reads: the shape as a
//! `config.json` (`config`), the weights by their Hugging Face names (`weights`, `blocks`), the tokenizer as a `tokenizer.json`
//! (`tokenizer`). What cannot be put so without a change of meaning is refused by its name.

mod blocks;
mod config;
mod header;
#[cfg(test)]
mod tests;
mod tokenizer;
mod weights;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use memmap2::Mmap;

use crate::checkpoint::open;
use crate::config::LlamaConfig;
use crate::{Dtype, Llama, ModelError};
use header::{Tensor, Value};
pub use tokenizer::GgufTokenizer;

/// A GGUF file, mapped.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    map: Mmap,
}

impl GgufFile {
    /// Maps a file. Nobody may cut it while it is in use: that would end the process.
    ///
    /// # Errors
    /// [`ModelError::Io`] if it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let file = open(path)?;
        // SAFETY: the map is read alone, and such files are written once, by other programs. One that is overwritten meanwhile gives other
        // numbers, all of which are valid, since its header is read once; one cut meanwhile ends the process, as SECURITY.md says.
        let map = unsafe { Mmap::map(&file) }.map_err(ModelError::io(path))?;
        Ok(Self { path: path.to_owned(), map })
    }

    /// What the file holds, after a look at its header alone: it has to describe bytes that are there.
    ///
    /// # Errors
    /// [`ModelError::Checkpoint`] for a file that is cut off, whose header does not add up, or with a tensor of an unsupported type.
    pub fn contents(&self) -> Result<Gguf<'_>, ModelError> {
        Gguf::parse(&self.path, &self.map)
    }
}

/// The contents of a GGUF file.
#[derive(Debug)]
pub struct Gguf<'a> {
    path: &'a Path,
    metadata: BTreeMap<&'a str, Value<'a>>,
    tensors: BTreeMap<&'a str, Tensor<'a>>,
}

impl<'a> Gguf<'a> {
    fn parse(path: &'a Path, bytes: &'a [u8]) -> Result<Self, ModelError> {
        header::parse(bytes)
            .map(|(metadata, tensors)| Self { path, metadata, tensors })
            .map_err(|problem| ModelError::checkpoint(path, format!("is no GGUF file that can be read: {problem}")))
    }

    /// The model's shape.
    ///
    /// # Errors
    /// [`ModelError`] names the key that is missing, makes no sense, or asks for what is not supported.
    pub fn config(&self) -> Result<LlamaConfig, ModelError> {
        config::of(self)
    }

    /// The model, dequantised: the numbers that the file stands for, rounded to `dtype`.
    ///
    /// # Errors
    /// As [`Llama::load_as`], and [`Gguf::config`].
    pub fn load_as(&self, dtype: Dtype, device: &Device) -> Result<Llama, ModelError> {
        dtype.check_device(device)?;
        weights::load(self, dtype, device)
    }

    /// The tokenizer and the chat template.
    ///
    /// # Errors
    /// [`ModelError`] names the key that is missing, or the kind of tokenizer whose ids could not be had exactly.
    pub fn tokenizer(&self) -> Result<GgufTokenizer, ModelError> {
        tokenizer::of(self)
    }

    fn wrong(&self, key: &str, problem: &str) -> ModelError {
        ModelError::checkpoint(self.path, format!("`{key}` {problem}"))
    }

    fn required<T>(&self, key: &str, value: Option<T>) -> Result<T, ModelError> {
        value.ok_or_else(|| self.wrong(key, "is missing"))
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>, ModelError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(key, "must be a string")),
        }
    }

    fn whole(&self, key: &str) -> Result<Option<u64>, ModelError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Whole(number)) if *number >= 0 => Ok(Some(*number as u64)),
            Some(_) => Err(self.wrong(key, "must be one whole number")),
        }
    }

    fn number(&self, key: &str) -> Result<Option<f64>, ModelError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Number(number)) if number.is_finite() => Ok(Some(*number)),
            Some(_) => Err(self.wrong(key, "must be a finite number")),
        }
    }
}
