//! Preference training: ADPO, DPO and their family against a frozen reference.

use std::path::Path;

use adpo_data::{Batch, EncodedRows, EncodedTriple, Layout, ResponseRole, Sequence};
use adpo_model::{Dtype, Llama};
use adpo_objective::{Lengths, LogProbs, Objective, RoleLogProbs, ToxAnchor};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use sha2::{Digest, Sha256};

use crate::metrics::StepMetrics;
use crate::reference::{Reference, ReferenceLogProbs};
use crate::run::{Trained, run};
use crate::scoring::{SequenceScores, score};
use crate::task::{Numbered, Task, check_ids};
use crate::triples::{PromptKind, response_length, sequence, tokens};
use crate::{TrainError, TrainOptions};

/// Trains `policy` on `triples` with `objective`, against `reference` where the objective has one.
///
/// At the start, policy and reference must agree (step-0 identity): every log-ratio is 0 and the loss is what the
/// reference's log-probs alone give. Files and resuming are as in [`crate::train_sft`].
///
/// # Errors
/// [`TrainError`] for impossible options, a triple without a toxic response where the objective needs one, a failed
/// step-0 identity, a loss that is not finite, or files that cannot be used.
pub fn train_preference(
    policy: Llama,
    reference: Option<&Reference>,
    triples: &(impl EncodedRows<EncodedTriple> + ?Sized),
    objective: &Objective,
    options: &TrainOptions,
    folder: &Path,
) -> Result<Trained, TrainError> {
    objective.validate()?;
    if objective.needs_reference() && reference.is_none() {
        return Err(TrainError::Options {
            field: "reference",
            problem: "this objective compares with a frozen reference; give one".into(),
        });
    }
    if reference.is_some_and(|reference| reference.dtype() != options.dtype) {
        return Err(TrainError::Options {
            field: "dtype",
            problem: "the reference computes in another type than the policy would, and their log-ratios would be rounding; make it \
                      with the same options, a live one from `model.with_dtype(options.dtype)`"
                .into(),
        });
    }
    let task = Preferences { triples, reference: reference.filter(|_| objective.needs_reference()), objective, layout: options.layout() };
    run(policy, &task, options, folder)
}

pub(crate) struct Preferences<'a, R: ?Sized> {
    pub triples: &'a R,
    pub reference: Option<&'a Reference>,
    pub objective: &'a Objective,
    pub layout: Layout,
}

/// Triples at hand with their numbers.
type Rows<'a> = [Numbered<'a, EncodedTriple>];

