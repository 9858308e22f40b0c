//! Responses of a model behind endpoints to a file of prompts, written as responses that `adpo evaluate` reads.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use adpo_data::{Prompt, Row, derive_seed, write_jsonl};
use serde::{Deserialize, Serialize};

use super::chat::{ChatEndpoint, Completion, Request, decode, encode};
use super::pool::Job;
use crate::error::EvalError;
use crate::response::{Responder, Response, read_appended, response_line, write_responses};

/// How responses are drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleOptions {
    /// Responses for each prompt.
    pub samples: usize,
    /// Their temperature; 0 is greedy.
    pub temperature: f64,
    /// Only the likeliest tokens that together reach this probability.
    pub top_p: Option<f64>,
    /// Longest response in tokens.
    pub max_tokens: usize,
    /// Each request gets a seed of its own, derived from this one, the prompt's id and the number of the response.
    /// Endpoints that know no seeds ignore it.
    pub seed: u64,
}

/// What came of [`sample_endpoint`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SampleReport {
    /// Prompts that stood complete in the file already.
    pub kept: usize,
    /// Prompts answered now.
    pub answered: usize,
    /// Prompts that lack a response; the same call asks for them again.
    pub unanswered: usize,
    /// Why, with the number of responses that failed for it.
    pub errors: BTreeMap<String, usize>,
}

/// What a file of responses was drawn with; kept beside it, so that no file mixes two kinds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Settings {
    model: String,
    #[serde(flatten)]
    options: SampleOptions,
}

