//! A stage's folder and its manifest: what it was made from, and what it made.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use adpo_data::write_file;
use adpo_model::DeviceChoice;
use burn::tensor::Device;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::PipelineError;

/// What a finished stage was made from and what it made. Written last, so a folder without one is unfinished.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The stage's name.
    pub stage: String,
    /// Version of the code that ran it.
    pub code: String,
    /// The device that computed it. No input: devices agree within rounding, so that a stage which is finished stays finished, and
    /// training goes on, on another one. (A precision is an input, and in the recipe.)
    #[serde(default)]
    pub device: String,
    /// Hashes of everything the stage depends on, by name: recipe section, seed, earlier stages, data.
    pub inputs: BTreeMap<String, String>,
    /// SHA-256 of each output file, by its path within the folder.
    pub outputs: BTreeMap<String, String>,
    /// Counts worth keeping: rows read, dropped by reason, tokens.
    pub counts: serde_json::Value,
}

impl Manifest {
    /// One hash for all outputs; the next stage's input.
    pub fn hash(&self) -> String {
        hash_json(&self.outputs)
    }
}

/// Raised whenever a stage makes something else of the same inputs: folders of earlier builds are then moved aside and
/// run again. What judges know has a fingerprint of its own.
const REVISION: u32 = 7;

/// Collects the hashes of a stage's inputs.
#[derive(Debug)]
pub(crate) struct Inputs(BTreeMap<String, String>);

impl Inputs {
    pub(crate) fn new() -> Self {
        Self(BTreeMap::from([("code".to_owned(), code())]))
    }

    pub(crate) fn value(mut self, name: &str, value: &impl Serialize) -> Self {
        self.0.insert(name.to_owned(), hash_json(value));
        self
    }

    pub(crate) fn hash(mut self, name: &str, hash: impl Into<String>) -> Self {
        self.0.insert(name.to_owned(), hash.into());
        self
    }
}

/// Version of the stages' code.
pub(crate) fn code() -> String {
    format!("{}.{REVISION}", env!("CARGO_PKG_VERSION"))
}

/// What a stage's work returns: its output files (relative to its folder) and its counts.
pub(crate) struct Made {
    pub outputs: Vec<&'static str>,
    pub counts: serde_json::Value,
}

/// Runs a stage's work in its folder and writes its manifest.
///
/// An unfinished folder with the same inputs is handed to `work` as it is, to go on with. One with other inputs is
/// moved aside, never deleted, unless a kill left it before there was anything in it.
pub(crate) fn make(
    name: &str,
    folder: &Path,
    Inputs(inputs): Inputs,
    device: &Device,
    work: impl FnOnce(&Path) -> Result<Made, PipelineError>,
) -> Result<Manifest, PipelineError> {
    let started = folder.join("inputs.json");
    if folder.exists() {
        let before = read_json::<BTreeMap<String, String>>(&started).ok();
        if before.as_ref() == Some(&inputs) {
            log::info!("{name}: goes on where it was stopped");
        } else if std::fs::read_dir(folder).map_err(PipelineError::io(folder))?.next().is_some() {
            let aside = move_aside(folder)?;
            log::info!("{name}: run again, since {}; what was there is in {}", why(before.as_ref(), &inputs), aside.display());
        }
    }
    std::fs::create_dir_all(folder).map_err(PipelineError::io(folder))?;
    write_json(&started, &inputs)?;
    let made = work(folder)?;
    let mut outputs = BTreeMap::new();
    for output in made.outputs {
        for file in files_below(&folder.join(output))? {
            let name = file.strip_prefix(folder).unwrap_or(&file).to_string_lossy().replace('\\', "/");
            outputs.insert(name, hash_file(&file)?);
        }
    }
    let device = DeviceChoice::of(device).to_string();
    let manifest = Manifest { stage: name.to_owned(), code: code(), device, inputs, outputs, counts: made.counts };
    write_json(&folder.join("manifest.json"), &manifest)?;
    Ok(manifest)
}

/// The manifest, if the folder's stage is finished with these inputs and its outputs are as they were written.
pub(crate) fn finished(folder: &Path, Inputs(inputs): &Inputs) -> Result<Option<Manifest>, PipelineError> {
    let path = folder.join("manifest.json");
    if !path.exists() {
        return Ok(None);
    }
    let manifest: Manifest = read_json(&path)?;
    if manifest.inputs != *inputs {
        return Ok(None);
    }
    for (name, hash) in &manifest.outputs {
        let file = folder.join(name);
        if !file.exists() || hash_file(&file)? != *hash {
            return Err(PipelineError::file(
                &file,
                "is not what the finished stage wrote; put it back, or delete the stage's folder to run it again",
            ));
        }
    }
    Ok(Some(manifest))
}

/// What is other than before, by the names of the inputs.
fn why(before: Option<&BTreeMap<String, String>>, now: &BTreeMap<String, String>) -> String {
    let Some(before) = before else { return "nothing tells what it was made from".to_owned() };
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).filter(|name| before.get(*name) != now.get(*name)).collect();
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    format!("{} changed", names.join(", "))
}

