//! `model.safetensors.index.json`: which file holds which tensor.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use crate::ModelError;

/// An index of 64 MiB would name half a million tensors.
const LARGEST_TEXT: u64 = 64 << 20;

/// The part of the index that is needed; `metadata` is for people.
#[derive(Debug, Deserialize)]
pub(super) struct Index {
    /// File name by tensor name.
    pub(super) weight_map: BTreeMap<String, String>,
}

impl Index {
    pub(super) fn read(path: &Path) -> Result<Self, ModelError> {
        let text = read_text(path)?;
        let index: Self = serde_json::from_str(&text).map_err(|e| ModelError::checkpoint(path, e.to_string()))?;
        match index.weight_map.iter().find(|(_, file)| !is_file_name(file)) {
            Some((tensor, file)) => {
                Err(ModelError::checkpoint(path, format!("puts `{tensor}` into `{file}`, which is not the name of a file in its folder")))
            }
            None => Ok(index),
        }
    }

    /// Each file once, sorted.
    pub(super) fn files(&self) -> Vec<&str> {
        let mut files: Vec<&str> = self.weight_map.values().map(String::as_str).collect();
        files.sort_unstable();
        files.dedup();
        files
    }
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', ':', '\0'])
}

/// Opens a file to read. A pipe or a device may have no end, and to open one may never return.
pub(crate) fn open(path: &Path) -> Result<File, ModelError> {
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        return Err(ModelError::checkpoint(path, "is a pipe or a device; a checkpoint is made of files"));
    }
    File::open(path).map_err(ModelError::io(path))
}

/// The text of a JSON file, read no further than to the limit.
pub(super) fn read_text(path: &Path) -> Result<String, ModelError> {
    let mut text = String::new();
    let mut file = open(path)?.take(LARGEST_TEXT + 1);
    file.read_to_string(&mut text).map_err(ModelError::io(path))?;
    if text.len() as u64 > LARGEST_TEXT {
        return Err(ModelError::checkpoint(path, "is larger than 64 MiB; that is no model's description"));
    }
    Ok(text)
}
