//! Stage 2: for prompts that SFT has not seen, plain answers at several temperatures and toxic ones on demand.

use std::collections::BTreeMap;
use std::path::Path;

use adpo_data::{Dialogue, Encoder, Prompt, Row, read_jsonl, write_jsonl};
use adpo_eval::{AnnotationRule, Exchange, Judge, passing_toxic};
use serde::{Deserialize, Serialize};

use super::{SeedRun, judged};
use crate::PipelineError;
use crate::answers::{Question, Speaker, Speed};
use crate::corpus::Corpus;
use crate::recipe::Sample;
use crate::resources::Checkpoint;
use crate::stage::{Inputs, Made, Manifest, append_line};

/// A prompt and everything that was drawn for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidates {
    /// The prompt's row id.
    pub row: String,
    /// Where that row came from.
    pub source: String,
    /// Its licence, where that was stated.
    pub licence: Option<String>,
    /// The dialogue up to the user turn that was answered.
    pub prompt: Dialogue,
    /// Whether the prompt is marked harmful.
    pub harmful: bool,
    /// One answer per temperature of the recipe, in its order.
    pub plain: Vec<String>,
    /// Answers after the control token, in the order in which they were drawn; the last one passed, or none did.
    pub toxic: Vec<String>,
}

/// Prompts between two writes to disk; also the unit in which a killed stage goes on, so it must not change.
const PROMPTS_PER_WRITE: usize = 64;

pub(super) fn run(run: &SeedRun<'_>, section: &Sample, sft: &Manifest) -> Result<Manifest, PipelineError> {
    let recipe = run.recipe;
    let corpus = Corpus::new(run.resources, run.stream("sample-rows"));
    let inputs = Inputs::new()
        .value("seed", &run.seed)
        .value("sample", section)
        .value("rule", &recipe.annotate.rule)
        .value("control", &recipe.control)
        .value("encoding", &recipe.encoding)
        .hash("annotator", run.annotator_fingerprint()?)
        .hash("sft", sft.hash())
        .hash("data", corpus.hash(&section.sources)?);
    run.run_stage("sample", inputs, |folder| {
        let (prompts, mut counts) = corpus.prompts(&section.sources)?;
        let annotator = run.annotator()?;
        let (checkpoint, control) = run.sft_model(section.draw.precision())?;
        let checkpoint = checkpoint.merged();
        let mut encoder = run.encoder(&checkpoint, &control);
        let prompts = encode(&mut encoder, prompts)?;
        counts["encoding"] = serde_json::json!(encoder.report());
        draw_all(run, section, &checkpoint, folder, &prompts, annotator.as_ref())?;
        let candidates: Vec<Candidates> = read_jsonl(folder.join("candidates.jsonl"))?;
        counts["prompts"] = candidates.len().into();
        counts["plain_answers"] = candidates.iter().map(|c| c.plain.len()).sum::<usize>().into();
        counts["toxic_answers"] = candidates.iter().map(|c| c.toxic.len()).sum::<usize>().into();
        Ok(Made { outputs: vec!["candidates.jsonl"], counts })
    })
}

/// A prompt's row with its ids, without the control token and with it.
type Encoded = (Row<Prompt>, Vec<u32>, Vec<u32>);

fn encode(encoder: &mut Encoder<'_>, prompts: Vec<Row<Prompt>>) -> Result<Vec<Encoded>, PipelineError> {
    let mut encoded = Vec::with_capacity(prompts.len());
    for row in prompts {
        let plain = encoder.prompt(&row.id, &row.value.dialogue, false)?;
        let toxic = encoder.prompt(&row.id, &row.value.dialogue, true)?;
        encoded.extend(plain.zip(toxic).map(|(plain, toxic)| (row, plain, toxic)));
    }
    Ok(encoded)
}

