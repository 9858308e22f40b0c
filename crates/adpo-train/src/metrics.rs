//! Metrics of a step, and the files they go to.
//!
//! `metrics.jsonl` holds what the run computed and is the same, byte for byte, however often the run was
//! killed; `timings.jsonl` holds what a clock said. TensorBoard's event file is there on demand.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};

use adpo_data::{Batch, write_file};
use burn::tensor::Tensor;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::TrainError;
use crate::events::EventFile;
use crate::optimizer::to_host;

/// What the forward passes of one step reported; a metric is the mean over all its values.
#[derive(Default)]
pub(crate) struct StepMetrics {
    values: Vec<(&'static str, Tensor<1>)>,
    /// Tokens of the sequences that went through the model, prompts included, padding not.
    pub tokens: usize,
    /// Cells that the model computed for them: more by the padding, fewer where sequences share a prompt.
    pub cells: usize,
}

impl StepMetrics {
    pub(crate) fn count(&mut self, batch: &Batch) {
        self.tokens += batch.sequences.iter().map(|sequence| sequence.tokens).sum::<usize>();
        self.cells += batch.ids.len();
    }

    /// Adds one value per example or token. Nothing is read back yet: on a GPU that would be a synchronisation.
    pub(crate) fn add(&mut self, name: &'static str, values: Tensor<1>) {
        self.values.push((name, values.without_autodiff()));
    }

    /// Takes in what another forward pass of the step reported.
    pub(crate) fn extend(&mut self, other: Self) {
        self.values.extend(other.values);
        self.tokens += other.tokens;
        self.cells += other.cells;
    }

    /// The metrics, by one read-back for all.
    pub(crate) fn means(self) -> BTreeMap<&'static str, f64> {
        let mut sums: BTreeMap<&'static str, (f64, usize)> = BTreeMap::new();
        if self.values.is_empty() {
            return BTreeMap::new();
        }
        let lengths: Vec<(&'static str, usize)> = self.values.iter().map(|(name, values)| (*name, values.dims()[0])).collect();
        let all = to_host(Tensor::cat(self.values.into_iter().map(|(_, values)| values).collect(), 0));
        let mut rest = all.as_slice();
        for (name, length) in lengths {
            let (values, after) = rest.split_at(length);
            rest = after;
            let (sum, count) = sums.entry(name).or_default();
            *sum += values.iter().copied().map(f64::from).sum::<f64>();
            *count += length;
        }
        sums.into_iter().map(|(name, (sum, count))| (name, sum / count.max(1) as f64)).collect()
    }
}

/// The metrics of one optimiser step, as written to `metrics.jsonl`.
///
/// Always there: `loss`, `grad_norm` (before clipping), `learning_rate`, `epoch` (passes done, in fractions),
/// `num_tokens` (seen since the start, prompts included, padding not), `entropy` (nats per target) and
/// `mean_token_accuracy` (of the chosen responses in preference training). Means over tokens are over all tokens of the
/// step, where TRL averages the means of its forward passes. Preference training adds `logits/<role>` (mean logit at the targets) and what
/// [`adpo_objective::ExampleLosses::metrics`] lists.
#[derive(Debug, Clone)]
pub struct StepRecord {
    /// Counted from 1.
    pub step: usize,
    /// Values by their names (`loss`, `rewards/chosen`, …).
    pub values: BTreeMap<String, f64>,
}

impl StepRecord {
    /// A metric, if the objective reports it.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.values.get(name).copied()
    }

    fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("step".into(), self.step.into());
        object.extend(self.values.iter().map(|(name, value)| (name.clone(), (*value).into())));
        Value::Object(object)
    }

    fn from_json(line: &str) -> Option<Self> {
        let Value::Object(object) = serde_json::from_str(line).ok()? else { return None };
        let step = usize::try_from(object.get("step")?.as_u64()?).ok()?;
        let values =
            object.iter().filter(|(name, _)| *name != "step").filter_map(|(name, value)| Some((name.clone(), value.as_f64()?))).collect();
        Some(Self { step, values })
    }
}

const TIMINGS: &str = "timings.jsonl";

/// Where a run has its metrics.
pub(crate) fn path(run: &Path) -> PathBuf {
    run.join("metrics.jsonl")
}