impl<R: EncodedRows<EncodedTriple> + ?Sized> Preferences<'_, R> {
    /// The roles the loss looks at; a DPO run does not pay for the toxic response.
    fn roles(&self) -> &'static [ResponseRole] {
        if self.objective.needs_toxic() {
            &[ResponseRole::Chosen, ResponseRole::Rejected, ResponseRole::Toxic]
        } else {
            &[ResponseRole::Chosen, ResponseRole::Rejected]
        }
    }

    /// All sequences of some examples, role by role: role r of example i is at r·n + i.
    fn sequences<'r>(&self, rows: &'r Rows<'_>) -> Vec<Sequence<'r>> {
        self.roles().iter().flat_map(|role| rows.iter().filter_map(|(i, triple)| sequence(*i, triple, *role, PromptKind::Plain))).collect()
    }

    fn lengths(&self, rows: &Rows<'_>, device: &Device) -> Lengths {
        let lengths = |response: &dyn Fn(&EncodedTriple) -> usize| {
            let values: Vec<f32> = rows.iter().map(|(_, triple)| response(triple) as f32).collect();
            Tensor::from_data(TensorData::new(values, [rows.len()]), device)
        };
        Lengths {
            chosen: lengths(&|t| t.chosen.len()),
            rejected: lengths(&|t| t.rejected.len()),
            toxic: self.objective.needs_toxic().then(|| lengths(&|t| t.toxic.as_ref().map_or(0, Vec::len))),
        }
    }

    fn reference_log_probs(&self, rows: &Rows<'_>, device: &Device) -> Result<(Option<RoleLogProbs>, Option<ToxAnchor>), TrainError> {
        let Some(reference) = self.reference else { return Ok((None, None)) };
        let rows = reference.log_probs(rows, self.objective, self.layout)?;
        let column = |pick: &dyn Fn(&ReferenceLogProbs) -> Option<f32>| -> Option<Tensor<1>> {
            let values = rows.iter().map(pick).collect::<Option<Vec<f32>>>()?;
            Some(Tensor::from_data(TensorData::new(values, [rows.len()]), device))
        };
        let roles = column(&|r| Some(r.chosen)).zip(column(&|r| Some(r.rejected)));
        let roles = roles.map(|(chosen, rejected)| RoleLogProbs { chosen, rejected, toxic: column(&|r| r.toxic) });
        let anchor = column(&|r| r.toxic_after_control);
        Ok((roles, anchor.map(|toxic| ToxAnchor { chosen: column(&|r| r.chosen_after_control), toxic })))
    }

    fn inputs(&self, policy: Tensor<1>, rows: &Rows<'_>) -> Result<LogProbs, TrainError> {
        let (n, device) = (rows.len(), &policy.device());
        let role = |r: usize| policy.clone().slice(r * n..(r + 1) * n);
        let toxic = self.objective.needs_toxic().then(|| role(2));
        let (reference, tox_anchor) = self.reference_log_probs(rows, device)?;
        Ok(LogProbs {
            policy: RoleLogProbs { chosen: role(0), rejected: role(1), toxic },
            reference,
            tox_anchor,
            lengths: self.lengths(rows, device),
        })
    }
}

