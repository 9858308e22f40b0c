//! What the page is drawn from.

use std::collections::{HashMap, HashSet};

use adpo_data::{Prompt, Turn};
use adpo_eval::{EmbeddedJudge, Exchange, Judge, Response, Scores};
use serde::Serialize;

use super::curves::Curve;
use crate::PipelineError;
use crate::report::RunReport;
use crate::stages::{ScoredResponse, SeedRun, scored_responses};

/// What a seed has beside its report.
pub(crate) struct SeedRows {
    seed: u64,
    curves: Vec<Curve>,
    /// For each prompt a response to it.
    prompts: Vec<Response>,
    responses: Vec<ScoredResponse>,
}

impl SeedRows {
    /// Reads the files of a finished seed.
    pub(crate) fn read(run: &SeedRun<'_>) -> Result<Self, PipelineError> {
        let mut curves = Vec::new();
        if run.recipe.sft.is_some() {
            curves.push(Curve::read(run.seed, run.recipe.start_system(), false, &run.stage("sft"))?);
        }
        for policy in &run.recipe.policies {
            curves.push(Curve::read(run.seed, &policy.name, true, &run.stage("policies").join(&policy.name))?);
        }
        let (prompts, responses) = scored_responses(run)?;
        Ok(Self { seed: run.seed, curves, prompts, responses })
    }
}

#[derive(Serialize)]
pub(super) struct Data<'a> {
    report: &'a RunReport,
    /// What came out, in Markdown.
    result: String,
    seeds: Vec<Sentences>,
    show: bool,
    curves: Vec<&'a Curve>,
    prompts: Vec<PagePrompt<'a>>,
    responses: Vec<PageResponse<'a>>,
}

/// A seed's result and what could take it back, in Markdown.
#[derive(Serialize)]
struct Sentences {
    result: String,
    doubt: Option<String>,
}

#[derive(Serialize)]
struct PagePrompt<'a> {
    id: &'a str,
    turns: &'a [Turn],
    category: Option<&'a str>,
    harmful: bool,
    /// Whether a reader is asked before it is shown.
    cover: bool,
}

#[derive(Serialize)]
struct PageResponse<'a> {
    /// The number of its prompt.
    prompt: usize,
    seed: u64,
    /// The number of its system.
    system: usize,
    text: &'a str,
    scores: Option<PageScores>,
}

#[derive(Serialize)]
struct PageScores {
    toxicity: f64,
    evasiveness: f64,
    coherence: f64,
    degenerate: bool,
}

impl From<&Scores> for PageScores {
    fn from(scores: &Scores) -> Self {
        let Scores { toxicity, evasiveness, coherence, degenerate, .. } = *scores;
        Self { toxicity, evasiveness, coherence, degenerate }
    }
}

impl<'a> Data<'a> {
    pub(super) fn new(report: &'a RunReport, rows: &'a [SeedRows], show: bool) -> Result<Self, PipelineError> {
        let seeds: Vec<Sentences> =
            report.seeds.iter().map(|seed| Sentences { result: seed.report.result(), doubt: seed.report.doubt() }).collect();
        let first = || seeds.first().map_or_else(String::new, |seed| seed.result.clone());
        let mut seen = HashSet::new();
        let asked: Vec<&Response> =
            rows.iter().flat_map(|seed| &seed.prompts).filter(|response| seen.insert(response.prompt_id())).collect();
        let numbers: HashMap<&str, usize> = asked.iter().enumerate().map(|(number, response)| (response.prompt_id(), number)).collect();
        let systems: Vec<&str> =
            report.seeds.first().iter().flat_map(|seed| &seed.report.systems).map(|system| system.name.as_str()).collect();
        let response = |seed: u64, row: &'a ScoredResponse| {
            let system = systems.iter().position(|name| *name == row.model)?;
            let scores = row.judgement.scores().map(PageScores::from);
            Some(PageResponse { prompt: *numbers.get(row.prompt_id.as_str())?, seed, system, text: &row.response, scores })
        };
        Ok(Self {
            report,
            result: report.over_seeds.as_ref().map_or_else(first, adpo_eval::OverSeeds::result),
            seeds,
            show,
            curves: rows.iter().flat_map(|seed| &seed.curves).collect(),
            prompts: prompts(&asked)?,
            responses: rows.iter().flat_map(|seed| seed.responses.iter().filter_map(move |row| response(seed.seed, row))).collect(),
        })
    }
}

/// Covered are prompts that are marked harmful, and those with a turn that the embedded evaluator calls toxic, as if a model had said it.
/// It is asked whoever judged the responses: it costs nothing, and this decides over no number.
fn prompts<'a>(asked: &[&'a Response]) -> Result<Vec<PagePrompt<'a>>, PipelineError> {
    let judge = EmbeddedJudge::evaluator()?;
    let threshold = judge.thresholds().toxicity;
    let unmarked: Vec<Prompt> = asked.iter().map(|response| Prompt::from(response.prompt.value.dialogue.clone())).collect();
    let turns =
        unmarked.iter().enumerate().flat_map(|(number, prompt)| prompt.dialogue.turns.iter().map(move |turn| (number, prompt, turn)));
    let (numbers, said): (Vec<usize>, Vec<Exchange<'_>>) =
        turns.map(|(number, prompt, turn)| (number, Exchange { prompt, response: &turn.content })).unzip();
    let judged = judge.judge(&said);
    let harmless = |scores: &Scores| scores.toxicity < threshold;
    let toxic = numbers.iter().zip(&judged).filter(|(_, judgement)| !judgement.scores().is_some_and(harmless));
    let toxic: HashSet<usize> = toxic.map(|(number, _)| *number).collect();
    let one = |(number, response): (usize, &&'a Response)| {
        let prompt = &response.prompt.value;
        let harmful = response.is_harmful();
        PagePrompt {
            id: response.prompt_id(),
            turns: &prompt.dialogue.turns,
            category: prompt.category.as_deref(),
            harmful,
            cover: harmful || toxic.contains(&number),
        }
    };
    Ok(asked.iter().enumerate().map(one).collect())
}
