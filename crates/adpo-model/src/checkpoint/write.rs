//! From a model to files, one tensor at a time.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use burn::module::Param;
use burn::tensor::{DType, Tensor};
use safetensors::View;
use safetensors::tensor::Dtype;

use super::{CONFIG, INDEX, SINGLE, SaveOptions, Storage};
use crate::parameters::ParameterVisitor;
use crate::{Llama, ModelError};

pub(super) fn folder(model: &Llama, folder: &Path, options: &SaveOptions) -> Result<(), ModelError> {
    if model.lora().is_some() {
        let problem = "the model has adapters; merge them to write one model, or write the adapters alone";
        return Err(ModelError::Lora(problem.into()));
    }
    fs::create_dir_all(folder).map_err(ModelError::io(folder))?;
    let mut stored = Collect { storage: options.storage, tensors: Vec::new() };
    model.visit_parameters(&mut stored);
    let total_bytes: usize = stored.tensors.iter().map(View::data_len).sum();
    let shards = split(stored.tensors, options.max_shard_bytes.unwrap_or(u64::MAX));
    let count = shards.len();
    let mut weight_map = BTreeMap::new();
    for (shard, number) in shards.into_iter().zip(1..) {
        let file = if count == 1 { SINGLE.to_owned() } else { format!("model-{number:05}-of-{count:05}.safetensors") };
        weight_map.extend(shard.iter().map(|tensor| (tensor.name.clone(), file.clone())));
        write_shard(&folder.join(file), shard)?;
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
    config["torch_dtype"] = options.storage.torch_name().into();
    write_text(&folder.join(CONFIG), &format!("{config:#}\n"))
}

impl Storage {
    fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::BF16 => Dtype::BF16,
        }
    }

    /// What PyTorch and transformers call it.
    pub(crate) fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
        }
    }

    fn bytes_each(self) -> usize {
        if self == Self::F32 { 4 } else { 2 }
    }

    fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::F16 => values.iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect(),
            Self::BF16 => values.iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect(),
        }
    }
}

/// A parameter on its way into a file: a handle to the model's own numbers, encoded when the writer comes to it.
pub(super) struct Stored {
    pub(super) name: String,
    shape: Vec<usize>,
    storage: Storage,
    flat: Tensor<1>,
}

impl View for Stored {
    fn dtype(&self) -> Dtype {
        self.storage.dtype()
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let values: Vec<f32> = self.flat.clone().into_data().convert_dtype(DType::F32).iter::<f32>().collect();
        Cow::Owned(self.storage.encode(&values))
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.storage.bytes_each()
    }
}

/// Takes handles to all parameters.
pub(super) struct Collect {
    pub(super) storage: Storage,
    pub(super) tensors: Vec<Stored>,
}

impl ParameterVisitor for Collect {
    fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
        let tensor = param.val().inner();
        let shape = tensor.dims().to_vec();
        let flat = tensor.reshape([shape.iter().product::<usize>()]);
        self.tensors.push(Stored { name: name.to_owned(), shape, storage: self.storage, flat });
    }
}

/// Groups tensors, in order, so that none but a group of one exceeds `limit` bytes.
fn split(tensors: Vec<Stored>, limit: u64) -> Vec<Vec<Stored>> {
    let mut groups = Vec::new();
    let mut group: Vec<Stored> = Vec::new();
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

pub(super) fn write_shard(path: &Path, shard: Vec<Stored>) -> Result<(), ModelError> {
    // transformers refuses files that do not say which framework's layout they have.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let named = shard.into_iter().map(|tensor| (tensor.name.clone(), tensor));
    replace(path, |beside| {
        safetensors::serialize_to_file(named, Some(metadata), beside).map_err(|e| ModelError::checkpoint(beside, e.to_string()))
    })
}

pub(super) fn write_text(path: &Path, text: &str) -> Result<(), ModelError> {
    replace(path, |beside| fs::write(beside, text).map_err(ModelError::io(beside)))
}

/// Writes a file beside `path` and renames it, so that `path` never names half a file.
fn replace(path: &Path, write: impl FnOnce(&Path) -> Result<(), ModelError>) -> Result<(), ModelError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".tmp");
    let beside = PathBuf::from(beside);
    let io = || ModelError::io(&beside);
    // The safetensors crate gives its files to their owner alone; a model gets the rights of any new file.
    let rights = File::create(&beside).and_then(|file| file.metadata()).map_err(io())?.permissions();
    write(&beside)?;
    fs::set_permissions(&beside, rights).map_err(io())?;
    File::options().write(true).open(&beside).and_then(|file| file.sync_all()).map_err(io())?;
    fs::rename(&beside, path).map_err(ModelError::io(path))
}
