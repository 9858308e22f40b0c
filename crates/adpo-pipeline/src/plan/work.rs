//! What a stage trains on: the recipe's rows as ids, or rows as long as the recipe allows where there is nothing to count.

use std::collections::BTreeMap;
use std::path::Path;

use adpo_data::{ChatTokenizer, EncodeReport, Encoded, EncodedTriple, Encoder, OverLength, Preference, Row, read_jsonl};
use adpo_objective::Objective;
use adpo_train::{PassSize, SftExample, SideBySide, TrainOptions, preference_passes, sft_passes};
use serde::Serialize;

use crate::PipelineError;
use crate::corpus::Corpus;
use crate::recipe::{self, Pairs, Policy, Recipe, Sft};
use crate::stages::{DrawingLoad, SeedRun, TRIPLES, both_pairs, put};

/// The rows of a stage.
#[derive(Clone)]
pub(crate) enum Rows {
    Sft(Vec<SftExample>),
    Triples(Vec<EncodedTriple>, Objective),
}

/// A stage's rows, how many there are, and what became of the others.
#[derive(Clone)]
pub(super) struct Work {
    pub rows: Rows,
    /// How many there are; more than `rows` where these stand for all, `None` where nobody has counted.
    pub examples: Option<usize>,
    pub report: EncodeReport,
    /// What was taken for granted, in words.
    pub assumed: Option<String>,
}

/// Tokens and steps of a stage.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Counts {
    /// What was taken for granted instead of counted, if anything.
    pub assumed: Option<String>,
    /// Examples of an epoch.
    pub examples: Option<usize>,
    /// Rows left out, by reason.
    pub dropped: BTreeMap<String, usize>,
    /// Rows whose prompt was cut.
    pub truncated: usize,
    /// Tokens of an epoch's sequences, each with its prompt.
    pub tokens: Option<usize>,
    /// Cells that an epoch's forward passes compute, padding included.
    pub cells: Option<usize>,
    /// The same if responses did not share their prompts, one padded sequence per row.
    pub cells_not_shared: Option<usize>,
    /// Cells of the largest micro-batch, or of what of it runs side by side.
    pub largest_micro_batch: usize,
    /// Optimiser steps.
    pub steps: Option<usize>,
}

/// All passes of a stage, added up.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sum {
    pub epoch: PassSize,
    pub all: PassSize,
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Sft(rows) => rows.len(),
            Self::Triples(rows, _) => rows.len(),
        }
    }

    /// The passes of all steps, as they run side by side.
    pub(super) fn passes<'a>(&'a self, options: &'a TrainOptions, on_cpu: bool) -> Box<dyn Iterator<Item = SideBySide> + 'a> {
        match self {
            Self::Sft(rows) => Box::new(sft_passes(rows, options, on_cpu)),
            Self::Triples(rows, objective) => Box::new(preference_passes(rows, objective, options, on_cpu)),
        }
    }
}

impl Work {
    /// Sums over an epoch and over all steps. Rows that stand for all count as often as there are others.
    pub(super) fn sum(&self, options: &TrainOptions, on_cpu: bool) -> Sum {
        let mut epoch = PassSize::default();
        let one_epoch = TrainOptions { num_train_epochs: 1, max_steps: None, ..options.clone() };
        for pass in self.rows.passes(&one_epoch, on_cpu).flat_map(|side_by_side| side_by_side.passes) {
            add(&mut epoch, &pass);
        }
        let examples = self.examples.unwrap_or(self.rows.len());
        let epoch = scaled(&epoch, examples as f64 / self.rows.len().max(1) as f64);
        let seen = options.total_steps(examples) as f64 / examples.div_ceil(options.examples_per_step()).max(1) as f64;
        Sum { epoch, all: scaled(&epoch, seen) }
    }

    pub(super) fn counts(&self, options: &TrainOptions, sum: &Sum, largest: &[PassSize]) -> Counts {
        let apart = TrainOptions { share_prompts: false, packing: None, ..options.clone() };
        let known = |count: usize| self.examples.map(|_| count);
        Counts {
            assumed: self.assumed.clone(),
            examples: self.examples,
            dropped: self.report.dropped.clone(),
            truncated: self.report.truncated,
            tokens: known(sum.epoch.tokens),
            cells: known(sum.epoch.cells),
            cells_not_shared: if matches!(self.rows, Rows::Sft(_)) { None } else { known(self.sum(&apart, false).epoch.cells) },
            largest_micro_batch: largest.iter().map(|pass| pass.cells).sum(),
            steps: self.examples.map(|examples| options.total_steps(examples)),
        }
    }
}

fn add(sum: &mut PassSize, pass: &PassSize) {
    sum.sequences += pass.sequences;
    sum.tokens += pass.tokens;
    sum.cells += pass.cells;
    sum.targets += pass.targets;
    sum.pairs += pass.pairs;
}

