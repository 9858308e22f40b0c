//! The frozen reference: a live model, or its log-probs computed once.
//!
//! Both give the same numbers (a test holds them side by side); precomputed ones cost one pass over the data
//! instead of one forward pass per step, and no second copy of the weights while training.

use std::path::{Path, PathBuf};

use adpo_data::{
    Batch, EncodedRows, EncodedTriple, Layout, ResponseRole, Sequence, read_bytes, read_jsonl, read_text, write_file, write_jsonl,
};
use adpo_model::kernels::on_pool;
use adpo_model::{Dtype, Llama, ParameterVisitor};
use adpo_objective::Objective;
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::scoring::score;
use crate::task::{Numbered, on_cpu, parts};
use crate::triples::{PromptKind, sequence, tokens};
use crate::{TrainError, TrainOptions};

/// The model that log-ratios are taken against; it is never trained.
#[derive(Debug)]
pub struct Reference {
    kind: Kind,
    model_hash: String,
    dtype: Dtype,
}

#[derive(Debug)]
enum Kind {
    Live { model: Box<Llama>, device: Device },
    Precomputed { rows: Vec<ReferenceLogProbs>, digest: String },
}

/// Summed log-probs of one triple's responses under the reference, f32, in nats.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ReferenceLogProbs {
    /// log π_ref(y_w | x).
    pub chosen: f32,
    /// log π_ref(y_l | x).
    pub rejected: f32,
    /// log π_ref(y_t | x), where the triple has a toxic response.
    pub toxic: Option<f32>,
    /// log π_ref(y_w | x ⊕ control token), where the loss compares it with the toxic response.
    pub chosen_after_control: Option<f32>,
    /// log π_ref(y_t | x ⊕ control token), where the anchor is `tox`.
    pub toxic_after_control: Option<f32>,
}

impl Reference {
    /// Keeps the model at hand and runs it in every step, in the precision that it has.
    pub fn live(model: Llama, device: &Device) -> Self {
        let (model, device) = frozen(&model, device);
        Self { model_hash: model_hash(&model), dtype: model.dtype(), kind: Kind::Live { model: Box::new(model), device } }
    }

    /// Computes, in the precision of `options`, the log-probs of all triples once and keeps them in `cache`, under a name that is a
    /// hash of the weights, of every encoded sequence (so of template, truncation, control token and rows), and of `dtype`,
    /// `batch_size`, `packing` and `share_prompts` of `options`: the last three change no log-prob beyond rounding, but no run's
    /// last bits should depend on which run filled the cache.
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
        let (layout, dtype) = (options.layout(), options.dtype);
        key.update(format!("{} {:?} {} {dtype:?}", options.batch_size, layout.packing, layout.share_prompts));
        let path = cache.join(format!("reference-{}.jsonl", &hex::encode(key.finalize())[..16]));
        if let Some(rows) = read(&path, triples.len())? {
            return Ok(Self { kind: Kind::Precomputed { rows, digest }, model_hash, dtype });
        }
        let model = model.with_dtype(dtype);
        let mut rows = Vec::with_capacity(triples.len());
        for start in (0..triples.len()).step_by(options.batch_size.max(1)) {
            let batch = start..triples.len().min(start + options.batch_size.max(1));
            let batch = batch.map(|i| Ok((i, triples.row(i)?))).collect::<Result<Vec<_>, TrainError>>()?;
            // In the parts in which an epoch that is not shuffled has them: then the policy starts out equal to the last bit.
            let parts = parts(&batch, tokens, on_cpu(&device));
            let parts: Vec<_> = on_pool(|| parts.par_iter().map(|part| compute(&model, &device, part, objective, layout)).collect());
            for part in parts {
                rows.extend(part?);
            }
        }
        std::fs::create_dir_all(cache).map_err(TrainError::io(cache))?;
        write_jsonl(&path, &rows)?;
        write_file(seal(&path), hash(&path)?)?;
        Ok(Self { kind: Kind::Precomputed { rows, digest }, model_hash, dtype })
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
        triples: &[Numbered<'_, EncodedTriple>],
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

    pub(crate) fn dtype(&self) -> Dtype {
        self.dtype
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
    triples: &[Numbered<'_, EncodedTriple>],
    objective: &Objective,
    layout: Layout,
) -> Result<Vec<ReferenceLogProbs>, TrainError> {
    let sums = |roles: &[ResponseRole], kind| -> Result<Vec<f32>, TrainError> {
        let sequences = roles
            .iter()
            .flat_map(|role| triples.iter().map(move |(i, triple)| (*i, triple, *role)))
            .map(|(i, triple, role)| {
                sequence(i, triple, role, kind).ok_or_else(|| TrainError::Row {
                    row: triple.row.clone(),
                    problem: "lacks the toxic response or the prompt with the control token that this objective's anchor needs".into(),
                })
            })
            .collect::<Result<Vec<Sequence<'_>>, _>>()?;
        if sequences.is_empty() {
            return Ok(Vec::new());
        }
        Ok(crate::optimizer::to_host(score(model, &Batch::new(&sequences, layout), device).sums.inner()))
    };
    let wanted = |roles: &[(ResponseRole, bool)]| roles.iter().filter(|(_, wanted)| *wanted).map(|(role, _)| *role).collect::<Vec<_>>();
    let plain = wanted(&[(ResponseRole::Chosen, true), (ResponseRole::Rejected, true), (ResponseRole::Toxic, objective.needs_toxic())]);
    let anchors =
        wanted(&[(ResponseRole::Chosen, objective.needs_tox_anchor_chosen()), (ResponseRole::Toxic, objective.needs_tox_anchor())]);
    // Two passes: the first holds what the policy's holds and nothing more, and products of one shape round alike.
    let (plain_sums, anchor_sums) = (sums(&plain, PromptKind::Plain)?, sums(&anchors, PromptKind::Toxic)?);
    let n = triples.len();
    let column = |roles: &[ResponseRole], sums: &[f32], role, i: usize| roles.iter().position(|r| *r == role).map(|c| sums[c * n + i]);
    Ok((0..n)
        .map(|i| ReferenceLogProbs {
            chosen: plain_sums[i],
            rejected: plain_sums[n + i],
            toxic: column(&plain, &plain_sums, ResponseRole::Toxic, i),
            chosen_after_control: column(&anchors, &anchor_sums, ResponseRole::Chosen, i),
            toxic_after_control: column(&anchors, &anchor_sums, ResponseRole::Toxic, i),
        })
        .collect())
}

/// The log-probs in a cache; `None` where there is none, or none that is what was written.
fn read(path: &Path, expected: usize) -> Result<Option<Vec<ReferenceLogProbs>>, TrainError> {
    if !path.exists() {
        return Ok(None);
    }
    if read_text(seal(path)).ok().as_deref() != Some(hash(path)?.as_str()) {
        log::warn!("{} is damaged: it is not what was written there; the reference's log-probs are computed anew", path.display());
        return Ok(None);
    }
    let rows = read_jsonl(path)?;
    if rows.len() == expected {
        Ok(Some(rows))
    } else {
        Err(TrainError::checkpoint(path, format!("holds {} of {expected} rows; delete the file", rows.len())))
    }
}

/// Where the hash of a cache is.
fn seal(path: &Path) -> PathBuf {
    path.with_extension("sha256")
}

fn hash(path: &Path) -> Result<String, TrainError> {
    Ok(hex::encode(Sha256::digest(read_bytes(path)?)))
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
