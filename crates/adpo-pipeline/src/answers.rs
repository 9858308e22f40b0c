//! Answers to prompts: encoding, sampling, decoding.

use adpo_data::{ChatTokenizer, derive_seed};
use adpo_model::{Llama, SampleRequest, SamplingOptions, sample};

use crate::PipelineError;
use crate::recipe::Draw;

/// One answer to be drawn. Its text depends on model, prompt, temperature, seed and `key` alone.
pub(crate) struct Question {
    /// Names the random stream, for example the row's id and the number of the answer.
    pub key: String,
    pub prompt: Vec<u32>,
}

pub(crate) struct Speaker<'a> {
    pub model: &'a Llama,
    pub tokenizer: &'a ChatTokenizer,
    pub draw: &'a Draw,
    pub seed: u64,
}

impl Speaker<'_> {
    /// One answer for each question, in order.
    pub(crate) fn answer(&self, questions: &[Question], temperature: f64) -> Result<Vec<String>, PipelineError> {
        let requests: Vec<SampleRequest<'_>> =
            questions.iter().map(|q| SampleRequest { prompt: &q.prompt, row: derive_seed(self.seed, &q.key) }).collect();
        let options = SamplingOptions {
            temperature,
            top_k: self.draw.top_k,
            top_p: self.draw.top_p,
            max_new_tokens: self.draw.max_new_tokens,
            stop: vec![self.tokenizer.eos_id()],
            seed: self.seed,
            batch_size: self.draw.batch_size,
        };
        let run = sample(self.model, &requests, &options)?;
        Ok(run.completions.iter().map(|c| self.tokenizer.decode(&c.ids).trim().to_owned()).collect())
    }
}
