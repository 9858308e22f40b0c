//! Stage 5: every system answers the same held-out prompts, as they are and in the ways of the token audit.

use std::path::Path;

use adpo_data::{Dialogue, EncodeReport, Prompt, Row, write_jsonl};
use adpo_train::{Completion, completion_log_probs};
use serde::{Deserialize, Serialize};

use super::asking::Asking;
use super::{SeedRun, load_model};
use crate::PipelineError;
use crate::answers::{Answer, Question, Speaker, Speed};
use crate::corpus::{Corpus, some_of};
use crate::stage::{Inputs, Made, Manifest, write_json};

/// A held-out prompt and a system's answers to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    /// The prompt's row id.
    pub row: String,
    /// The dialogue up to the user turn that was answered, as the row has it.
    pub prompt: Dialogue,
    /// Whether the prompt is marked harmful.
    pub harmful: bool,
    /// The prompt's category.
    pub category: Option<String>,
    /// What a person answered, where the row has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The answers.
    pub answers: Vec<String>,
}

/// How far a policy has moved from its reference, measured where the policy itself goes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct PolicyKl {
    /// Mean over the tokens of the policy's own answers of log πθ − log πref, in nats: an estimate of the KL divergence
    /// per token, exact in expectation where answers are drawn at temperature 1 from the whole distribution.
    #[serde(rename = "kl/policy")]
    pub kl_policy: f64,
    /// How many tokens that is.
    pub tokens: usize,
}

/// The SFT model before any preference training, in the report.
pub(super) const SFT: &str = "sft";

/// One system that answers.
struct System<'a> {
    name: &'a str,
    /// The stage that made its model.
    made_by: String,
    manifest: &'a Manifest,
}

/// One manifest per system and way of asking: SFT, then the policies in the recipe's order.
pub(super) fn run(run: &SeedRun<'_>, sft: &Manifest, policies: &[Manifest]) -> Result<Vec<Manifest>, PipelineError> {
    let corpus = Corpus::new(run.resources, run.shared_stream("evaluate-rows"));
    let evaluate = &run.recipe.evaluate;
    let data = corpus.hash(&evaluate.sources)?;
    let mut systems = vec![System { name: SFT, made_by: "sft".to_owned(), manifest: sft }];
    for (policy, manifest) in run.recipe.policies.iter().zip(policies) {
        systems.push(System { name: &policy.name, made_by: format!("policies/{}", policy.name), manifest });
    }
    let mut manifests = Vec::new();
    for system in &systems {
        for asking in Asking::ALL.into_iter().filter(|asking| asking.form().is_none() || evaluate.audits(system.name)) {
            let stage = asking.stage(system.name);
            let mut inputs = Inputs::new()
                .value("seed", &run.seed)
                .value("sources", &evaluate.sources)
                .value("rows", &run.shared_stream("evaluate-rows"))
                .value("samples", &(evaluate.samples, evaluate.temperature))
                .value("draw", &evaluate.draw)
                .value("asking", &asking)
                .value("control", &run.recipe.control)
                .value("encoding", &run.recipe.encoding)
                .hash("model", system.manifest.hash())
                .hash("data", data.clone());
            if asking.form().is_some() {
                inputs = inputs.value("audit_limit", &evaluate.audit_limit);
            }
            // What a policy says is measured against where it started.
            let against = (asking == Asking::Plain && system.name != SFT).then_some(sft);
            if let Some(sft) = against {
                inputs = inputs.hash("sft", sft.hash());
            }
            manifests.push(run.run_stage(&stage, inputs, |folder| {
                let (mut prompts, mut counts) = corpus.prompts(&evaluate.sources)?;
                if let (Some(_), Some(limit)) = (asking.form(), evaluate.audit_limit) {
                    prompts = some_of(prompts, limit, run.shared_stream("audit"));
                }
                let model = run.stage(&system.made_by);
                let said = answer(run, &model, asking, prompts, &stage, folder)?;
                counts["encoding"] = serde_json::json!(said.encoding);
                let mut outputs = vec!["answers.jsonl"];
                if against.is_some() {
                    write_json(&folder.join("kl.json"), &policy_kl(run, &model, &said)?)?;
                    outputs.push("kl.json");
                }
                write_jsonl(folder.join("answers.jsonl"), &said.into_rows(evaluate.samples))?;
                Ok(Made { outputs, counts })
            })?);
        }
    }
    Ok(manifests)
}