/// SHA-256 of a run's metrics up to a step.
pub(crate) fn hash(run: &Path, step: usize) -> Result<String, TrainError> {
    let mut hash = Sha256::new();
    for (line, _) in lines(&path(run))?.iter().take_while(|(_, record)| record.step <= step) {
        hash.update(line);
        hash.update("\n");
    }
    Ok(hex::encode(hash.finalize()))
}

/// Appends steps to `metrics.jsonl`, `timings.jsonl` and, if there is one, TensorBoard's event file.
pub(crate) struct MetricsLog {
    path: PathBuf,
    metrics: File,
    timings: File,
    events: Option<EventFile>,
}

impl MetricsLog {
    /// Opens the files and cuts `metrics.jsonl` back to the steps that the checkpoint holds: what a killed run
    /// wrote after its last checkpoint will be computed again.
    pub(crate) fn open(folder: &Path, steps_done: usize, tensorboard: bool) -> Result<Self, TrainError> {
        let path = path(folder);
        let kept = lines(&path)?.into_iter().filter(|(_, record)| record.step <= steps_done).collect::<Vec<_>>();
        if kept.iter().map(|(_, record)| record.step).ne(1..=steps_done) {
            return Err(TrainError::checkpoint(
                &path,
                format!("holds {} of the {steps_done} steps before the checkpoint; delete the run's folder and start again", kept.len()),
            ));
        }
        // The lines themselves, not the numbers read from them: those may come out one digit shorter or longer.
        let text: String = kept.iter().flat_map(|(line, _)| [line.as_str(), "\n"]).collect();
        write_file(&path, &text)?;
        // A clock tells other times when steps are done again; those of steps that will be are cut off as well.
        let timings = folder.join(TIMINGS);
        if timings.exists() {
            let known = std::fs::read_to_string(&timings).map_err(TrainError::io(&timings))?;
            let kept = known.lines().filter(|line| step_of(line).is_some_and(|step| step <= steps_done));
            write_file(&timings, kept.flat_map(|line| [line, "\n"]).collect::<String>())?;
        }
        let append = |path: &Path| OpenOptions::new().create(true).append(true).open(path).map_err(TrainError::io(path));
        let done: Vec<StepRecord> = kept.into_iter().map(|(_, record)| record).collect();
        let events = tensorboard.then(|| EventFile::create(folder, &done)).transpose()?;
        Ok(Self { metrics: append(&path)?, timings: append(&timings)?, path, events })
    }

    pub(crate) fn append(&mut self, record: &StepRecord, seconds: f64, tokens: usize) -> Result<(), TrainError> {
        writeln!(self.metrics, "{}", record.to_json()).map_err(TrainError::io(&self.path))?;
        let timing = serde_json::json!({"step": record.step, "seconds": seconds, "tokens_per_second": tokens as f64 / seconds});
        writeln!(self.timings, "{timing}").map_err(TrainError::io(&self.path.with_file_name(TIMINGS)))?;
        self.events.as_mut().map_or(Ok(()), |events| events.append(record))
    }

    /// Before a checkpoint refers to these lines they have to be on disk.
    pub(crate) fn sync(&self) -> Result<(), TrainError> {
        self.metrics.sync_data().map_err(TrainError::io(&self.path))
    }
}

/// The step that a line is about, if the line is whole.
fn step_of(line: &str) -> Option<usize> {
    serde_json::from_str::<Value>(line).ok()?.get("step")?.as_u64().and_then(|step| usize::try_from(step).ok())
}

/// The steps of a `metrics.jsonl`; a last line that a kill cut off is left out.
///
/// # Errors
/// [`TrainError::Io`] if the file is there and cannot be read.
pub(crate) fn read(path: &Path) -> Result<Vec<StepRecord>, TrainError> {
    Ok(lines(path)?.into_iter().map(|(_, record)| record).collect())
}

/// Lines with what they say.
fn lines(path: &Path) -> Result<Vec<(String, StepRecord)>, TrainError> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let lines = BufReader::new(File::open(path).map_err(TrainError::io(path))?).lines();
    // What is no text was never written; the hash of a checkpoint tells.
    let lines = lines.map_while(|line| match line {
        Err(error) if error.kind() == ErrorKind::InvalidData => None,
        line => Some(line),
    });
    let lines = lines.collect::<Result<Vec<_>, _>>().map_err(TrainError::io(path))?;
    Ok(lines.into_iter().map_while(|line| StepRecord::from_json(&line).map(|record| (line, record))).collect())
}
