//! From a model to files, one tensor at a time.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use burn::module::Param;
use burn::tensor::Tensor;

use super::tensors::{StoredTensor, TensorFile};
use super::{CONFIG, INDEX, SINGLE, SaveOptions};
use crate::Dtype;
use crate::parameters::ParameterVisitor;
use crate::{Llama, ModelError};

pub(super) fn folder(model: &Llama, folder: &Path, options: &SaveOptions) -> Result<(), ModelError> {
    if model.lora().is_some() {
        let problem = "the model has adapters; merge them to write one model, or write the adapters alone";
        return Err(ModelError::Lora(problem.into()));
    }
    fs::create_dir_all(folder).map_err(ModelError::io(folder))?;
    let mut stored = Collect { dtype: options.dtype, tensors: Vec::new() };
    model.visit_parameters(&mut stored);
    let total_bytes: usize = stored.tensors.iter().map(StoredTensor::data_len).sum();
    let shards = split(stored.tensors, options.max_shard_bytes.unwrap_or(u64::MAX));
    let count = shards.len();
    let mut weight_map = BTreeMap::new();
    for (shard, number) in shards.into_iter().zip(1..) {
        let file = if count == 1 { SINGLE.to_owned() } else { format!("model-{number:05}-of-{count:05}.safetensors") };
        weight_map.extend(shard.iter().map(|tensor| (tensor.name.clone(), file.clone())));
        TensorFile::write(&folder.join(file), shard)?;
    }
    let outdated = if count > 1 {
        let index = serde_json::json!({"metadata": {"total_size": total_bytes}, "weight_map": weight_map});
        write_text(&folder.join(INDEX), &format!("{index:#}\n"))?;
        SINGLE
    } else {
        INDEX
    };
    // Weights of an earlier save in the other form: a reader could take them for the model.
    let outdated = folder.join(outdated);
    if outdated.exists() {
        fs::remove_file(&outdated).map_err(ModelError::io(&outdated))?;
    }
    let mut config = model.config().to_value();
    config["torch_dtype"] = options.dtype.name().into();
    write_text(&folder.join(CONFIG), &format!("{config:#}\n"))
}

/// Takes handles to all parameters.
pub(super) struct Collect {
    pub(super) dtype: Dtype,
    pub(super) tensors: Vec<StoredTensor>,
}

impl ParameterVisitor for Collect {
    fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
        self.tensors.push(StoredTensor::new(name, param.val().inner(), self.dtype));
    }
}

/// Groups tensors, in order, so that none but a group of one exceeds `limit` bytes.
fn split(tensors: Vec<StoredTensor>, limit: u64) -> Vec<Vec<StoredTensor>> {
    let mut groups = Vec::new();
    let mut group: Vec<StoredTensor> = Vec::new();
    let mut size = 0_u64;
    for tensor in tensors {
        let bytes = tensor.data_len() as u64;
        if !group.is_empty() && size + bytes > limit {
            groups.push(std::mem::take(&mut group));
            size = 0;
        }
        size += bytes;
        group.push(tensor);
    }
    groups.push(group);
    groups
}

pub(super) fn write_text(path: &Path, text: &str) -> Result<(), ModelError> {
    replace(path, |beside| fs::write(beside, text).map_err(ModelError::io(beside)))
}

/// Writes a file beside `path` and renames it, so that `path` never names half a file.
pub(super) fn replace(path: &Path, write: impl FnOnce(&Path) -> Result<(), ModelError>) -> Result<(), ModelError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".tmp");
    let beside = PathBuf::from(beside);
    let written = write_synced(&beside, write).and_then(|()| fs::rename(&beside, path).map_err(ModelError::io(path)));
    if written.is_err() {
        // The first error is the one to tell.
        drop(fs::remove_file(&beside));
    }
    written?;
    #[cfg(unix)] // Elsewhere a folder cannot be opened.
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        // The name is an entry of the folder: until that is on disk too, a power cut may take it back.
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(ModelError::io(folder))?;
    }
    Ok(())
}

fn write_synced(path: &Path, write: impl FnOnce(&Path) -> Result<(), ModelError>) -> Result<(), ModelError> {
    let io = || ModelError::io(path);
    // The safetensors crate gives its files to their owner alone; ours get the rights of any new file.
    let rights = File::create(path).and_then(|file| file.metadata()).map_err(io())?.permissions();
    write(path)?;
    fs::set_permissions(path, rights).map_err(io())?;
    File::options().write(true).open(path).and_then(|file| file.sync_all()).map_err(io())
}
