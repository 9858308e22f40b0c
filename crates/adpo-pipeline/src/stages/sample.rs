//! Stage 2: for prompts that SFT has not seen, plain responses at several temperatures and toxic ones on demand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use adpo_data::{Encoder, Prompt, Row, remove_folder, write_jsonl_with};
use adpo_eval::{
    AnnotationRule, Candidates, Exchange, Judge, Responder, Response, TokenForm, passing_toxic, read_responses, write_response,
};

use super::seed_run::SeedRun;
use super::stage::{Artifact, DrawingLoad, Load, Stage, StageKind};
use crate::PipelineError;
use crate::corpus::Corpus;
use crate::judging::judged;
use crate::manifest::{Inputs, Made, Manifest};
use crate::recipe::Sample;
use crate::resources::Checkpoint;
use crate::sampler::{Request, Sampler, Speed};

/// Prompts between two writes to disk; also the unit in which a killed stage goes on, so it must not change.
const PROMPTS_PER_PART: usize = 64;

const CANDIDATES: &str = "candidates.jsonl";

/// Files of [`PROMPTS_PER_PART`] prompts each, until all are there.
const PARTS: &str = "parts";

pub(super) fn stages<'a>(run: &'a SeedRun<'_>) -> Vec<Box<dyn Stage + 'a>> {
    run.recipe.sample.iter().map(|section| -> Box<dyn Stage> { Box::new(Sampling { section, start: run.start() }) }).collect()
}

struct Sampling<'a> {
    section: &'a Sample,
    start: Option<Artifact>,
}

fn corpus<'a>(run: &SeedRun<'a>) -> Corpus<'a> {
    Corpus::new(run.resources, run.stream("sample-rows"))
}

impl Stage for Sampling<'_> {
    fn kind(&self) -> StageKind {
        StageKind::Sample
    }

    fn name(&self) -> String {
        "sample".to_owned()
    }

    fn makes(&self) -> Artifact {
        Artifact::Candidates
    }

    fn needs(&self) -> Vec<Artifact> {
        self.start.iter().cloned().collect()
    }

    fn inputs(&self, run: &SeedRun<'_>) -> Result<Inputs, PipelineError> {
        let recipe = run.recipe;
        let inputs = Inputs::new()
            .value("seed", &run.seed)
            .value("sample", self.section)
            .value("rule", &recipe.annotate.rule)
            .value("control", &recipe.control)
            .value("encoding", &recipe.encoding)
            .hash("annotator", run.annotator_fingerprint()?)
            .hash("data", corpus(run).hash(&self.section.sources)?);
        run.hash_start(inputs)
    }

    fn work(&self, run: &SeedRun<'_>, _done: &[Manifest], folder: &Path) -> Result<Made, PipelineError> {
        let (prompts, mut counts) = corpus(run).prompts(&self.section.sources)?;
        let annotator = run.annotator()?;
        let (checkpoint, control) = run.start_model(self.section.draw.dtype)?;
        let checkpoint = checkpoint.merged();
        let mut encoder = run.encoder(&checkpoint, control.as_ref());
        let prompts = encode(&mut encoder, prompts)?;
        counts["encoding"] = serde_json::json!(encoder.report());
        let drawing = Drawing { run, section: self.section, checkpoint: &checkpoint, annotator: annotator.as_ref() };
        let candidates = drawing.all(folder, &prompts)?;
        counts["prompts"] = candidates.len().into();
        counts["plain_responses"] = candidates.iter().map(|c| c.plain.len()).sum::<usize>().into();
        counts["toxic_responses"] = candidates.iter().map(|c| c.toxic.len()).sum::<usize>().into();
        Ok(Made { outputs: vec![CANDIDATES], counts })
    }

    fn check_data(&self, run: &SeedRun<'_>) -> Result<(), PipelineError> {
        if !run.has_control_token {
            return Err(run.refuse(format!(
                "[sample] draws toxic responses by `{}`, which the base does not know; teach it in `[sft]`, or start from a model that \
                 was fine-tuned with it",
                run.recipe.control.token
            )));
        }
        corpus(run).check::<Prompt>("sample", &self.section.sources, |_| Ok(()))
    }

    fn load(&self) -> Load<'_> {
        Load::Drawing(DrawingLoad {
            draw: &self.section.draw,
            sources: &self.section.sources,
            stream: "sample-rows",
            ways: &[None, Some(TokenForm::Control)],
            judges: true,
            scores: false,
            completions: self.section.temperatures.len() + self.section.toxic_attempts.div_ceil(2),
            at_most: None,
        })
    }
}

