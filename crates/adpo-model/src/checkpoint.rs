//! Hugging Face folders in and out.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use burn::module::Param;
use burn::tensor::{DType, Device, Tensor, TensorData};
use memmap2::Mmap;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::config::LlamaConfig;
use crate::parameters::{ParameterMap, ParameterVisitor};
use crate::{Llama, ModelError};

/// How numbers are stored in a checkpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Storage {
    /// As they are in memory; nothing is lost.
    #[default]
    F32,
    /// Rounded to IEEE half precision.
    F16,
    /// Rounded to bfloat16.
    BF16,
}

/// How a checkpoint is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SaveOptions {
    /// The type of the numbers.
    pub storage: Storage,
    /// Starts a new file before one would exceed this; left out, all goes into `model.safetensors`.
    pub max_shard_bytes: Option<u64>,
}

/// An index of 64 MiB would name half a million tensors.
const LARGEST_INDEX: u64 = 64 << 20;

impl Llama {
    /// Loads a Hugging Face folder: `config.json` and one `model.safetensors`, or many with
    /// `model.safetensors.index.json`; f32, f16 or bf16.
    ///
    /// # Errors
    /// [`ModelError`] for a configuration that is not supported, files that are missing, cut off or malformed, and one
    /// error that lists every tensor that is missing, unexpected or of the wrong shape.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, ModelError> {
        let config_path = folder.join("config.json");
        let text = std::fs::read_to_string(&config_path).map_err(ModelError::io(&config_path))?;
        let config = LlamaConfig::from_json(&text, &config_path.display().to_string())?;
        let maps = shards(folder)?
            .into_iter()
            .map(|path| {
                let file = File::open(&path).map_err(ModelError::io(&path))?;
                // Safety: nobody else writes checkpoints that are being read; a file cut meanwhile would end the process.
                let map = unsafe { Mmap::map(&file) }.map_err(ModelError::io(&path))?;
                Ok((path, map))
            })
            .collect::<Result<Vec<_>, ModelError>>()?;
        let files = maps
            .iter()
            .map(|(p, m)| Ok((p.clone(), SafeTensors::deserialize(m).map_err(|e| ModelError::checkpoint(p, e.to_string()))?)))
            .collect::<Result<Vec<_>, ModelError>>()?;
        fill(&config, &files, folder, device)
    }
    /// Loads a model that is part of a program: the text of its `config.json` and the bytes of its safetensors.
    ///
    /// # Errors
    /// As [`Llama::load`].
    pub fn load_bytes(config: &str, weights: &[u8], device: &Device) -> Result<Self, ModelError> {
        let config = LlamaConfig::from_json(config, "embedded config.json")?;
        let path = PathBuf::from("embedded model.safetensors");
        let file = SafeTensors::deserialize(weights).map_err(|e| ModelError::checkpoint(&path, e.to_string()))?;
        fill(&config, &[(path.clone(), file)], &path, device)
    }
    /// Writes a folder that transformers loads. Each file is written beside and renamed.
    ///
    /// # Errors
    /// [`ModelError::Io`] or [`ModelError::Checkpoint`] if a file cannot be written.
    pub fn save(&self, folder: &Path, options: &SaveOptions) -> Result<(), ModelError> {
        struct Collect(Vec<(String, Vec<usize>, Vec<f32>)>);
        impl ParameterVisitor for Collect {
            fn visit<const D: usize>(&mut self, name: &str, p: &Param<Tensor<D>>) {
                let data = p.val().inner().into_data().convert_dtype(DType::F32);
                self.0.push((name.to_owned(), data.shape().to_vec(), data.iter::<f32>().collect()));
            }
        }
        std::fs::create_dir_all(folder).map_err(ModelError::io(folder))?;
        let mut c = Collect(Vec::new());
        self.visit_parameters(&mut c);
        let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = c.0.into_iter().map(|(n, s, v)| (n, s, bytes(&v, options.storage))).collect();
        let limit = options.max_shard_bytes.unwrap_or(u64::MAX);
        let mut groups: Vec<Vec<&(String, Vec<usize>, Vec<u8>)>> = vec![Vec::new()];
        let mut size = 0u64;
        for t in &tensors {
            if size + t.2.len() as u64 > limit && size > 0 {
                groups.push(Vec::new());
                size = 0;
            }
            size += t.2.len() as u64;
            if let Some(g) = groups.last_mut() {
                g.push(t);
            }
        }
        let dtype = match options.storage {
            Storage::F32 => Dtype::F32,
            Storage::F16 => Dtype::F16,
            Storage::BF16 => Dtype::BF16,
        };
        let total = groups.len();
        let mut map = BTreeMap::new();
        for (i, g) in groups.iter().enumerate() {
            let name = if total == 1 { "model.safetensors".to_owned() } else { format!("model-{:05}-of-{total:05}.safetensors", i + 1) };
            let path = folder.join(&name);
            let views = g
                .iter()
                .map(|(n, s, b)| {
                    map.insert(n.clone(), name.clone());
                    Ok((n.as_str(), TensorView::new(dtype, s.clone(), b)?))
                })
                .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
                .map_err(|e| ModelError::checkpoint(&path, e.to_string()))?;
            let temporary = folder.join(format!("{name}.tmp"));
            let meta = HashMap::from([("format".to_owned(), "pt".to_owned())]);
            safetensors::serialize_to_file(views, Some(meta), &temporary).map_err(|e| ModelError::checkpoint(&temporary, e.to_string()))?;
            std::fs::rename(&temporary, &path).map_err(ModelError::io(&path))?;
        }
        if total > 1 {
            let bytes: usize = tensors.iter().map(|t| t.2.len()).sum();
            let json = serde_json::json!({"metadata": {"total_size": bytes}, "weight_map": map});
            write(&folder.join("model.safetensors.index.json"), &json.to_string())?;
        }
        write(&folder.join("config.json"), &self.config.to_json())
    }
}
fn write(path: &Path, text: &str) -> Result<(), ModelError> {
    let t = path.with_extension("tmp");
    std::fs::write(&t, text).map_err(ModelError::io(&t))?;
    std::fs::rename(&t, path).map_err(ModelError::io(path))
}
fn bytes(v: &[f32], s: Storage) -> Vec<u8> {
    match s {
        Storage::F32 => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Storage::F16 => v.iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect(),
        Storage::BF16 => v.iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect(),
    }
}
fn shards(folder: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let index = folder.join("model.safetensors.index.json");
    if !index.exists() {
        return Ok(vec![folder.join("model.safetensors")]);
    }
    if std::fs::metadata(&index).map_err(ModelError::io(&index))?.len() > LARGEST_INDEX {
        return Err(ModelError::checkpoint(&index, "is larger than 64 MiB"));
    }
    let text = std::fs::read_to_string(&index).map_err(ModelError::io(&index))?;
    let json: serde_json::Value = serde_json::from_str(&text).map_err(|e| ModelError::checkpoint(&index, e.to_string()))?;
    let map = json.get("weight_map").and_then(|m| m.as_object()).ok_or_else(|| ModelError::checkpoint(&index, "has no `weight_map`"))?;
    let mut files: Vec<String> = map.values().filter_map(|v| v.as_str().map(str::to_owned)).collect();
    files.sort();
    files.dedup();
    if let Some(bad) = files.iter().find(|f| f.contains(['/', '\\']) || f.starts_with('.')) {
        return Err(ModelError::checkpoint(&index, format!("names a file outside its folder: {bad}")));
    }
    Ok(files.into_iter().map(|f| folder.join(f)).collect())
}
fn fill(config: &LlamaConfig, files: &[(PathBuf, SafeTensors<'_>)], at: &Path, device: &Device) -> Result<Llama, ModelError> {
    struct Fill<'a, 'd> {
        found: BTreeMap<String, &'a TensorView<'d>>,
        problems: Vec<String>,
        device: &'a Device,
    }
    impl ParameterMap for Fill<'_, '_> {
        fn map<const D: usize>(&mut self, name: &str, p: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let Some(v) = self.found.remove(name) else {
                self.problems.push(format!("{name} is missing"));
                return p;
            };
            let shape = p.lazy_shape().to_vec();
            if v.shape() != shape {
                self.problems.push(format!("{name} is {:?}, not {shape:?}", v.shape()));
                return p;
            }
            let Some(values) = floats(v) else {
                self.problems.push(format!("{name} is {:?}; F32, F16 and BF16 are supported", v.dtype()));
                return p;
            };
            let t = Tensor::from_data(TensorData::new(values, shape), self.device);
            p.map(|_| t)
        }
    }
    let views: Vec<(String, TensorView<'_>)> = files.iter().flat_map(|(_, f)| f.tensors()).collect();
    let mut fill = Fill { found: views.iter().map(|(n, v)| (n.clone(), v)).collect(), problems: Vec::new(), device };
    if config.tie_word_embeddings {
        fill.found.remove("lm_head.weight");
    }
    fill.found.retain(|n, _| !n.ends_with("rotary_emb.inv_freq"));
    let model = Llama::blank(config, device).map_parameters(&mut fill);
    fill.problems.extend(fill.found.keys().map(|n| format!("{n} is unexpected")));
    if fill.problems.is_empty() { Ok(model) } else { Err(ModelError::checkpoint(at, fill.problems.join("; "))) }
}
fn floats(v: &TensorView<'_>) -> Option<Vec<f32>> {
    let d = v.data();
    Some(match v.dtype() {
        Dtype::F32 => d.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        Dtype::F16 => d.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        Dtype::BF16 => d.chunks_exact(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        _ => return None,
    })
}
