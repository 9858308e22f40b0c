//! An encoder's folder, as sentence-transformers and transformers write it.

use std::path::Path;

use burn::tensor::Device;

use super::index::read_text;
use super::read::{Compare, Fill, Found, no_weights};
use super::tensors::TensorFile;
use super::{CONFIG, SINGLE};
use crate::bert::{Bert, BertConfig};
use crate::{Dtype, ModelError};

/// Tensors that other heads need, and buffers that follow from the configuration.
const UNUSED: [&str; 3] = ["embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias"];

pub(super) fn load(folder: &Path, device: &Device) -> Result<Bert, ModelError> {
    let config_path = folder.join(CONFIG);
    let config = BertConfig::from_json(&read_text(&config_path)?, &config_path.display().to_string())?;
    let path = folder.join(SINGLE);
    if !path.exists() {
        return Err(ModelError::checkpoint(folder, no_weights(folder, "AutoModel")));
    }
    let file = TensorFile::open(&path)?;
    let mut found: Found = file.tensors()?.tensors().into_iter().collect();
    found.retain(|name, _| !UNUSED.contains(&name.as_str()));
    let blank = Bert::blank(config, device);
    let mut compare = Compare::new(&found);
    blank.visit_parameters(&mut compare);
    compare.finish(&path)?;
    let mut fill = Fill::new(found, Dtype::Float32, device);
    let model = blank.map_parameters(&mut fill);
    fill.finish(&path)?;
    Ok(model)
}
