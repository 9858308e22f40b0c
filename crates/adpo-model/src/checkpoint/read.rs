//! From files to a model: map the files, compare what they hold with the configuration, only then build.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use burn::module::Param;
use burn::tensor::{DType, Device, Tensor, TensorData};
use rayon::prelude::*;
use safetensors::tensor::{Dtype as StoredDtype, SafeTensors, TensorView};

use super::adapter;
use super::index::{Index, read_text};
use super::tensors::{TensorFile, parse};
use super::{CONFIG, INDEX, SINGLE};
use crate::Dtype;
use crate::config::LlamaConfig;
use crate::parameters::{ParameterMap, ParameterVisitor};
use crate::{Llama, ModelError};

/// The tensors of a checkpoint by name, still in their files.
pub(super) type Found<'a> = BTreeMap<String, TensorView<'a>>;

/// A tensor as a file has it.
pub(crate) trait Stored {
    fn shape(&self) -> &[usize];

    /// Its type, where that is none that can be read.
    fn unsupported(&self) -> Option<String>;

    /// Its numbers as memory will have them; all threads read, so that the disk is what they wait for.
    fn numbers<T: Default + Clone + Send>(&self, rounded: impl Fn(f32) -> T + Sync) -> Vec<T>;
}

pub(super) fn folder(folder: &Path, dtype: Dtype, device: &Device) -> Result<Llama, ModelError> {
    if adapter::is_there(folder) {
        return Err(ModelError::checkpoint(folder, "holds adapters without their base; load the base, and the adapters into it"));
    }
    let config_path = folder.join(CONFIG);
    let config = LlamaConfig::from_json(&read_text(&config_path)?, &config_path.display().to_string())?;
    let (path, index_path) = (folder.join(SINGLE), folder.join(INDEX));
    // Where both are there, transformers takes the single file too.
    if !path.exists() && !index_path.exists() {
        return Err(ModelError::checkpoint(folder, no_weights(folder, "AutoModelForCausalLM")));
    }
    if path.exists() {
        let file = TensorFile::open(&path)?;
        return assemble(&config, file.tensors()?.tensors().into_iter().collect(), folder, (dtype, device));
    }
    let index = Index::read(&index_path)?;
    let names = index.files();
    let shards = names.iter().map(|name| TensorFile::open(&folder.join(name))).collect::<Result<Vec<_>, _>>()?;
    let files = names.iter().zip(&shards).map(|(name, shard)| Ok((*name, shard.tensors()?))).collect::<Result<Vec<_>, ModelError>>()?;
    assemble(&config, merge(&index, &files, &index_path)?, folder, (dtype, device))
}

/// What a folder without safetensors has instead, and what to do about it with a class of transformers.
pub(super) fn no_weights(folder: &Path, class: &str) -> String {
    let names = std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut old: Vec<String> =
        names.filter(|name| [".bin", ".pth", ".pt", ".h5", ".msgpack", ".ckpt"].iter().any(|end| name.ends_with(end))).collect();
    old.sort();
    match old.first() {
        Some(first) => format!(
            "has no {SINGLE}, only weights that are not read ({first}{}); convert them once with transformers: \
             {class}.from_pretrained(FOLDER).save_pretrained(FOLDER)",
            if old.len() > 1 { ", …" } else { "" }
        ),
        None => format!("has no {SINGLE} and no {INDEX}; fetch its weights from where the model came from"),
    }
}

pub(super) fn embedded(config: &str, weights: &[u8], device: &Device) -> Result<Llama, ModelError> {
    let config = LlamaConfig::from_json(config, "embedded config.json")?;
    let path = PathBuf::from("embedded model.safetensors");
    assemble(&config, parse(&path, weights)?.tensors().into_iter().collect(), &path, (Dtype::Float32, device))
}

/// The tensors of all shards, if index and shards agree.
fn merge<'a>(index: &Index, files: &[(&str, SafeTensors<'a>)], path: &Path) -> Result<Found<'a>, ModelError> {
    let mut found = Found::new();
    let mut holder: BTreeMap<String, &str> = BTreeMap::new();
    let mut problems = Vec::new();
    for (file, tensors) in files {
        for (name, view) in tensors.tensors() {
            if let Some(first) = holder.insert(name.clone(), file) {
                problems.push(format!("`{name}` is in both {first} and {file}"));
            }
            found.insert(name, view);
        }
    }
    for (name, file) in &index.weight_map {
        if files.iter().any(|(other, tensors)| other == file && tensors.tensor(name).is_err()) {
            problems.push(format!("`{name}` should be in {file}, which lacks it"));
        }
    }
    if problems.is_empty() { Ok(found) } else { Err(ModelError::checkpoint(path, problems.join("; "))) }
}

/// The model that `config` describes, made of `found`.
pub(crate) fn assemble<S: Stored>(
    config: &LlamaConfig,
    mut found: BTreeMap<String, S>,
    at: &Path,
    (dtype, device): (Dtype, &Device),
) -> Result<Llama, ModelError> {
    if config.tie_word_embeddings {
        // Some writers store the tied head again.
        found.remove("lm_head.weight");
    }
    // Old checkpoints store the rotary frequencies, which follow from the configuration.
    found.retain(|name, _| !name.ends_with("rotary_emb.inv_freq"));

    let blank = Llama::blank(config, device);
    let mut compare = Compare::new(&found);
    blank.visit_parameters(&mut compare);
    compare.finish(at)?;
    let mut fill = Fill::new(found, dtype, device);
    let model = blank.map_parameters(&mut fill);
    fill.finish(at)?;
    Ok(model)
}