/// Where it is then.
fn move_aside(folder: &Path) -> Result<PathBuf, PipelineError> {
    let name = folder.file_name().map_or_else(|| "stage".into(), |n| n.to_string_lossy().into_owned());
    let mut number = 1;
    while folder.with_file_name(format!("{name}.old-{number}")).exists() {
        number += 1;
    }
    let aside = folder.with_file_name(format!("{name}.old-{number}"));
    std::fs::rename(folder, &aside).map_err(PipelineError::io(folder))?;
    Ok(aside)
}

fn files_below(path: &Path) -> Result<Vec<PathBuf>, PipelineError> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(PipelineError::io(path))? {
        files.extend(files_below(&entry.map_err(PipelineError::io(path))?.path())?);
    }
    files.sort();
    Ok(files)
}

pub(crate) fn hash_file(path: &Path) -> Result<String, PipelineError> {
    let mut reader = BufReader::new(File::open(path).map_err(PipelineError::io(path))?);
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match reader.read(&mut buffer).map_err(PipelineError::io(path))? {
            0 => return Ok(hex::encode(hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

pub(crate) fn hash_bytes(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn hash_json(value: &impl Serialize) -> String {
    // A recipe section or a map of strings always serialises.
    hash_bytes(&serde_json::to_vec(value).unwrap_or_default())
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, PipelineError> {
    let text = adpo_data::read_text(path)?;
    serde_json::from_str(&text).map_err(|e| PipelineError::file(path, format!("{e}; delete the stage's folder to run it again")))
}

pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), PipelineError> {
    let text = serde_json::to_string_pretty(value).map_err(|e| PipelineError::file(path, e))?;
    write_changed(path, &(text + "\n"))
}

/// Writes a text where it is not there already: a finished run may lie where nothing can be written.
pub(crate) fn write_changed(path: &Path, text: &str) -> Result<(), PipelineError> {
    if std::fs::read(path).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(());
    }
    Ok(write_file(path, text)?)
}

/// Appends one row of JSON.
pub(crate) fn append_line(path: &Path, row: &impl Serialize) -> Result<(), PipelineError> {
    let line = serde_json::to_string(row).map_err(|e| PipelineError::file(path, e))?;
    let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(PipelineError::io(path))?;
    writeln!(file, "{line}").map_err(PipelineError::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(folder: &Path, seed: u64, runs: &mut usize) -> Result<Manifest, PipelineError> {
        let inputs = Inputs::new().value("seed", &seed);
        if let Some(manifest) = finished(folder, &inputs)? {
            return Ok(manifest);
        }
        make("demo", folder, inputs, &Device::flex(), |folder| {
            *runs += 1;
            write_file(folder.join("out.txt"), seed.to_string())?;
            Ok(Made { outputs: vec!["out.txt"], counts: serde_json::Value::Null })
        })
    }

    #[test]
    fn a_finished_stage_is_not_run_again_and_other_inputs_keep_the_old_folder() -> Result<(), Box<dyn std::error::Error>> {
        let root = tempfile::tempdir()?;
        let folder = root.path().join("demo");
        let mut runs = 0;
        let first = stage(&folder, 1, &mut runs)?;
        assert_eq!(stage(&folder, 1, &mut runs)?, first);
        assert_eq!((runs, first.device.as_str()), (1, "cpu"));
        stage(&folder, 2, &mut runs)?;
        assert_eq!(runs, 2);
        assert_eq!(std::fs::read_to_string(root.path().join("demo.old-1/out.txt"))?, "1");
        Ok(())
    }

    #[test]
    fn an_empty_folder_that_a_kill_left_is_not_kept_aside() -> Result<(), Box<dyn std::error::Error>> {
        let root = tempfile::tempdir()?;
        let folder = root.path().join("demo");
        std::fs::create_dir(&folder)?;
        stage(&folder, 1, &mut 0)?;
        assert_eq!(std::fs::read_dir(root.path())?.count(), 1);
        Ok(())
    }

    #[test]
    fn what_changed_is_told_by_name() {
        let inputs = |inputs: &[(&str, &str)]| inputs.iter().map(|(name, hash)| ((*name).to_owned(), (*hash).to_owned())).collect();
        let before: BTreeMap<String, String> = inputs(&[("data", "1"), ("seed", "1"), ("sft", "1")]);
        let now = inputs(&[("base", "1"), ("data", "1"), ("seed", "2")]);
        assert_eq!(why(Some(&before), &now), "`base`, `seed`, `sft` changed");
        assert_eq!(why(None, &now), "nothing tells what it was made from");
    }

    #[test]
    fn a_changed_output_is_an_error_that_names_the_file() -> Result<(), Box<dyn std::error::Error>> {
        let root = tempfile::tempdir()?;
        let folder = root.path().join("demo");
        stage(&folder, 1, &mut 0)?;
        std::fs::write(folder.join("out.txt"), "tampered")?;
        let message = stage(&folder, 1, &mut 0).expect_err("the output changed").to_string();
        assert!(message.contains("out.txt"), "{message}");
        Ok(())
    }
}