/// What a model was asked, and what it said.
struct Said {
    /// The prompts that could be encoded.
    prompts: Vec<Row<Prompt>>,
    encoding: EncodeReport,
    /// So many for each prompt as the recipe has samples; the same number of answers.
    questions: Vec<Question>,
    answers: Vec<Answer>,
}

fn answer(
    run: &SeedRun<'_>,
    model: &Path,
    asking: Asking,
    prompts: Vec<Row<Prompt>>,
    stage: &str,
    folder: &Path,
) -> Result<Said, PipelineError> {
    let evaluate = &run.recipe.evaluate;
    let (checkpoint, control) = load_model(model, run, evaluate.draw.precision())?;
    let checkpoint = checkpoint.merged();
    let checkpoint = if asking == Asking::Exported { checkpoint.without_control_token(&control)? } else { checkpoint };
    let mut encoder = run.encoder(&checkpoint, &control);
    let mut questions = Vec::with_capacity(prompts.len() * evaluate.samples);
    let mut asked = Vec::with_capacity(prompts.len());
    for (number, row) in prompts.into_iter().enumerate() {
        let (dialogue, with_token) = asking.put(&row.value.dialogue, &run.recipe.control.token, number);
        let Some(prompt) = encoder.prompt(&row.id, &dialogue, with_token)? else { continue };
        questions.extend((0..evaluate.samples).map(|i| Question { key: format!("{}#{i}", row.id), prompt: prompt.clone() }));
        asked.push(row);
    }
    // All systems share the random streams: a difference between two of them is not a difference of luck alone.
    let speaker =
        Speaker { model: &checkpoint.model, tokenizer: &checkpoint.tokenizer, draw: &evaluate.draw, seed: run.stream("evaluate") };
    let mut speed = Speed::default();
    let answers = speaker.answer(&questions, evaluate.temperature, &mut speed)?;
    speed.report(stage, folder)?;
    Ok(Said { prompts: asked, encoding: encoder.report().clone(), questions, answers })
}

fn policy_kl(run: &SeedRun<'_>, policy: &Path, Said { questions, answers, .. }: &Said) -> Result<PolicyKl, PipelineError> {
    let completions: Vec<Completion<'_>> =
        questions.iter().zip(answers).map(|(question, answer)| Completion { prompt: &question.prompt, completion: &answer.ids }).collect();
    let log_probs = |folder: &Path| -> Result<Vec<f64>, PipelineError> {
        // One model at a time is in memory.
        let (checkpoint, _) = load_model(folder, run, run.recipe.evaluate.draw.precision())?;
        Ok(completion_log_probs(&checkpoint.merged().model, &completions, run.recipe.evaluate.draw.batch_size, &run.resources.device))
    };
    let (policy, reference) = (log_probs(policy)?, log_probs(&run.stage("sft"))?);
    let tokens = answers.iter().map(|answer| answer.ids.len()).sum::<usize>();
    let moved: f64 = policy.iter().zip(&reference).map(|(policy, reference)| policy - reference).sum();
    Ok(PolicyKl { kl_policy: moved / tokens.max(1) as f64, tokens })
}

impl Said {
    fn into_rows(self, samples: usize) -> Vec<Answered> {
        let mut answers = self.answers.into_iter().map(|answer| answer.text);
        let row = |row: Row<Prompt>| Answered {
            row: row.id,
            prompt: row.value.dialogue,
            harmful: row.value.harmful == Some(true),
            category: row.value.category,
            reference: row.value.reference,
            answers: answers.by_ref().take(samples).collect(),
        };
        self.prompts.into_iter().map(row).collect()
    }
}
