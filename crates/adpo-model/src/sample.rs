//! Sampling: how tokens are drawn, and all completions of many requests, in batches. [`Decoding`] draws them token by token.

mod decoding;
mod log_probs;

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::Device;
use rayon::prelude::*;

use crate::config::LlamaConfig;
use crate::kernels;
use crate::random::Stream;
use crate::{Llama, ModelError};

pub use decoding::{Decoding, Drawn, Joining};
pub use log_probs::TokenLogProbs;

/// How completions are drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingOptions {
    /// Divides the logits; 0 is greedy.
    pub temperature: f64,
    /// Only the k likeliest tokens.
    pub top_k: Option<usize>,
    /// Only the likeliest tokens that together reach this probability (nucleus sampling, arXiv 1904.09751).
    pub top_p: Option<f64>,
    /// Longest completion in tokens.
    pub max_new_tokens: usize,
    /// Ids that end a response; they are not part of it.
    pub stop: Vec<u32>,
    /// With a request's row and the position it decides each draw.
    pub seed: u64,
    /// Requests that [`sample`] runs together.
    pub batch_size: usize,
}

impl Default for SamplingOptions {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: None, top_p: None, max_new_tokens: 128, stop: Vec::new(), seed: 0, batch_size: 16 }
    }
}

/// A prompt to be answered.
#[derive(Debug, Clone, Copy)]
pub struct SampleRequest<'a> {
    /// Its ids, at least one.
    pub prompt: &'a [u32],
    /// Names its random stream: draws depend on (seed, row, position) alone, never on the neighbours in a batch.
    pub row: u64,
}

/// Why a response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// This stop id was drawn.
    Stop(u32),
    /// `max_new_tokens` were drawn.
    Length,
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// Its ids, without the stop id.
    pub ids: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
}

/// All completions, in the order of the requests, and what they cost.
#[derive(Debug, Clone)]
pub struct SampleRun {
    /// One per request.
    pub completions: Vec<Completion>,
    /// Tokens drawn, stop ids included.
    pub new_tokens: usize,
    /// Wall-clock time.
    pub seconds: f64,
}

impl SampleRun {
    /// New tokens per second of wall-clock time, reading the prompts included.
    pub fn tokens_per_second(&self) -> f64 {
        self.new_tokens as f64 / self.seconds.max(1e-9)
    }
}

