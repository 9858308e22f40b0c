//! Loading a checkpoint, beside reading its files.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use adpo_model::{Dtype, Llama};
use burn::tensor::Device;
use serde::Serialize;

use super::median;
use crate::PipelineError;

/// Medians of three, the files in the system's cache.
#[derive(Debug, Clone, Serialize)]
pub struct LoadFigures {
    what: &'static str,
    dtype: Dtype,
    /// Of the files.
    bytes: u64,
    /// From the folder to a model on the device.
    median_s: f64,
    gb_per_s: f64,
    /// The same files read once from start to end on one thread, nothing made of them.
    read_gb_per_s: f64,
}

/// Times [`Llama::load_as`], after one load that does not count.
///
/// # Errors
/// [`PipelineError`] if the folder cannot be read or holds no model.
pub fn bench_load(folder: &Path, dtype: Dtype, device: &Device) -> Result<LoadFigures, PipelineError> {
    let files = weights(folder)?;
    let (mut loads, mut reads) = (Vec::new(), Vec::new());
    let mut bytes = 0;
    for _ in 0..4 {
        let started = Instant::now();
        let model = Llama::load_as(folder, dtype, device)?;
        loads.push(started.elapsed().as_secs_f64());
        drop(model);
        let started = Instant::now();
        bytes = files.iter().map(|file| read(file)).sum::<Result<u64, _>>()?;
        reads.push(started.elapsed().as_secs_f64());
    }
    let [load, read] = [loads, reads].map(|seconds| {
        let mut counted = seconds[1..].to_vec();
        counted.sort_by(f64::total_cmp);
        median(&counted)
    });
    let rate = |seconds: f64| bytes as f64 / seconds / 1e9;
    Ok(LoadFigures { what: "load", dtype, bytes, median_s: load, gb_per_s: rate(load), read_gb_per_s: rate(read) })
}

/// The files that hold a folder's weights: `model.safetensors`, or its shards.
fn weights(folder: &Path) -> Result<Vec<PathBuf>, PipelineError> {
    let entries = std::fs::read_dir(folder).map_err(PipelineError::io(folder))?;
    let files = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>().map_err(PipelineError::io(folder))?;
    let is_weights = |file: &PathBuf| {
        let name = file.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        name.starts_with("model") && name.ends_with(".safetensors")
    };
    Ok(files.into_iter().filter(is_weights).collect())
}

fn read(path: &Path) -> Result<u64, PipelineError> {
    let mut file = File::open(path).map_err(PipelineError::io(path))?;
    let (mut buffer, mut total) = (vec![0; 1 << 20], 0);
    loop {
        match file.read(&mut buffer).map_err(PipelineError::io(path))? {
            0 => return Ok(total),
            n => total += n as u64,
        }
    }
}
