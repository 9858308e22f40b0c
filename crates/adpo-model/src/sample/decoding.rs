//! Completions that are drawn token by token, with a preallocated key/value cache. Rows join between two steps and leave when they end.

use std::collections::HashMap;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::log_probs::TokenLogProbs;
use super::{Finish, SampleRequest, SamplingOptions, check, check_options, choose};
use crate::attention::{Cache, attend};
use crate::kernels::AttentionMask;
use crate::random::Stream;
use crate::{Llama, ModelError};

/// A row that joins a [`Decoding`].
#[derive(Debug, Clone, Copy)]
pub struct Joining<'a> {
    /// The caller's name for the row, which its tokens come back with.
    pub ticket: u64,
    /// The prompt, and the name of its random stream.
    pub request: SampleRequest<'a>,
    /// How its tokens are drawn.
    pub options: &'a Arc<SamplingOptions>,
    /// With each token its log-prob and those of so many of the likeliest.
    pub log_probs: Option<usize>,
}

/// A token that was drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    /// Whose it is.
    pub ticket: u64,
    /// Its id; a stop id as well.
    pub token: u32,
    /// Present on a row's last token.
    pub finish: Option<Finish>,
    /// Present where they were asked for.
    pub log_probs: Option<TokenLogProbs>,
}

/// Rows that are being completed together, one token each per step.
///
/// Which rows they are decides nothing but the last bits of the logits: draws depend on (seed, row, position) alone.
pub struct Decoding {
    model: Llama,
    rows: Vec<Row>,
    /// Keys and values of all rows, each filled up to the same column. A row's own cells are the last ones; those before are padding.
    caches: Vec<Cache>,
    used: usize,
    /// `[rows, vocab]`: what the next tokens are drawn from.
    logits: Vec<f32>,
}

struct Row {
    ticket: u64,
    stream: u64,
    options: Arc<SamplingOptions>,
    log_probs: Option<usize>,
    /// Cells in the cache.
    length: usize,
    /// Tokens drawn.
    drawn: usize,
}

impl Decoding {
    /// No rows yet.
    pub fn new(model: &Llama) -> Self {
        Self { model: model.valid(), rows: Vec::new(), caches: Vec::new(), used: 0, logits: Vec::new() }
    }