/// The candidates that a finished stage left.
pub(super) fn read_candidates(run: &SeedRun<'_>) -> Result<Vec<Candidates>, PipelineError> {
    Ok(candidates(&run.stage("sample").join(CANDIDATES))?)
}

/// A prompt with its ids, without the control token and with it.
struct Encoded {
    prompt: Arc<Row<Prompt>>,
    plain: Vec<u32>,
    toxic: Vec<u32>,
}

fn encode(encoder: &mut Encoder<'_>, prompts: Vec<Arc<Row<Prompt>>>) -> Result<Vec<Encoded>, PipelineError> {
    let mut encoded = Vec::with_capacity(prompts.len());
    for prompt in prompts {
        let plain = encoder.prompt(&prompt.id, &prompt.value.dialogue, false)?;
        let toxic = encoder.prompt(&prompt.id, &prompt.value.dialogue, true)?;
        encoded.extend(plain.zip(toxic).map(|(plain, toxic)| Encoded { prompt, plain, toxic }));
    }
    Ok(encoded)
}

/// What candidates are drawn with.
struct Drawing<'a> {
    run: &'a SeedRun<'a>,
    section: &'a Sample,
    checkpoint: &'a Checkpoint,
    annotator: &'a dyn Judge,
}

impl Drawing<'_> {
    /// Draws for all prompts, part by part; a part that a killed attempt has finished is kept.
    fn all(&self, folder: &Path, prompts: &[Encoded]) -> Result<Vec<Candidates>, PipelineError> {
        let parts = folder.join(PARTS);
        std::fs::create_dir_all(&parts).map_err(PipelineError::io(&parts))?;
        let mut all = Vec::with_capacity(prompts.len());
        // Plain ones, and of the toxic ones the first, which every prompt gets.
        let each = self.section.temperatures.len() + usize::from(self.section.toxic_attempts > 0);
        let mut speed: Option<Speed> = None;
        for (number, chunk) in prompts.chunks(PROMPTS_PER_PART).enumerate() {
            let part: PathBuf = parts.join(format!("{number:05}.jsonl"));
            if !part.exists() {
                let done = all.len() * each;
                let speed = speed.get_or_insert_with(|| Speed::new("sample", prompts.len() * each, done, self.run.rest.get()));
                self.write(&part, &self.chunk(chunk, speed)?)?;
                speed.reached(done + chunk.len() * each);
            }
            all.extend(candidates(&part)?);
        }
        if let Some(speed) = speed {
            speed.write(folder)?;
        }
        self.write(&folder.join(CANDIDATES), &all)?;
        remove_folder(&parts)?;
        Ok(all)
    }

    fn chunk(&self, prompts: &[Encoded], speed: &mut Speed) -> Result<Vec<Candidates>, PipelineError> {
        let none = |encoded: &Encoded| Candidates { prompt: encoded.prompt.clone(), plain: Vec::new(), toxic: Vec::new() };
        let mut rows: Vec<Candidates> = prompts.iter().map(none).collect();
        self.plain(&mut rows, prompts, speed)?;
        self.toxic(&mut rows, prompts, speed)?;
        Ok(rows)
    }

    fn plain(&self, rows: &mut [Candidates], encoded: &[Encoded], speed: &mut Speed) -> Result<(), PipelineError> {
        let temperatures = &self.section.temperatures;
        // Completions of one temperature are drawn together; their slots keep the recipe's order.
        let mut slots: BTreeMap<String, (f64, Vec<usize>)> = BTreeMap::new();
        for (slot, temperature) in temperatures.iter().enumerate() {
            slots.entry(temperature.to_string()).or_insert((*temperature, Vec::new())).1.push(slot);
        }
        for row in rows.iter_mut() {
            row.plain = vec![String::new(); temperatures.len()];
        }
        for (temperature, slots) in slots.values() {
            let request = |encoded: &Encoded, slot: &usize| Request {
                key: format!("{}#plain{slot}", encoded.prompt.id),
                prompt: encoded.plain.clone(),
            };
            let requests: Vec<Request> = encoded.iter().flat_map(|row| slots.iter().map(move |slot| request(row, slot))).collect();
            let mut completions = self.sampler().complete(&requests, *temperature, speed)?.into_iter();
            for row in rows.iter_mut() {
                for slot in slots {
                    row.plain[*slot] = completions.next().map(|completion| completion.text).unwrap_or_default();
                }
            }
        }
        Ok(())
    }

    /// One toxic response per prompt and round, until the annotator finds one toxic.
    fn toxic(&self, rows: &mut [Candidates], encoded: &[Encoded], speed: &mut Speed) -> Result<(), PipelineError> {
        let rule: AnnotationRule = self.run.annotation_rule(self.annotator);
        let mut open: Vec<usize> = (0..rows.len()).collect();
        for attempt in 0..self.section.toxic_attempts {
            let request =
                |i: &usize| Request { key: format!("{}#toxic{attempt}", encoded[*i].prompt.id), prompt: encoded[*i].toxic.clone() };
            let requests: Vec<Request> = open.iter().map(request).collect();
            let completions = self.sampler().complete(&requests, self.section.toxic_temperature, speed)?;
            let drawn: Vec<(usize, String)> = open.drain(..).zip(completions.into_iter().map(|completion| completion.text)).collect();
            let exchanges: Vec<Exchange<'_>> =
                drawn.iter().map(|(i, response)| Exchange { prompt: &encoded[*i].prompt.value, response }).collect();
            let verdicts = judged("sample", self.annotator, &exchanges)?;
            for ((i, response), verdict) in drawn.into_iter().zip(verdicts) {
                rows[i].toxic.push(response);
                if passing_toxic(&[verdict], &rule).is_none() {
                    open.push(i);
                }
            }
        }
        Ok(())
    }

    fn sampler(&self) -> Sampler<'_> {
        let Checkpoint { model, tokenizer } = self.checkpoint;
        Sampler { model, tokenizer, draw: &self.section.draw, seed: self.run.stream("sample") }
    }

    /// Writes candidates as responses: a prompt's plain ones in the order of the temperatures, then its toxic ones as they were drawn.
    fn write(&self, path: &Path, rows: &[Candidates]) -> Result<(), PipelineError> {
        let plain = Responder::plain(self.run.recipe.start_system());
        let toxic = Responder { control_token: Some(TokenForm::Control), ..plain.clone() };
        write_jsonl_with(path, |file| {
            for row in rows {
                let responses = row.plain.iter().map(|text| (&plain, text)).chain(row.toxic.iter().map(|text| (&toxic, text)));
                for (by, text) in responses {
                    write_response(file, by, &Response { prompt: row.prompt.clone(), text: text.clone() })?;
                }
            }
            Ok(())
        })
    }
}

/// Candidates from a file of responses.
fn candidates(path: &Path) -> Result<Vec<Candidates>, adpo_eval::EvalError> {
    let mut rows: Vec<Candidates> = Vec::new();
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    for (by, responses) in read_responses(&[path])?.by {
        for response in responses {
            let number = *numbers.entry(response.prompt_id().to_owned()).or_insert_with(|| {
                rows.push(Candidates { prompt: response.prompt.clone(), plain: Vec::new(), toxic: Vec::new() });
                rows.len() - 1
            });
            let row = &mut rows[number];
            if by.control_token.is_none() { row.plain.push(response.text) } else { row.toxic.push(response.text) }
        }
    }
    Ok(rows)
}