fn scaled(pass: &PassSize, times: f64) -> PassSize {
    let by = |count: usize| (count as f64 * times).round() as usize;
    PassSize {
        sequences: by(pass.sequences),
        tokens: by(pass.tokens),
        cells: by(pass.cells),
        targets: by(pass.targets),
        pairs: by(pass.pairs),
    }
}

/// Where rows come from.
pub(super) struct Source<'a> {
    pub run: &'a SeedRun<'a>,
    /// With the control token; absent where a shape stands in for the checkpoint, or no data are to be read.
    pub tokenizer: Option<&'a ChatTokenizer>,
    pub read: bool,
}

impl Source<'_> {
    fn recipe(&self) -> &Recipe {
        self.run.recipe
    }

    fn encoder(&self) -> Result<Option<Encoder<'_>>, PipelineError> {
        let Some(tokenizer) = self.tokenizer else { return Ok(None) };
        let (_, control) = tokenizer.clone().with_control_token(&self.recipe().control.token)?;
        let control = Some(&control).filter(|_| self.run.has_control_token);
        Ok(Some(Encoder::new(tokenizer, self.run.encoding_options(control))))
    }

    pub(super) fn sft(&self, section: &Sft) -> Result<Work, PipelineError> {
        let longest = self.recipe().encoding.max_length;
        let corpus = self.corpus("sft-rows");
        let rows = if self.read { Some(collected(|take| corpus.sft(&section.sources, None, take))?) } else { None };
        if let (Some(rows), Some(mut encoder)) = (&rows, self.encoder()?) {
            let mut examples = Vec::with_capacity(rows.len());
            for row in rows {
                if let Some(encoded) = encoder.sft(&row.id, &row.value)? {
                    examples.push(SftExample { row: row.id.clone(), encoded });
                }
            }
            let labels = section.sources.iter().any(|source| source.label_toxic_above.is_some());
            let mut assumed: Vec<&str> = Vec::new();
            if labels {
                assumed.push("responses that the annotator would mark count without the control token");
            }
            if section.rehearsal.is_some() {
                assumed.push("what the base rehearses, a response a prompt at most, is not counted");
            }
            let assumed = (!assumed.is_empty()).then(|| assumed.join("; "));
            return Ok(Work { examples: Some(examples.len()), rows: Rows::Sft(examples), report: encoder.report().clone(), assumed });
        }
        let examples = rows.map(|rows| rows.len()).or_else(|| limits(&section.sources));
        let encoded = Encoded { ids: vec![0; longest], trained: vec![true; longest] };
        let stand_in = |_| SftExample { row: String::new(), encoded: encoded.clone() };
        Ok(Work {
            rows: Rows::Sft((0..stand_ins(examples, &section.train)).map(stand_in).collect()),
            examples,
            report: EncodeReport::default(),
            assumed: Some(format!("every row has `encoding.max_length` = {longest} tokens, all of them trained")),
        })
    }

    pub(super) fn policy(&self, section: &recipe::Preference, policy: &Policy) -> Result<Work, PipelineError> {
        let mut work = self.triples(section, &policy.objective)?;
        if policy.pairs == Pairs::RejectedAndToxic
            && let Rows::Triples(rows, objective) = work.rows
        {
            let before = rows.len();
            let rows: Vec<EncodedTriple> = rows.into_iter().flat_map(both_pairs).collect();
            work.examples = work.examples.map(|examples| examples * rows.len() / before.max(1));
            work.rows = Rows::Triples(rows, objective);
        }
        Ok(work)
    }

    fn triples(&self, section: &recipe::Preference, objective: &Objective) -> Result<Work, PipelineError> {
        let recipe = self.recipe();
        let preferences: Option<Vec<Row<Preference>>> = if !self.read {
            None
        } else if recipe.sample.is_none() {
            let corpus = self.corpus("preference-rows");
            Some(collected(|take| corpus.preferences(&section.sources, take))?)
        } else {
            let made = self.run.folder.join("annotate").join(TRIPLES);
            if Path::new(&made).exists() { Some(read_jsonl(&made)?) } else { None }
        };
        if let (Some(rows), Some(mut encoder)) = (&preferences, self.encoder()?) {
            let mut triples = Vec::with_capacity(rows.len());
            for row in rows {
                triples.extend(encoder.preference(row)?);
            }
            let report = encoder.report().clone();
            return Ok(Work { examples: Some(triples.len()), rows: Rows::Triples(triples, objective.clone()), report, assumed: None });
        }
        if let Some(sample) = &recipe.sample {
            return self.candidates(section, sample, objective);
        }
        let longest = recipe.encoding.max_length;
        let examples = preferences.map(|rows| rows.len()).or_else(|| limits(&section.sources));
        Ok(self.longest_triples(section, examples, longest.div_ceil(2), objective))
    }

    /// Triples that are yet to be drawn: one of every prompt, with responses of the greatest length.
    fn candidates(&self, section: &recipe::Preference, sample: &recipe::Sample, objective: &Objective) -> Result<Work, PipelineError> {
        let (recipe, longest) = (self.recipe(), self.recipe().encoding.max_length);
        let response = (sample.draw.max_new_tokens + 1).min(longest.saturating_sub(1)).max(1);
        let prompts = if self.read { Some(self.corpus("sample-rows").prompts(&sample.sources)?.0) } else { None };
        let (Some(rows), Some(mut encoder)) = (&prompts, self.encoder()?) else {
            let examples = prompts.map(|rows| rows.len()).or_else(|| limits(&sample.sources));
            return Ok(self.longest_triples(section, examples, response, objective));
        };
        let (mut triples, mut report) = (Vec::with_capacity(rows.len()), EncodeReport::default());
        for row in rows {
            let Some(mut prompt) = encoder.prompt(&row.id, &row.value.dialogue, false)? else { continue };
            if prompt.len() + response > longest && recipe.encoding.over_length != OverLength::TruncatePrompt {
                *report.dropped.entry("longer than max_length with the longest response".into()).or_default() += 1;
                continue;
            }
            report.truncated += usize::from(prompt.len() + response > longest);
            prompt.truncate(longest - response);
            triples.push(triple(prompt, response));
        }
        report.dropped.extend(encoder.report().dropped.clone());
        let assumed =
            format!("every prompt gives a triple, every response has `sample.draw.max_new_tokens` and its end, {response} tokens");
        Ok(Work { examples: Some(triples.len()), rows: Rows::Triples(triples, objective.clone()), report, assumed: Some(assumed) })
    }

    fn longest_triples(&self, section: &recipe::Preference, examples: Option<usize>, response: usize, objective: &Objective) -> Work {
        let longest = self.recipe().encoding.max_length;
        let count = stand_ins(examples, &section.train);
        // Different prompts: equal ones would be shared.
        let prompt = |i: usize| vec![i as u32; longest.saturating_sub(response).max(1)];
        Work {
            rows: Rows::Triples((0..count).map(|i| triple(prompt(i), response)).collect(), objective.clone()),
            examples,
            report: EncodeReport::default(),
            assumed: Some(format!("every row has `encoding.max_length` = {longest} tokens, {response} of them the response")),
        }
    }

    /// Tokens of the longest prompt that completions are drawn to, in whichever way it is put.
    pub(super) fn longest_prompt(&self, load: &DrawingLoad<'_>) -> Result<usize, PipelineError> {
        let longest = self.recipe().encoding.max_length;
        let (true, Some(mut encoder)) = (self.read, self.encoder()?) else { return Ok(longest) };
        let mut found = 1;
        for (number, row) in self.corpus(load.stream).prompts(load.sources)?.0.into_iter().enumerate() {
            for way in load.ways.iter().filter(|way| way.is_none() || self.run.has_control_token) {
                let (dialogue, with_token) = put(*way, &row.value.dialogue, &self.recipe().control.token, number);
                found = found.max(encoder.prompt(&row.id, &dialogue, with_token)?.map_or(0, |ids| ids.len()));
            }
        }
        Ok(found)
    }

    fn corpus(&self, stream: &str) -> Corpus<'_> {
        Corpus::new(self.run.resources, self.run.stream(stream))
    }
}

/// All rows of a source of chunks.
fn collected<T>(
    read: impl FnOnce(&mut dyn FnMut(Vec<T>) -> Result<(), PipelineError>) -> Result<serde_json::Value, PipelineError>,
) -> Result<Vec<T>, PipelineError> {
    let mut all = Vec::new();
    read(&mut |rows| {
        all.extend(rows);
        Ok(())
    })?;
    Ok(all)
}

fn triple(prompt: Vec<u32>, response: usize) -> EncodedTriple {
    let ids = vec![0; response];
    let (row, toxic_prompt) = (String::new(), Some(prompt.clone()));
    EncodedTriple { row, prompt, chosen: ids.clone(), rejected: ids.clone(), toxic: Some(ids), toxic_prompt }
}

/// Rows by the recipe alone, where each source has a limit.
fn limits(sources: &[recipe::Source]) -> Option<usize> {
    sources.iter().map(|source| source.limit).sum()
}

/// Enough rows for a step: more would be the same again.
fn stand_ins(examples: Option<usize>, options: &TrainOptions) -> usize {
    examples.unwrap_or(usize::MAX).min(options.examples_per_step()).max(1)
}