impl<R: EncodedRows<EncodedTriple> + ?Sized> Task for Preferences<'_, R> {
    type Row = EncodedTriple;

    fn examples(&self) -> usize {
        self.triples.len()
    }

    fn row(&self, example: usize) -> Result<Numbered<'_, EncodedTriple>, TrainError> {
        Ok((example, self.triples.row(example)?))
    }

    fn id(row: &EncodedTriple) -> &str {
        &row.row
    }

    fn tokens(row: &EncodedTriple) -> usize {
        tokens(row)
    }

    fn weight(_row: &EncodedTriple) -> f64 {
        1.0
    }

    fn batch(&self, rows: &Rows<'_>) -> Batch {
        Batch::new(&self.sequences(rows), self.layout)
    }

    fn loss(&self, scores: SequenceScores, batch: &Batch, rows: &Rows<'_>, metrics: &mut StepMetrics) -> Result<Tensor<1>, TrainError> {
        metrics.add("entropy", scores.entropy);
        // As TRL: nobody wants the rejected or the toxic response's tokens right.
        let of_chosen = batch.sequences[..rows.len()].iter().map(|s| s.targets).sum::<usize>();
        metrics.add("mean_token_accuracy", scores.correct.slice(0..of_chosen));
        // Targets lie sequence by sequence, and sequences role by role.
        let mut start = 0;
        for (name, of_role) in ["logits/chosen", "logits/rejected", "logits/toxic"].iter().zip(batch.sequences.chunks(rows.len())) {
            let end = start + of_role.iter().map(|s| s.targets).sum::<usize>();
            metrics.add(name, scores.mean_logit.clone().slice(start..end));
            start = end;
        }
        let outcome = self.objective.evaluate(&self.inputs(scores.sums, rows)?)?;
        for (name, values) in outcome.metrics {
            metrics.add(name, values);
        }
        Ok(outcome.losses.sum())
    }

    fn fingerprint(&self) -> Result<String, TrainError> {
        let mut hash = Sha256::new();
        hash.update(serde_json::to_vec(self.objective).unwrap_or_default());
        hash.update(self.triples.digest()?);
        if let Some(reference) = self.reference {
            hash.update(reference.model_hash());
        }
        Ok(hex::encode(hash.finalize()))
    }

    fn check_row(&self, triple: &EncodedTriple, vocab_size: usize) -> Result<(), TrainError> {
        let refuse = |problem: &str| Err(TrainError::Row { row: triple.row.clone(), problem: problem.to_owned() });
        let responses =
            [Some(("chosen", &triple.chosen)), Some(("rejected", &triple.rejected)), triple.toxic.as_ref().map(|t| ("toxic", t))];
        if self.objective.needs_toxic() && triple.toxic.is_none() {
            return refuse("has no toxic response, and the objective penalises one; drop the row or use a pairwise objective");
        }
        if triple.prompt.is_empty() {
            return refuse("has an empty prompt: nothing predicts the first token of its responses");
        }
        for (role, ids) in responses.into_iter().flatten() {
            if ids.is_empty() {
                return refuse(&format!("has an empty {role} response; it needs at least the end-of-sequence id"));
            }
            check_ids(&triple.row, ids, vocab_size)?;
        }
        check_ids(&triple.row, &triple.prompt, vocab_size)?;
        check_ids(&triple.row, triple.toxic_prompt.as_deref().unwrap_or_default(), vocab_size)
    }

    fn check_rows(&self) -> Result<(), TrainError> {
        self.reference.map_or(Ok(()), |reference| reference.check_rows(self.triples))
    }

    fn check_start(&self, model: &Llama, device: &Device) -> Result<(), TrainError> {
        // Nothing is derived here, and eight examples may be more than a step's memory has room for.
        let model = &model.clone().no_grad();
        if self.reference.is_none() {
            return Ok(());
        }
        let rows = (0..self.triples.len().min(8)).map(|i| self.row(i)).collect::<Result<Vec<_>, _>>()?;
        let policy = score(model, &self.batch(&rows), device).sums.inner();
        let at_start = self.inputs(policy, &rows)?;
        let Some(reference) = at_start.reference.clone() else { return Ok(()) };
        // Batches are put together differently: per-token log-probs may differ by rounding, of activations that are bf16 as well.
        let (per_token, of_loss) = if model.dtype() == Dtype::Float32 { (1e-5, 1e-3) } else { (1e-2, 1e-1) };
        let pairs = [
            (Some(&at_start.policy.chosen), Some(&reference.chosen), "chosen", ResponseRole::Chosen),
            (Some(&at_start.policy.rejected), Some(&reference.rejected), "rejected", ResponseRole::Rejected),
            (at_start.policy.toxic.as_ref(), reference.toxic.as_ref(), "toxic", ResponseRole::Toxic),
        ];
        for (policy, reference, name, role) in pairs {
            let (Some(policy), Some(reference)) = (policy, reference) else { continue };
            let policy = crate::optimizer::to_host(policy.clone());
            let reference = crate::optimizer::to_host(reference.clone());
            for (((_, triple), policy), reference) in rows.iter().zip(policy).zip(reference) {
                let tolerance = per_token * response_length(triple, role).max(32) as f32;
                let difference = policy - reference;
                if difference.is_nan() || difference.abs() > tolerance {
                    return Err(TrainError::Identity {
                        problem: format!("the {name} log-ratio of row `{}` is {difference:e} instead of 0", triple.row),
                    });
                }
            }
        }
        let expected = LogProbs { policy: reference, ..at_start.clone() };
        let mean = |inputs: &LogProbs| -> Result<f32, TrainError> {
            Ok(crate::optimizer::to_host(self.objective.evaluate(inputs)?.losses.mean())[0])
        };
        let (expected, found) = (mean(&expected)?, mean(&at_start)?);
        if (expected - found).abs() > of_loss * expected.abs().max(1.0) {
            return Err(TrainError::Identity {
                problem: format!("the loss is {found} where the reference's log-probs alone give {expected}"),
            });
        }
        Ok(())
    }
}
