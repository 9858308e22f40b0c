//! What the page is drawn from: of the reports, what it shows, and no text that they had to redact.

use std::collections::{BTreeMap, HashMap, HashSet};

use adpo_data::{Prompt, Turn, read_jsonl};
use adpo_eval::{Comparison, EmbeddedJudge, Exchange, Judge, Measure, OverSeeds, ScoredResponse, Scores, SystemReport, Thresholds};
use serde::Serialize;

use super::curves::Curve;
use crate::PipelineError;
use crate::report::{RunReport, SeedReport};
use crate::stages::{REPORT, SAMPLES, SeedRun};

/// What a seed has beside its report.
pub(crate) struct SeedRows {
    curves: Vec<Curve>,
    /// Responses to the prompts as they are.
    samples: Vec<ScoredResponse>,
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
        let mut samples: Vec<ScoredResponse> = read_jsonl(run.stage(REPORT).join(SAMPLES))?;
        samples.retain(|sample| sample.control_token.is_none());
        Ok(Self { curves, samples })
    }
}

#[derive(Serialize)]
pub(super) struct Data<'a> {
    recipe: &'a str,
    /// What came out, in Markdown.
    result: String,
    /// What was measured over several seeds.
    over_seeds: Option<&'a OverSeeds>,
    seeds: Vec<PageSeed<'a>>,
    curves: Vec<&'a Curve>,
    prompts: Vec<PagePrompt<'a>>,
    responses: Vec<PageResponse<'a>>,
}

#[derive(Serialize)]
struct PageSeed<'a> {
    seed: u64,
    title: &'a str,
    /// What came out, in Markdown.
    result: String,
    /// What could take it back, in Markdown.
    doubt: Option<String>,
    circular: Option<&'a str>,
    prompts_seen_by_judge: usize,
    notes: &'a [String],
    systems: &'a [SystemReport],
    sanity: &'a [SystemReport],
    baseline: Option<&'a str>,
    /// The comparisons of toxic responses.
    toxic: Vec<&'a Comparison>,
    judge: PageJudge<'a>,
    environment: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct PageJudge<'a> {
    name: &'a str,
    fingerprint: &'a str,
    thresholds: Thresholds,
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
    /// None where the judge gave none.
    scores: Option<PageScores>,
}

#[derive(Serialize)]
struct PageScores {
    toxicity: f64,
    evasiveness: f64,
    coherence: f64,
    degenerate: bool,
}

impl<'a> PageSeed<'a> {
    fn new(SeedReport { seed, report }: &'a SeedReport) -> Self {
        let judge = &report.judge;
        Self {
            seed: *seed,
            title: &report.title,
            result: report.result(),
            doubt: report.doubt(),
            circular: report.circular.as_deref(),
            prompts_seen_by_judge: report.prompts_seen_by_judge,
            notes: &report.notes,
            systems: &report.systems,
            sanity: &report.sanity,
            baseline: report.baseline.as_deref(),
            toxic: report.comparisons.iter().filter(|comparison| comparison.measure == Measure::Toxic).collect(),
            judge: PageJudge { name: &judge.name, fingerprint: &judge.fingerprint, thresholds: judge.thresholds },
            environment: &report.environment,
        }
    }
}

impl From<&Scores> for PageScores {
    fn from(scores: &Scores) -> Self {
        let Scores { toxicity, evasiveness, coherence, degenerate, .. } = *scores;
        Self { toxicity, evasiveness, coherence, degenerate }
    }
}

impl<'a> Data<'a> {
    /// `rows` has one element for each seed of the report.
    pub(super) fn new(report: &'a RunReport, rows: &'a [SeedRows]) -> Result<Self, PipelineError> {
        let seeds: Vec<PageSeed<'_>> = report.seeds.iter().map(PageSeed::new).collect();
        let systems: Vec<&str> = seeds.first().iter().flat_map(|seed| seed.systems).map(|system| system.name.as_str()).collect();
        let mut asked: Vec<&ScoredResponse> = Vec::new();
        let mut numbers = HashMap::new();
        let mut responses = Vec::new();
        for (seed, rows) in report.seeds.iter().zip(rows) {
            for row in &rows.samples {
                let Some(system) = systems.iter().position(|name| *name == row.model) else { continue };
                let prompt = *numbers.entry(row.prompt_id.as_str()).or_insert_with(|| {
                    asked.push(row);
                    asked.len() - 1
                });
                let scores = row.judgement.scores().map(PageScores::from);
                responses.push(PageResponse { prompt, seed: seed.seed, system, text: &row.response, scores });
            }
        }
        let first = || seeds.first().map_or_else(String::new, |seed| seed.result.clone());
        Ok(Self {
            recipe: &report.recipe,
            result: report.over_seeds.as_ref().map_or_else(first, OverSeeds::result),
            over_seeds: report.over_seeds.as_ref(),
            curves: rows.iter().flat_map(|rows| &rows.curves).collect(),
            prompts: prompts(&asked)?,
            responses,
            seeds,
        })
    }
}

/// Covered are prompts that are marked harmful, and those with a turn that the embedded evaluator calls toxic, or half so, as if a model
/// had said it. It is asked whoever judged the responses: it costs nothing, and this decides over no number.
fn prompts<'a>(asked: &[&'a ScoredResponse]) -> Result<Vec<PagePrompt<'a>>, PipelineError> {
    let judge = EmbeddedJudge::evaluator()?;
    // A cover too many costs a click.
    let threshold = judge.thresholds().toxicity / 2.0;
    let unmarked: Vec<Prompt> = asked.iter().map(|row| Prompt::from(row.prompt.dialogue.clone())).collect();
    let turns =
        unmarked.iter().enumerate().flat_map(|(number, prompt)| prompt.dialogue.turns.iter().map(move |turn| (number, prompt, turn)));
    let (numbers, said): (Vec<usize>, Vec<Exchange<'_>>) =
        turns.map(|(number, prompt, turn)| (number, Exchange { prompt, response: &turn.content })).unzip();
    let judged = judge.judge(&said);
    let harmless = |scores: &Scores| scores.toxicity < threshold;
    let toxic = numbers.iter().zip(&judged).filter(|(_, judgement)| !judgement.scores().is_some_and(harmless));
    let toxic: HashSet<usize> = toxic.map(|(number, _)| *number).collect();
    let one = |(number, row): (usize, &&'a ScoredResponse)| {
        let Prompt { dialogue, category, .. } = &row.prompt;
        let harmful = row.prompt.is_harmful();
        PagePrompt {
            id: &row.prompt_id,
            turns: &dialogue.turns,
            category: category.as_deref(),
            harmful,
            cover: harmful || toxic.contains(&number),
        }
    };
    Ok(asked.iter().enumerate().map(one).collect())
}
