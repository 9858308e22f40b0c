//! The frozen reference: a live model, or its log-probs computed once.
//!
//! Both give the same numbers (a test holds them side by side); precomputed ones cost one pass over the data
//! instead of one forward pass per step, and no second copy of the weights while training.

use std::borrow::Cow;
use std::path::Path;

use adpo_data::{Batch, EncodedRows, EncodedTriple, Layout, ResponseRole, Sequence, read_jsonl, write_jsonl};
use adpo_model::{Llama, ParameterVisitor};
use adpo_objective::Objective;
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::preference::{PromptKind, sequence};
use crate::scoring::score;
use crate::{TrainError, TrainOptions};

/// The model that log-ratios are taken against; it is never trained.
#[derive(Debug)]
pub struct Reference {
    kind: Kind,
    model_hash: String,
}

#[derive(Debug)]
enum Kind {
    Live { model: Box<Llama>, device: Device },
    Precomputed { rows: Vec<ReferenceLogProbs>, digest: String },
}

/// Summed log-probs of one triple's answers under the reference, f32, in nats.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ReferenceLogProbs {
    /// log π_ref(y_w | x).
    pub chosen: f32,
    /// log π_ref(y_l | x).
    pub rejected: f32,
    /// log π_ref(y_t | x), where the triple has a toxic answer.
    pub toxic: Option<f32>,
    /// log π_ref(y_w | x ⊕ control token), where the loss compares it with the toxic answer.
    pub chosen_after_control: Option<f32>,
    /// log π_ref(y_t | x ⊕ control token), where the anchor is `tox`.
    pub toxic_after_control: Option<f32>,
}

impl Reference {
    /// Keeps the model at hand and runs it in every step.
    pub fn live(model: Llama, device: &Device) -> Self {
        let (model, device) = frozen(&model, device);
        Self { model_hash: model_hash(&model), kind: Kind::Live { model: Box::new(model), device } }
    }

    /// Computes the log-probs of all triples once and keeps them in `cache`, under a name that is a hash of the
    /// weights, of every encoded sequence (so of template, truncation, control token and rows), and of `batch_size`, `packing`
    /// and `share_prompts` of `options`: they change no log-prob beyond rounding, but no run's last bits should depend on
    /// which run filled the cache.
    ///
    /// # Errors
    /// [`TrainError`] if the cache cannot be read or written.
    pub fn precomputed(
        model: &Llama,
        triples: &(impl EncodedRows<EncodedTriple> + ?Sized),
        objective: &Objective,
        options: &TrainOptions,
        device: &Device,
        cache: &Path,
    ) -> Result<Self, TrainError> {
        let (model, device) = frozen(model, device);
        let model_hash = model_hash(&model);
        let mut key = Sha256::new();
        key.update(&model_hash);
        let digest = triples.digest()?;
        key.update(&digest);
        key.update([objective.needs_toxic(), objective.needs_tox_anchor(), objective.needs_tox_anchor_chosen()].map(u8::from));
        let layout = options.layout();
        key.update(format!("{} {:?} {}", options.batch_size, layout.packing, layout.share_prompts));
        let path = cache.join(format!("reference-{}.jsonl", &hex::encode(key.finalize())[..16]));
        if let Some(rows) = read(&path, triples.len())? {
            return Ok(Self { kind: Kind::Precomputed { rows, digest }, model_hash });
        }
        let mut rows = Vec::with_capacity(triples.len());
        for start in (0..triples.len()).step_by(options.batch_size.max(1)) {
            let batch = start..triples.len().min(start + options.batch_size.max(1));
            let batch = batch.map(|i| Ok((i, triples.row(i)?))).collect::<Result<Vec<_>, TrainError>>()?;
            rows.extend(compute(&model, &device, &batch, objective, layout)?);
        }
        std::fs::create_dir_all(cache).map_err(TrainError::io(cache))?;
        write_jsonl(&path, &rows)?;
        Ok(Self { kind: Kind::Precomputed { rows, digest }, model_hash })
    }

    /// Log-probs are kept by position, so they only serve the very rows they were computed for.
    pub(crate) fn check_rows(&self, triples: &(impl EncodedRows<EncodedTriple> + ?Sized)) -> Result<(), TrainError> {
        if let Kind::Precomputed { digest, .. } = &self.kind
            && *digest != triples.digest()?
        {
            return Err(TrainError::Options {
                field: "reference",
                problem: "its log-probs belong to other rows, or to these in another order; compute them for the rows of this run".into(),
            });
        }
        Ok(())
    }