/// Completes all requests, shortest prompts first, `batch_size` at a time. Rows that have ended leave their batch.
///
/// # Errors
/// [`ModelError::Sampling`] names the row whose prompt is empty, too long or outside the vocabulary, or for which the
/// model gives NaN, or the option that cannot work.
pub fn sample(model: &Llama, requests: &[SampleRequest<'_>], options: &SamplingOptions) -> Result<SampleRun, ModelError> {
    check_options(options)?;
    requests.iter().try_for_each(|request| check(request, options, model.config()))?;
    let options = &Arc::new(options.clone());
    let start = Instant::now();
    let mut order: Vec<usize> = (0..requests.len()).collect();
    // Equal prompts beside one another: they are read once.
    order.sort_by_key(|i| (requests[*i].prompt.len(), requests[*i].prompt));
    let mut done: Vec<Option<Completion>> = vec![None; requests.len()];
    let mut new_tokens = 0;
    for chunk in order.chunks(options.batch_size.max(1)) {
        let parts = kernels::on_pool(|| {
            let completions = |part: &[usize]| batch(model, &part.iter().map(|i| requests[*i]).collect::<Vec<_>>(), options);
            chunk
                .par_chunks(rows_together(chunk.len(), model.config().num_parameters(), model.device() == Device::flex()))
                .map(completions)
                .collect::<Vec<_>>()
        });
        for (i, completion) in chunk.iter().zip(parts.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten()) {
            new_tokens += completion.ids.len() + usize::from(completion.finish != Finish::Length);
            done[*i] = Some(completion);
        }
    }
    Ok(SampleRun { completions: done.into_iter().flatten().collect(), new_tokens, seconds: start.elapsed().as_secs_f64() })
}

/// How many rows of a batch go through the model together. On the CPU each thread takes rows of its own: a token's kernels are
/// so short that threads would wait for each other longer than they compute. Each of them then reads all weights, which
/// only several rows pay for: more of them where the weights come from memory, and not from a cache.
fn rows_together(rows: usize, parameters: usize, on_cpu: bool) -> usize {
    const CACHED: usize = 16_000_000;
    let enough = if parameters <= CACHED { 4 } else { 32 };
    let parts = if on_cpu { kernels::PARTS.min(rows / enough).max(1) } else { 1 };
    rows.div_ceil(parts).max(1)
}

/// How many rows of a batch have caches in memory at the same time: those that threads are at.
pub fn sampled_at_once(rows: usize, config: &LlamaConfig, on_cpu: bool) -> usize {
    let threads = if on_cpu { rayon::current_num_threads() } else { 1 };
    rows.min(threads * rows_together(rows, config.num_parameters(), on_cpu))
}

fn check_options(options: &SamplingOptions) -> Result<(), ModelError> {
    let wrong = |problem: String| Err(ModelError::Sampling(problem));
    if !options.temperature.is_finite() || options.temperature < 0.0 {
        return wrong(format!("`temperature` is {}; it must be 0 (greedy) or more", options.temperature));
    }
    if options.top_p.is_some_and(|p| !(p > 0.0 && p <= 1.0)) || options.top_k == Some(0) {
        return wrong("`top_p` must lie in (0, 1] and `top_k` must be at least 1; leave them out to turn them off".into());
    }
    Ok(())
}

fn check(request: &SampleRequest<'_>, options: &SamplingOptions, config: &LlamaConfig) -> Result<(), ModelError> {
    let wrong = |problem: String| Err(ModelError::Sampling(problem));
    let (SampleRequest { prompt, row }, limit) = (request, config.max_position_embeddings);
    if prompt.is_empty() {
        return wrong(format!("row {row} has an empty prompt"));
    }
    if prompt.len() + options.max_new_tokens > limit {
        let length = prompt.len();
        return wrong(format!(
            "row {row}: {length} prompt tokens and {} new ones exceed max_position_embeddings = {limit}; shorten one of them",
            options.max_new_tokens
        ));
    }
    if let Some(id) = prompt.iter().find(|id| **id as usize >= config.vocab_size) {
        return wrong(format!("row {row}: id {id} lies outside the vocabulary of {}", config.vocab_size));
    }
    Ok(())
}

/// Completions of some requests together.
fn batch(model: &Llama, requests: &[SampleRequest<'_>], options: &Arc<SamplingOptions>) -> Result<Vec<Completion>, ModelError> {
    let mut done: Vec<Completion> = requests.iter().map(|_| Completion { ids: Vec::new(), finish: Finish::Length }).collect();
    if options.max_new_tokens == 0 {
        return Ok(done);
    }
    let mut decoding = Decoding::new(model);
    let joining = requests.iter().zip(0..).map(|(request, ticket)| Joining { ticket, request: *request, options, log_probs: None });
    decoding.join(&joining.collect::<Vec<_>>())?;
    while !decoding.is_empty() {
        decoding.step(|drawn| {
            let completion = &mut done[drawn.ticket as usize];
            match drawn.finish {
                Some(finish @ Finish::Stop(_)) => completion.finish = finish,
                _ => completion.ids.push(drawn.token),
            }
            true
        })?;
    }
    Ok(done)
}

/// One token from the distribution that `options` make of `logits` `[vocab]`.
fn choose(logits: &[f32], options: &SamplingOptions, stream: &mut Stream) -> u32 {
    let (best, max) = logits.iter().enumerate().fold((0, f32::NEG_INFINITY), |top, (i, v)| if *v > top.1 { (i, *v) } else { top });
    if options.temperature == 0.0 {
        return best as u32;
    }
    let weight = |logit: f32| (f64::from(logit - max) / options.temperature).exp();
    let mut weights: Vec<(u32, f64)> = logits.iter().zip(0..).map(|(logit, id)| (id, weight(*logit))).collect();
    if let Some(top_k) = options.top_k.filter(|top_k| *top_k < weights.len()) {
        weights.select_nth_unstable_by(top_k, likelier);
        weights.truncate(top_k);
    }
    if options.top_k.is_some() || options.top_p.is_some() {
        keep_likeliest(&mut weights, options.top_p.unwrap_or(1.0));
    }
    let mut left = stream.uniform() * weights.iter().map(|w| w.1).sum::<f64>();
    let drawn = weights.iter().find(|w| {
        left -= w.1;
        left < 0.0
    });
    drawn.or(weights.last()).map_or(best as u32, |w| w.0)
}

/// Falling weights; of equal ones the lower id first.
fn likelier(a: &(u32, f64), b: &(u32, f64)) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// Keeps the fewest of the likeliest that have this share of all weights together, the likeliest first. Only as many as are needed are
/// sorted: a vocabulary has 50,000.
fn keep_likeliest(weights: &mut Vec<(u32, f64)>, share: f64) {
    let enough = share * weights.iter().map(|weight| weight.1).sum::<f64>();
    let (mut sorted, mut next, mut sum) = (0, 256, 0.0);
    while sorted < weights.len() {
        let rest = &mut weights[sorted..];
        if next < rest.len() {
            rest.select_nth_unstable_by(next, likelier);
        }
        let part = next.min(rest.len());
        rest[..part].sort_unstable_by(likelier);
        for (i, weight) in rest[..part].iter().enumerate() {
            sum += weight.1;
            if sum >= enough {
                return weights.truncate(sorted + i + 1);
            }
        }
        sorted += part;
        next *= 4;
    }
}