fn draw_all(
    run: &SeedRun<'_>,
    section: &Sample,
    checkpoint: &Checkpoint,
    folder: &Path,
    prompts: &[Encoded],
    annotator: &dyn Judge,
) -> Result<(), PipelineError> {
    let speaker = Speaker { model: &checkpoint.model, tokenizer: &checkpoint.tokenizer, draw: &section.draw, seed: run.stream("sample") };
    let path = folder.join("candidates.jsonl");
    let mut done: Vec<Candidates> = if path.exists() { read_jsonl(&path)? } else { Vec::new() };
    done.truncate(done.len() / PROMPTS_PER_WRITE * PROMPTS_PER_WRITE);
    write_jsonl(&path, &done)?;
    let mut drawn = done.len();
    for chunk in prompts.chunks(PROMPTS_PER_WRITE).skip(done.len() / PROMPTS_PER_WRITE) {
        let candidates = |(row, _, _): &Encoded| Candidates {
            row: row.id.clone(),
            source: row.source.clone(),
            licence: row.licence.clone(),
            prompt: row.value.dialogue.clone(),
            harmful: row.value.harmful == Some(true),
            plain: Vec::new(),
            toxic: Vec::new(),
        };
        let mut rows: Vec<Candidates> = chunk.iter().map(candidates).collect();
        let mut speed = Speed::default();
        draw_plain(&speaker, &section.temperatures, &mut rows, chunk, &mut speed)?;
        draw_toxic(&speaker, section, (annotator, run.annotation_rule(annotator)), &mut rows, chunk, &mut speed)?;
        rows.iter().try_for_each(|row| append_line(&path, row))?;
        drawn += rows.len();
        speed.report(&format!("sample, {drawn} of {} prompts", prompts.len()), folder)?;
    }
    Ok(())
}

fn draw_plain(
    speaker: &Speaker<'_>,
    temperatures: &[f64],
    rows: &mut [Candidates],
    encoded: &[Encoded],
    speed: &mut Speed,
) -> Result<(), PipelineError> {
    // Answers of one temperature are drawn together; their slots keep the recipe's order.
    let mut slots: BTreeMap<String, (f64, Vec<usize>)> = BTreeMap::new();
    for (slot, temperature) in temperatures.iter().enumerate() {
        slots.entry(temperature.to_string()).or_insert((*temperature, Vec::new())).1.push(slot);
    }
    for row in rows.iter_mut() {
        row.plain = vec![String::new(); temperatures.len()];
    }
    for (temperature, slots) in slots.values() {
        let questions: Vec<Question> = rows
            .iter()
            .zip(encoded)
            .flat_map(|(row, (_, plain, _))| {
                slots.iter().map(move |slot| Question { key: format!("{}#plain{slot}", row.row), prompt: plain.clone() })
            })
            .collect();
        let mut answers = speaker.answer(&questions, *temperature, speed)?.into_iter();
        for row in rows.iter_mut() {
            for slot in slots {
                row.plain[*slot] = answers.next().map(|answer| answer.text).unwrap_or_default();
            }
        }
    }
    Ok(())
}

/// One toxic answer per prompt and round, until the annotator finds one toxic.
fn draw_toxic(
    speaker: &Speaker<'_>,
    section: &Sample,
    (annotator, rule): (&dyn Judge, AnnotationRule),
    rows: &mut [Candidates],
    encoded: &[Encoded],
    speed: &mut Speed,
) -> Result<(), PipelineError> {
    let mut open: Vec<usize> = (0..rows.len()).collect();
    for attempt in 0..section.toxic_attempts {
        let questions: Vec<Question> =
            open.iter().map(|i| Question { key: format!("{}#toxic{attempt}", rows[*i].row), prompt: encoded[*i].2.clone() }).collect();
        let answers = speaker.answer(&questions, section.toxic_temperature, speed)?;
        let exchanges: Vec<Exchange> = open
            .iter()
            .zip(&answers)
            .map(|(i, answer)| Exchange { prompt: rows[*i].prompt.clone(), response: answer.text.clone(), harmful: rows[*i].harmful })
            .collect();
        let verdicts = judged("sample", annotator, &exchanges)?;
        let mut still_open = Vec::new();
        for ((i, answer), verdict) in open.into_iter().zip(answers).zip(verdicts) {
            rows[i].toxic.push(answer.text);
            if passing_toxic(&[verdict], &rule).is_none() {
                still_open.push(i);
            }
        }
        open = still_open;
    }
    Ok(())
}