    /// Whether all rows have ended.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Rows that have not ended.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Reads the prompts of new rows, together. The rows that are there lose nothing by it.
    ///
    /// # Errors
    /// [`ModelError::Sampling`] names the row whose prompt is empty, too long or outside the vocabulary, or the option that cannot work;
    /// none has joined then.
    pub fn join(&mut self, joining: &[Joining<'_>]) -> Result<(), ModelError> {
        for new in joining {
            check_options(new.options)?;
            check(&new.request, new.options, self.model.config())?;
            if new.options.max_new_tokens == 0 {
                return Err(ModelError::Sampling(format!("row {}: `max_new_tokens` is 0; there is nothing to draw", new.request.row)));
            }
        }
        let Some(width) = joining.iter().map(|new| new.request.prompt.len()).max() else { return Ok(()) };
        let longest = self.rows.iter().map(|row| row.length).max().unwrap_or(0);
        let rows = joining.iter().map(|new| Row {
            ticket: new.ticket,
            stream: new.request.row,
            options: new.options.clone(),
            log_probs: new.log_probs,
            length: new.request.prompt.len(),
            drawn: 0,
        });
        let staying = self.rows.len();
        self.rows.extend(rows);
        let left = self.rows.iter().map(|row| row.options.max_new_tokens - row.drawn).max().unwrap_or(0);
        let capacity = longest.max(width) + left;
        // Of equal prompts one is read, for all rows that have it.
        let mut prompts: Vec<&[u32]> = Vec::new();
        let mut prompt_of = Vec::with_capacity(joining.len());
        let mut seen = HashMap::new();
        for SampleRequest { prompt, .. } in joining.iter().map(|new| new.request) {
            prompt_of.push(*seen.entry(prompt).or_insert_with(|| {
                prompts.push(prompt);
                prompts.len() - 1
            }));
        }
        let config = self.model.config();
        let vocab = config.vocab_size;
        let shape = [prompts.len(), if staying == 0 { capacity } else { width }, config.num_key_value_heads, config.head_dim];
        let (device, dtype) = (self.model.device(), self.model.embed_tokens.val().dtype());
        let mut caches: Vec<Cache> = (0..config.num_hidden_layers).map(|_| Cache::new(shape, &device, dtype)).collect();
        let mut cells = Cells { width, ..Cells::default() };
        for prompt in &prompts {
            let pad = width - prompt.len();
            cells.pads.push(pad);
            cells.ids.extend(std::iter::repeat_n(0, pad).chain(prompt.iter().copied()));
            cells.positions.extend(std::iter::repeat_n(0, pad).chain(0..prompt.len() as u32));
        }
        let mut logits = forward(&self.model, &mut caches, &cells);
        if prompts.len() < joining.len() {
            select(&mut caches, &prompt_of, &self.model.device());
            logits = prompt_of.iter().flat_map(|prompt| &logits[prompt * vocab..(prompt + 1) * vocab]).copied().collect();
        }
        self.used = longest.max(width);
        if staying == 0 {
            (self.caches, self.logits) = (caches, logits);
        } else {
            let old = std::mem::take(&mut self.caches);
            self.caches = old.into_iter().zip(caches).map(|(old, new)| old.join(new, [longest, width], capacity)).collect();
            self.logits.extend(logits);
        }
        Ok(())
    }

    /// Draws one token for each row. A row leaves with its last token, or when `take`, which gets each token, says `false`; the others
    /// then go through the model.
    ///
    /// # Errors
    /// [`ModelError::Sampling`] names the row for which the model gives NaN.
    pub fn step(&mut self, mut take: impl FnMut(Drawn) -> bool) -> Result<(), ModelError> {
        let mut kept = Vec::with_capacity(self.rows.len());
        let mut cells = Cells { width: 1, ..Cells::default() };
        for (slot, logits) in self.logits.chunks_exact(self.model.config().vocab_size).enumerate() {
            let row = &mut self.rows[slot];
            if logits.iter().any(|logit| logit.is_nan()) {
                let problem = "the model gives NaN; its weights are damaged, or training diverged: use an earlier checkpoint";
                return Err(ModelError::Sampling(format!("row {}, token {}: {problem}", row.stream, row.drawn + 1)));
            }
            let mut stream = Stream::at(row.options.seed, row.stream, row.drawn as u64);
            let token = choose(logits, &row.options, &mut stream);
            row.drawn += 1;
            let finish = if row.options.stop.contains(&token) {
                Some(Finish::Stop(token))
            } else {
                (row.drawn == row.options.max_new_tokens).then_some(Finish::Length)
            };
            let log_probs = row.log_probs.map(|top| TokenLogProbs::of(logits, token, top));
            if take(Drawn { ticket: row.ticket, token, finish, log_probs }) && finish.is_none() {
                kept.push(slot);
                cells.ids.push(token);
                cells.positions.push(row.length as u32);
                row.length += 1;
                cells.pads.push(self.used + 1 - row.length);
            }
        }
        self.keep(&kept);
        if self.rows.is_empty() {
            return Ok(());
        }
        self.used += 1;
        self.logits = forward(&self.model, &mut self.caches, &cells);
        Ok(())
    }

    /// Goes on with these rows only.
    fn keep(&mut self, slots: &[usize]) {
        if slots.len() == self.rows.len() {
            return;
        }
        if slots.is_empty() {
            self.rows.clear();
            self.caches.clear();
            self.logits.clear();
            return;
        }
        select(&mut self.caches, slots, &self.model.device());
        let mut slot = 0..;
        self.rows.retain(|_| slot.next().is_some_and(|slot| slots.binary_search(&slot).is_ok()));
    }
}

/// Puts these rows, in this order, in the place of what the caches hold.
fn select(caches: &mut [Cache], rows: &[usize], device: &Device) {
    let index: Vec<i32> = rows.iter().map(|row| *row as i32).collect();
    let index = Tensor::<1, Int>::from_data(TensorData::new(index, [rows.len()]), device);
    for cache in caches {
        cache.select(&index);
    }
}

/// The cells that go through the model at once, row-major.
#[derive(Default)]
struct Cells {
    width: usize,
    ids: Vec<u32>,
    positions: Vec<u32>,
    /// Of each row: the cache's columns before its first cell.
    pads: Vec<usize>,
}

/// Logits of the last column, row by row.
fn forward(model: &Llama, caches: &mut [Cache], cells: &Cells) -> Vec<f32> {
    let (rows, width, hidden, device) = (cells.pads.len(), cells.width, model.config().hidden_size, model.device());
    let ids: Vec<i32> = cells.ids.iter().map(|id| *id as i32).collect();
    let ids = Tensor::from_data(TensorData::new(ids, [rows * width]), &device);
    let rotary = model.rotary.at(&cells.positions, &device);
    let pads: Vec<i32> = cells.pads.iter().map(|pad| *pad as i32).collect();
    let first = Tensor::<1, Int>::from_data(TensorData::new(pads, [rows]), &device);
    // Of prompts that are read: padding is a segment of its own.
    let mask = (width > 1).then(|| {
        let segments: Vec<u32> = cells.pads.iter().flat_map(|pad| (0..width).map(move |column| u32::from(column >= *pad))).collect();
        AttentionMask::new(&segments, &vec![0; rows * width], rows, width, &device)
    });
    let mut x = model.embed(ids);
    for (block, cache) in model.layers.iter().zip(caches) {
        x = block.forward(x, &rotary, |q, k, v| {
            cache.extend(k.clone(), v.clone());
            match &mask {
                Some(mask) => attend(q, k, v, rows, mask),
                None => cache.attend(q, first.clone()),
            }
        });
    }
    let last = x.reshape([rows, width, hidden]).slice([0..rows, width - 1..width, 0..hidden]).reshape([rows, hidden]);
    model.logits(model.norm.forward(last)).into_data().iter::<f32>().collect()
}
