//! A second checkpoint that reads every system's responses: perplexity as the papers on detoxification have it.

use adpo_eval::{EvalError, Exchange, Fluency, ResponseNats};
use adpo_model::Dtype;
use adpo_train::{Completion, completion_log_probs};
use burn::tensor::Device;

use crate::PipelineError;
use crate::resources::{Checkpoint, Resources};

/// Responses that are read at once.
const BATCH: usize = 8;

/// A Llama checkpoint in the part of the reader: each prompt under its chat template, the response after it.
pub struct LlamaFluency {
    checkpoint: Checkpoint,
    name: String,
    device: Device,
}

impl LlamaFluency {
    /// Loads the checkpoint, in f32.
    ///
    /// # Errors
    /// [`PipelineError`] if the folder is not a usable checkpoint.
    pub fn load(resources: &Resources, checkpoint: &str) -> Result<Self, PipelineError> {
        let name = checkpoint.trim_end_matches('/');
        Ok(Self {
            checkpoint: resources.checkpoint(checkpoint, Dtype::Float32)?.merged(),
            name: name.rsplit('/').next().unwrap_or(name).to_owned(),
            device: resources.device.clone(),
        })
    }

    /// The ids of prompt and response; the earliest ids of the prompt are left out where both are more than the model can read.
    fn ids(&self, exchange: &Exchange) -> Result<(Vec<u32>, Vec<u32>), PipelineError> {
        let Checkpoint { model, tokenizer } = &self.checkpoint;
        let mut prompt = tokenizer.encode(&exchange.prompt.dialogue, true)?;
        let mut response = tokenizer.encode_text(exchange.response)?;
        let limit = model.config().max_position_embeddings;
        response.truncate(limit.saturating_sub(1));
        prompt.drain(..(prompt.len() + response.len()).saturating_sub(limit).min(prompt.len().saturating_sub(1)));
        Ok((prompt, response))
    }
}

impl Fluency for LlamaFluency {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn nats(&self, exchanges: &[Exchange]) -> Result<Vec<ResponseNats>, EvalError> {
        let ids = exchanges.iter().map(|exchange| self.ids(exchange)).collect::<Result<Vec<_>, _>>();
        let ids = ids.map_err(|error| EvalError::Report(format!("the fluency model {} cannot read a response: {error}", self.name)))?;
        // Rows of one length waste nothing.
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_by_key(|&i| ids[i].0.len() + ids[i].1.len());
        let rows: Vec<Completion<'_>> = order.iter().map(|&i| Completion { prompt: &ids[i].0, completion: &ids[i].1 }).collect();
        let log_probs = completion_log_probs(&self.checkpoint.model, &rows, BATCH, &self.device);
        let mut out = vec![ResponseNats { nats: 0.0, tokens: 0 }; ids.len()];
        for (&i, log_prob) in order.iter().zip(log_probs) {
            out[i] = ResponseNats { nats: -log_prob, tokens: ids[i].1.len() };
        }
        Ok(out)
    }
}