/// Draws `options.samples` responses for each prompt and writes them to `out`, one JSON object per line: `prompt_id`,
/// `prompt` (messages), `response`, `model`, `source`, and `harmful`, `category` and `licence` where the prompt has them.
///
/// A prompt's responses are appended as soon as all of them are there, and at the end the file is put into the order of
/// `prompts`. Prompts that stand in `out` already are not asked again; `<out>.settings.json` says what they were drawn
/// with.
///
/// # Errors
/// [`EvalError::Io`] and [`EvalError::Rows`] for a file that cannot be written or is not one of these;
/// [`EvalError::Sample`] for options that make no sense, and for an `out` drawn with other options, by another model or
/// from other prompts.
pub fn sample_endpoint(
    endpoint: &ChatEndpoint,
    prompts: &[Arc<Row<Prompt>>],
    options: &SampleOptions,
    out: &Path,
) -> Result<SampleReport, EvalError> {
    check(options, out)?;
    let settings = Settings { model: endpoint.model.clone(), options: options.clone() };
    let mut file = OutFile::open(out, prompts, &settings)?;
    let kept = file.done.len();
    let open: Vec<&Arc<Row<Prompt>>> = prompts.iter().filter(|row| !file.done.contains_key(&row.id)).collect();
    let job = |row: &Row<Prompt>, sample: usize| {
        let key = format!("{}#{sample}", row.id);
        let body = encode(&Request {
            model: &endpoint.model,
            messages: &row.value.dialogue.turns,
            max_tokens: options.max_tokens,
            temperature: options.temperature,
            top_p: options.top_p,
            // Some servers keep seeds in 32 bits with a sign.
            seed: Some(derive_seed(options.seed, &key) & 0x7fff_ffff),
        });
        Job { key, body }
    };
    let jobs: Vec<Job> = open.iter().flat_map(|row| (0..options.samples).map(|sample| job(row, sample))).collect();
    let mut responses: Vec<Vec<Option<String>>> = vec![vec![None; options.samples]; open.len()];
    let mut errors: BTreeMap<String, usize> = BTreeMap::new();
    let mut written = Ok(());
    endpoint.service.pool.run(&jobs, decode, |number, outcome| {
        let (place, sample) = (number / options.samples, number % options.samples);
        match outcome {
            Ok(Completion::Text(text)) => responses[place][sample] = Some(text),
            // What a model declares to be a refusal is what it said.
            Ok(Completion::Refusal(text)) if !text.is_empty() => responses[place][sample] = Some(text),
            Ok(Completion::Refusal(_)) => {
                *errors.entry("the endpoint's content filter kept the response back".to_owned()).or_default() += 1;
            }
            Err(error) => *errors.entry(error).or_default() += 1,
        }
        if responses[place].iter().all(Option::is_some) {
            let texts = responses[place].iter_mut().filter_map(Option::take).collect();
            written = file.append(open[place], texts);
        }
        if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    written?;
    file.put_in_order(prompts)?;
    let answered = file.done.len() - kept;
    Ok(SampleReport { kept, answered, unanswered: open.len() - answered, errors })
}

fn check(options: &SampleOptions, out: &Path) -> Result<(), EvalError> {
    let problem = |problem: &str| Err(EvalError::Sample(problem.to_owned()));
    if options.samples == 0 || options.max_tokens == 0 {
        return problem("`samples` and `max_tokens` are at least 1");
    }
    if !(0.0..=10.0).contains(&options.temperature) || options.top_p.is_some_and(|p| !(p > 0.0 && p <= 1.0)) {
        return problem("the temperature lies in [0, 10] and `top_p` in (0, 1]");
    }
    if options.samples > 1 && options.temperature == 0.0 {
        return problem("at temperature 0 all responses to a prompt are the same; ask for one, or raise the temperature");
    }
    if out.extension().is_some_and(|extension| extension == "gz") {
        return problem("the file of responses is appended to and cannot be gzipped; leave out `.gz`");
    }
    Ok(())
}

/// The responses so far, complete prompts only.
struct OutFile {
    path: PathBuf,
    file: File,
    responder: Responder,
    done: BTreeMap<String, Vec<Response>>,
}

impl OutFile {
    fn open(path: &Path, prompts: &[Arc<Row<Prompt>>], settings: &Settings) -> Result<Self, EvalError> {
        let mut beside = path.file_name().unwrap_or_default().to_owned();
        beside.push(".settings.json");
        let beside = path.with_file_name(beside);
        let responder = Responder::plain(&settings.model);
        let done = if std::fs::metadata(path).is_ok_and(|file| file.len() > 0) {
            check_settings(path, &beside, settings)?;
            complete_prompts(path, &responder, prompts, settings.options.samples)?
        } else {
            write_jsonl(&beside, std::slice::from_ref(settings))?;
            BTreeMap::new()
        };
        // Without what a kill cut off.
        write_responses(path, &responder, done.values().flatten())?;
        let file = OpenOptions::new().append(true).open(path).map_err(|source| EvalError::io(path, source))?;
        Ok(Self { path: path.to_owned(), file, responder, done })
    }

    fn append(&mut self, prompt: &Arc<Row<Prompt>>, texts: Vec<String>) -> Result<(), EvalError> {
        let responses: Vec<Response> = texts.into_iter().map(|text| Response { prompt: prompt.clone(), text }).collect();
        let lines = responses.iter().map(|response| response_line(&self.responder, response)).collect::<Result<String, _>>();
        let written = lines.map_err(std::io::Error::other).and_then(|lines| self.file.write_all(lines.as_bytes()));
        written.map_err(|source| EvalError::io(&self.path, source))?;
        self.done.insert(prompt.id.clone(), responses);
        Ok(())
    }

    fn put_in_order(&self, prompts: &[Arc<Row<Prompt>>]) -> Result<(), EvalError> {
        write_responses(&self.path, &self.responder, prompts.iter().filter_map(|row| self.done.get(&row.id)).flatten())
    }
}

fn check_settings(path: &Path, beside: &Path, settings: &Settings) -> Result<(), EvalError> {
    let text = std::fs::read_to_string(beside).map_err(|source| EvalError::io(beside, source))?;
    let found: Settings = serde_json::from_str(text.trim())
        .map_err(|e| EvalError::Sample(format!("{} is not readable ({e}); give another file for the responses", beside.display())))?;
    if found == *settings {
        return Ok(());
    }
    let show = |settings: &Settings| serde_json::to_string(settings).unwrap_or_default();
    Err(EvalError::Sample(format!(
        "{} was drawn with {}, not with {}; give another file, or the same options",
        path.display(),
        show(&found),
        show(settings)
    )))
}

/// The prompts of the file that have all their responses.
fn complete_prompts(
    path: &Path,
    responder: &Responder,
    prompts: &[Arc<Row<Prompt>>],
    samples: usize,
) -> Result<BTreeMap<String, Vec<Response>>, EvalError> {
    let known: BTreeMap<&str, &Arc<Row<Prompt>>> = prompts.iter().map(|row| (row.id.as_str(), row)).collect();
    let mut done: BTreeMap<String, Vec<Response>> = BTreeMap::new();
    for response in read_appended(path)?.of(responder) {
        match known.get(response.prompt_id()) {
            Some(row) if row.value == response.prompt.value => {
                let response = Response { prompt: (*row).clone(), text: response.text.clone() };
                done.entry(row.id.clone()).or_default().push(response);
            }
            _ => {
                return Err(EvalError::Sample(format!(
                    "{} responds to the prompt `{}`, which is not among the prompts now; give another file",
                    path.display(),
                    response.prompt_id()
                )));
            }
        }
    }
    done.retain(|_, responses| responses.len() == samples);
    Ok(done)
}
