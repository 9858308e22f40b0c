//! Completions of prompts: sampling and decoding.

use std::path::Path;

use adpo_data::{ChatTokenizer, derive_seed};
use adpo_model::{Completion, Finish, Llama, SampleRequest, SamplingOptions, sample};
use adpo_train::Progress;
use serde::Serialize;

use crate::PipelineError;
use crate::draw::Draw;
use crate::manifest::append_line;

/// One completion to be drawn. Its text depends on model, prompt, temperature, seed and `key` alone.
pub(crate) struct Request {
    /// Names the random stream, for example the row's id and the number of the completion.
    pub key: String,
    pub prompt: Vec<u32>,
}

/// A completion that was drawn.
pub(crate) struct TextCompletion {
    pub text: String,
    /// The ids behind it; the token that ended it is the last one, where one did.
    pub ids: Vec<u32>,
}

/// A model that draws completions.
pub(crate) struct Sampler<'a> {
    pub model: &'a Llama,
    pub tokenizer: &'a ChatTokenizer,
    pub draw: &'a Draw,
    pub seed: u64,
}

impl Sampler<'_> {
    /// One completion for each request, in order.
    pub(crate) fn complete(&self, requests: &[Request], temperature: f64, speed: &mut Speed) -> Result<Vec<TextCompletion>, PipelineError> {
        let rows: Vec<SampleRequest<'_>> =
            requests.iter().map(|r| SampleRequest { prompt: &r.prompt, row: derive_seed(self.seed, &r.key) }).collect();
        let options = SamplingOptions {
            temperature,
            top_k: self.draw.top_k,
            top_p: self.draw.top_p,
            max_new_tokens: self.draw.max_new_tokens,
            stop: vec![self.tokenizer.eos_id()],
            seed: self.seed,
            batch_size: self.draw.batch_size,
        };
        // The batches that `sample` would make of all requests, one by one: people see how far it is.
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|i| rows[*i].prompt.len());
        let mut done: Vec<Option<Completion>> = vec![None; rows.len()];
        for batch in order.chunks(options.batch_size.max(1)) {
            let run = sample(self.model, &batch.iter().map(|i| rows[*i]).collect::<Vec<_>>(), &options)?;
            speed.add(run.completions.len(), run.new_tokens, run.seconds);
            batch.iter().zip(run.completions).for_each(|(i, completion)| done[*i] = Some(completion));
        }
        let completions = done.into_iter().flatten().map(|completion| {
            let text = self.tokenizer.decode(&completion.ids).trim().to_owned();
            let mut ids = completion.ids;
            if let Finish::Stop(end) = completion.finish {
                ids.push(end);
            }
            TextCompletion { text, ids }
        });
        Ok(completions.collect())
    }
}

/// What drawing completions costs, and how far it is; by default nobody watches.
#[derive(Default, Serialize)]
pub(crate) struct Speed {
    completions: usize,
    new_tokens: usize,
    seconds: f64,
    #[serde(skip)]
    expected: usize,
    #[serde(skip)]
    done: usize,
    #[serde(skip)]
    progress: Option<Progress>,
}

impl Speed {
    /// For so many completions, of which `done` are there already; `rest` as in [`Progress::new`].
    pub(crate) fn new(what: &str, expected: usize, done: usize, rest: f64) -> Self {
        Self { expected, done, progress: Some(Progress::new(what, expected, done, rest)), ..Self::default() }
    }

    fn add(&mut self, completions: usize, new_tokens: usize, seconds: f64) {
        self.completions += completions;
        self.new_tokens += new_tokens;
        self.seconds += seconds;
        self.reached((self.done + completions).min(self.expected));
    }

    /// So many of the expected ones are settled, whether or not they had to be drawn.
    pub(crate) fn reached(&mut self, done: usize) {
        self.done = done;
        if let Some(progress) = &mut self.progress {
            progress.set(done, &format!("{:.0} tok/s", self.new_tokens as f64 / self.seconds.max(1e-9)));
        }
    }

    /// For programs, in `timings.jsonl`: what a clock says is no result of a stage.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), PipelineError> {
        append_line(&folder.join("timings.jsonl"), self)
    }
}
