//! A Llama checkpoint that completes prompts: what an LLM judge asks when there is no endpoint.

use adpo_data::Dialogue;
use adpo_eval::{ChatCompletion, ChatModel};
use adpo_model::Dtype;

use crate::draw::Draw;
use crate::resources::{Checkpoint, Resources};
use crate::sampler::{Request, Sampler, Speed};
use crate::{PipelineError, manifest};

/// A checkpoint that completes prompts greedily; with [`adpo_eval::LlmJudge`] it judges.
pub struct LlamaChat {
    checkpoint: Checkpoint,
    name: String,
    fingerprint: String,
    draw: Draw,
}

impl LlamaChat {
    /// Loads the checkpoint, in this type.
    ///
    /// # Errors
    /// [`PipelineError`] if the folder is not a usable checkpoint.
    pub fn load(resources: &Resources, checkpoint: &str, max_new_tokens: usize, dtype: Dtype) -> Result<Self, PipelineError> {
        let draw = Draw { max_new_tokens, batch_size: 8, dtype, ..Draw::default() };
        Ok(Self {
            checkpoint: resources.checkpoint(checkpoint, draw.dtype)?.merged(),
            name: format!("llama:{checkpoint}"),
            fingerprint: Self::fingerprint_of(resources, checkpoint, max_new_tokens, dtype)?,
            draw,
        })
    }

    /// What [`ChatModel::fingerprint`] will be, without loading the weights.
    pub(crate) fn fingerprint_of(
        resources: &Resources,
        checkpoint: &str,
        max_new_tokens: usize,
        dtype: Dtype,
    ) -> Result<String, PipelineError> {
        Ok(manifest::hash_bytes(format!("{}\n{max_new_tokens}\n{}", resources.checkpoint_hash(checkpoint)?, dtype.name()).as_bytes()))
    }

    /// A prompt as ids, or why it cannot be asked.
    fn request(&self, prompt: &str) -> Result<Request, String> {
        let Checkpoint { model, tokenizer } = &self.checkpoint;
        let prompt = tokenizer.encode(&Dialogue::from_user(prompt), true).map_err(|e| e.to_string())?;
        let (completion, limit) = (self.draw.max_new_tokens, model.config().max_position_embeddings);
        if prompt.len() + completion > limit {
            return Err(format!(
                "the prompt has {} tokens, which with {completion} for the completion is more than the {limit} of the model",
                prompt.len()
            ));
        }
        Ok(Request { key: String::new(), prompt })
    }
}

impl ChatModel for LlamaChat {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    fn complete(&self, prompts: &[String]) -> Vec<ChatCompletion> {
        // A prompt that is too long to be asked fails alone.
        let mut requests = Vec::with_capacity(prompts.len());
        let mut problems = Vec::with_capacity(prompts.len());
        for asked in prompts.iter().map(|prompt| self.request(prompt)) {
            problems.push(asked.as_ref().err().cloned());
            requests.extend(asked.ok());
        }
        let sampler = Sampler { model: &self.checkpoint.model, tokenizer: &self.checkpoint.tokenizer, draw: &self.draw, seed: 0 };
        let mut texts = match sampler.complete(&requests, 0.0, &mut Speed::default()) {
            Ok(completions) => completions.into_iter().map(|completion| completion.text),
            Err(error) => return vec![ChatCompletion::Error(error.to_string()); prompts.len()],
        };
        let completion = |problem: Option<String>| match problem {
            Some(problem) => ChatCompletion::Error(problem),
            None => texts.next().map_or_else(|| ChatCompletion::Error("gave no completion".to_owned()), ChatCompletion::Text),
        };
        problems.into_iter().map(completion).collect()
    }
}
