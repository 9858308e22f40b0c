//! Completions of prompts: sampling and decoding.

use std::path::Path;

use adpo_data::{ChatTokenizer, derive_seed};
use adpo_model::{Finish, Llama, SampleRequest, SamplingOptions, sample};
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
        let run = sample(self.model, &rows, &options)?;
        speed.completions += run.completions.len();
        speed.new_tokens += run.new_tokens;
        speed.seconds += run.seconds;
        let completions = run.completions.into_iter().map(|completion| {
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

/// What drawing completions cost.
#[derive(Default, Serialize)]
pub(crate) struct Speed {
    completions: usize,
    new_tokens: usize,
    seconds: f64,
}

impl Speed {
    /// Tells people on standard error, and programs in `timings.jsonl`: what a clock says is no result of a stage.
    pub(crate) fn report(&self, stage: &str, folder: &Path) -> Result<(), PipelineError> {
        self.tell(stage);
        append_line(&folder.join("timings.jsonl"), self)
    }

    /// Tells people alone.
    pub(crate) fn tell(&self, stage: &str) {
        let per_second = self.new_tokens as f64 / self.seconds.max(1e-9);
        eprintln!("{stage}: {} completions, {} tokens, {per_second:.0} tok/s", self.completions, self.new_tokens);
    }
}