/// Compares names, shapes and types of a model's parameters with what the files hold.
pub(super) struct Compare<'a, S> {
    found: &'a BTreeMap<String, S>,
    names: BTreeSet<String>,
    problems: Vec<String>,
}

impl<'a, S> Compare<'a, S> {
    pub(super) fn new(found: &'a BTreeMap<String, S>) -> Self {
        Self { found, names: BTreeSet::new(), problems: Vec::new() }
    }

    /// One error for everything that is missing, unexpected or of the wrong shape or type.
    pub(super) fn finish(self, at: &Path) -> Result<(), ModelError> {
        let Self { found, names, mut problems } = self;
        problems.extend(found.keys().filter(|name| !names.contains(*name)).map(|name| format!("`{name}` is unexpected")));
        if problems.is_empty() { Ok(()) } else { Err(ModelError::checkpoint(at, problems.join("; "))) }
    }
}

impl<S: Stored> ParameterVisitor for Compare<'_, S> {
    fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
        self.names.insert(name.to_owned());
        let shape = param.lazy_shape().to_vec();
        match self.found.get(name) {
            None => self.problems.push(format!("`{name}` is missing")),
            Some(stored) if stored.shape() != shape => self.problems.push(format!("`{name}` is {:?}, not {shape:?}", stored.shape())),
            Some(stored) => {
                let unsupported = stored.unsupported();
                self.problems.extend(unsupported.map(|dtype| format!("`{name}` is {dtype}; F32, F16 and BF16 are supported")));
            }
        }
    }
}

/// Gives each parameter its numbers; [`Compare`] has seen that they are there and fit.
pub(super) struct Fill<'d, S> {
    found: BTreeMap<String, S>,
    dtype: Dtype,
    device: &'d Device,
    /// Parameters with numbers that are none.
    problems: Vec<String>,
}

impl<'d, S> Fill<'d, S> {
    pub(super) fn new(found: BTreeMap<String, S>, dtype: Dtype, device: &'d Device) -> Self {
        Self { found, dtype, device, problems: Vec::new() }
    }

    /// One error for all numbers that cannot be computed with: whatever they touch becomes NaN too, without a word.
    pub(super) fn finish(self, at: &Path) -> Result<(), ModelError> {
        if self.problems.is_empty() { Ok(()) } else { Err(ModelError::checkpoint(at, self.problems.join("; "))) }
    }
}

impl<S: Stored> ParameterMap for Fill<'_, S> {
    fn map<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(stored) = self.found.remove(name) else { return param };
        let shape = stored.shape().to_vec();
        let (data, finite, dtype) = match self.dtype {
            Dtype::Float32 => {
                let (numbers, finite) = rounded(&stored, |x| x, f32::is_finite);
                (TensorData::new(numbers, shape), finite, DType::F32)
            }
            Dtype::Float16 => {
                let (numbers, finite) = rounded(&stored, half::f16::from_f32, half::f16::is_finite);
                (TensorData::new(numbers, shape), finite, DType::F16)
            }
            Dtype::Bfloat16 => {
                let (numbers, finite) = rounded(&stored, half::bf16::from_f32, half::bf16::is_finite);
                (TensorData::new(numbers, shape), finite, DType::BF16)
            }
        };
        if !finite {
            let kind = self.dtype.name();
            self.problems.push(format!("`{name}` holds a number that is NaN or infinite, or too large for {kind}"));
        }
        Param::from_tensor(Tensor::from_data(data, (self.device, dtype)))
    }
}

/// A tensor's numbers in the type that they are to have, and whether all of them are finite in it.
fn rounded<T: Copy + Default + Send>(
    stored: &impl Stored,
    round: impl Fn(f32) -> T + Sync,
    is_finite: impl Fn(T) -> bool + Sync,
) -> (Vec<T>, bool) {
    let finite = AtomicBool::new(true);
    let numbers = stored.numbers(|x| {
        let x = round(x);
        if !is_finite(x) {
            finite.store(false, Ordering::Relaxed);
        }
        x
    });
    (numbers, finite.into_inner())
}

impl Stored for TensorView<'_> {
    fn shape(&self) -> &[usize] {
        TensorView::shape(self)
    }

    fn unsupported(&self) -> Option<String> {
        let supported = matches!(self.dtype(), StoredDtype::F32 | StoredDtype::F16 | StoredDtype::BF16);
        (!supported).then(|| format!("{:?}", self.dtype()))
    }

    fn numbers<T: Default + Clone + Send>(&self, rounded: impl Fn(f32) -> T + Sync) -> Vec<T> {
        /// Numbers per thread and turn.
        const PIECE: usize = 1 << 18;
        let width = if self.dtype() == StoredDtype::F32 { 4 } else { 2 };
        let mut values = vec![T::default(); self.data().len() / width];
        values.par_chunks_mut(PIECE).zip(self.data().par_chunks(PIECE * width)).for_each(|(values, bytes)| {
            let values = values.iter_mut();
            match self.dtype() {
                StoredDtype::BF16 => {
                    values.zip(bytes.as_chunks().0).for_each(|(value, b)| *value = rounded(half::bf16::from_le_bytes(*b).to_f32()));
                }
                StoredDtype::F16 => {
                    values.zip(bytes.as_chunks().0).for_each(|(value, b)| *value = rounded(half::f16::from_le_bytes(*b).to_f32()));
                }
                _ => values.zip(bytes.as_chunks().0).for_each(|(value, b)| *value = rounded(f32::from_le_bytes(*b))),
            }
        });
        values
    }
}