    /// Of triples with their numbers.
    pub(crate) fn log_probs(
        &self,
        triples: &[(usize, Cow<'_, EncodedTriple>)],
        objective: &Objective,
        layout: Layout,
    ) -> Result<Vec<ReferenceLogProbs>, TrainError> {
        match &self.kind {
            Kind::Live { model, device } => compute(model, device, triples, objective, layout),
            Kind::Precomputed { rows, .. } => triples
                .iter()
                .map(|(i, triple)| {
                    rows.get(*i).copied().ok_or_else(|| TrainError::Row {
                        row: triple.row.clone(),
                        problem: "was not there when the reference log-probs were computed; compute them for the same rows".into(),
                    })
                })
                .collect(),
        }
    }

    pub(crate) fn model_hash(&self) -> &str {
        &self.model_hash
    }
}

/// Without gradients, but on the autodiff device: Burn's back ends have fused operations for inference that round
/// differently, and a policy that equals its reference has to give the very same log-probs.
fn frozen(model: &Llama, device: &Device) -> (Llama, Device) {
    (model.clone().train().no_grad(), device.clone().inner().autodiff())
}

fn compute(
    model: &Llama,
    device: &Device,
    triples: &[(usize, Cow<'_, EncodedTriple>)],
    objective: &Objective,
    layout: Layout,
) -> Result<Vec<ReferenceLogProbs>, TrainError> {
    let mut columns: Vec<(ResponseRole, PromptKind)> =
        vec![(ResponseRole::Chosen, PromptKind::Plain), (ResponseRole::Rejected, PromptKind::Plain)];
    if objective.needs_toxic() {
        columns.push((ResponseRole::Toxic, PromptKind::Plain));
    }
    if objective.needs_tox_anchor_chosen() {
        columns.push((ResponseRole::Chosen, PromptKind::Toxic));
    }
    if objective.needs_tox_anchor() {
        columns.push((ResponseRole::Toxic, PromptKind::Toxic));
    }
    let sequences = columns
        .iter()
        .flat_map(|(role, kind)| triples.iter().map(move |(i, triple)| (*i, triple, *role, *kind)))
        .map(|(i, triple, role, kind)| {
            sequence(i, triple, role, kind).ok_or_else(|| TrainError::Row {
                row: triple.row.clone(),
                problem: "lacks the toxic answer or the prompt with the control token that this objective's anchor needs".into(),
            })
        })
        .collect::<Result<Vec<Sequence<'_>>, _>>()?;
    let sums = crate::optimizer::to_host(score(model, &Batch::new(&sequences, layout), device).sums.inner());
    let n = triples.len();
    let column = |wanted: (ResponseRole, PromptKind), i: usize| columns.iter().position(|c| *c == wanted).map(|c| sums[c * n + i]);
    Ok((0..n)
        .map(|i| ReferenceLogProbs {
            chosen: sums[i],
            rejected: sums[n + i],
            toxic: column((ResponseRole::Toxic, PromptKind::Plain), i),
            chosen_after_control: column((ResponseRole::Chosen, PromptKind::Toxic), i),
            toxic_after_control: column((ResponseRole::Toxic, PromptKind::Toxic), i),
        })
        .collect())
}

fn read(path: &Path, expected: usize) -> Result<Option<Vec<ReferenceLogProbs>>, TrainError> {
    if !path.exists() {
        return Ok(None);
    }
    let rows = read_jsonl(path)?;
    if rows.len() == expected {
        Ok(Some(rows))
    } else {
        Err(TrainError::checkpoint(path, format!("holds {} of {expected} rows; delete the file", rows.len())))
    }
}

/// SHA-256 over the names and f32 values of all parameters, in the model's order, and the scale of its adapters.
pub fn model_hash(model: &Llama) -> String {
    struct Hash(Sha256);
    impl ParameterVisitor for Hash {
        fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
            self.0.update(name);
            let values = crate::optimizer::to_host(param.val().without_autodiff().flatten::<1>(0, D - 1));
            for value in values {
                self.0.update(value.to_le_bytes());
            }
        }
    }
    let mut hash = Hash(Sha256::new());
    model.visit_parameters(&mut hash);
    if let Some(lora) = model.lora() {
        hash.0.update(lora.scaling().to_le_bytes());
    }
    hex::encode(hash.0.finalize())
}
