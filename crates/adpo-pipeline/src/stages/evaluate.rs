//! Stage 5: every system answers the same held-out prompts.

use std::path::Path;

use adpo_data::{Dialogue, Prompt, Row};
use serde::{Deserialize, Serialize};

use super::{SeedRun, load_model};
use crate::PipelineError;
use crate::answers::{Question, Speaker};
use crate::corpus::Corpus;
use crate::stage::{Inputs, Made, Manifest, run_stage, write_lines};

/// A held-out prompt and a system's answers to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    /// The prompt's row id.
    pub row: String,
    /// The dialogue up to the user turn that was answered.
    pub prompt: Dialogue,
    /// Whether the prompt is marked harmful.
    pub harmful: bool,
    /// The prompt's category.
    pub category: Option<String>,
    /// The answers.
    pub answers: Vec<String>,
}

/// The SFT model before any preference training, in the report.
pub(super) const SFT: &str = "sft";
/// The same model with the control token after the prompt.
pub(super) const SFT_WITH_TOKEN: &str = "sft+control";

/// One manifest per system: SFT with and without the token, then the policies in the recipe's order.
pub(super) fn run(run: &SeedRun<'_>, sft: &Manifest, policies: &[Manifest]) -> Result<Vec<Manifest>, PipelineError> {
    let corpus = Corpus::new(run.resources, run.stream("evaluate-rows"));
    let sources = &run.recipe.evaluate.sources;
    let data = corpus.hash(sources)?;
    let trained = run
        .recipe
        .policies
        .iter()
        .zip(policies)
        .map(|(policy, manifest)| (policy.name.as_str(), format!("policies/{}", policy.name), manifest, false));
    let systems = [(SFT, "sft".to_owned(), sft, false), (SFT_WITH_TOKEN, "sft".to_owned(), sft, true)].into_iter().chain(trained);
    let mut manifests = Vec::new();
    for (name, model, manifest, with_token) in systems {
        let inputs = Inputs::default()
            .value("seed", &run.seed)
            .value("sources", sources)
            .value("samples", &(run.recipe.evaluate.samples, run.recipe.evaluate.temperature))
            .value("draw", &run.recipe.evaluate.draw)
            .value("with_token", &with_token)
            .hash("model", manifest.hash())
            .hash("data", data.clone());
        let stage = format!("answers/{name}");
        manifests.push(run_stage(&stage, &run.stage(&stage), inputs, |folder| {
            let (prompts, counts) = corpus.prompts(sources)?;
            answer(run, &run.stage(&model), with_token, prompts, folder)?;
            Ok(Made { outputs: vec!["answers.jsonl"], counts })
        })?);
    }
    Ok(manifests)
}

fn answer(run: &SeedRun<'_>, model: &Path, with_token: bool, prompts: Vec<Row<Prompt>>, folder: &Path) -> Result<(), PipelineError> {
    let evaluate = &run.recipe.evaluate;
    let (checkpoint, control) = load_model(model, run)?;
    let mut encoder = run.encoder(&checkpoint, &control);
    let mut questions = Vec::with_capacity(prompts.len() * evaluate.samples);
    for row in &prompts {
        let prompt = encoder.prompt(&row.value.dialogue, with_token)?;
        questions.extend((0..evaluate.samples).map(|i| Question { key: format!("{}#{i}", row.id), prompt: prompt.clone() }));
    }
    // All systems share the random streams: a difference between two of them is not a difference of luck alone.
    let speaker =
        Speaker { model: &checkpoint.model, tokenizer: &checkpoint.tokenizer, draw: &evaluate.draw, seed: run.stream("evaluate") };
    let mut answers = speaker.answer(&questions, evaluate.temperature)?.into_iter();
    let rows: Vec<Answered> = prompts
        .into_iter()
        .map(|row| Answered {
            row: row.id,
            prompt: row.value.dialogue,
            harmful: row.value.harmful == Some(true),
            category: row.value.category,
            answers: answers.by_ref().take(evaluate.samples).collect(),
        })
        .collect();
    write_lines(&folder.join("answers.jsonl"), &rows)
}
