//! A Llama checkpoint that answers prompts: what an LLM judge asks when there is no endpoint.

use adpo_data::Dialogue;
use adpo_eval::{Answer, ChatModel};

use crate::answers::{Question, Speaker, Speed};
use crate::recipe::Draw;
use crate::resources::{Checkpoint, Resources};
use crate::{PipelineError, stage};

/// A checkpoint that answers greedily; with [`adpo_eval::LlmJudge`] it judges.
pub struct LlamaChat {
    checkpoint: Checkpoint,
    name: String,
    fingerprint: String,
    draw: Draw,
}

impl LlamaChat {
    /// Loads the checkpoint.
    ///
    /// # Errors
    /// [`PipelineError`] if the folder is not a usable checkpoint.
    pub fn load(resources: &Resources, checkpoint: &str, max_new_tokens: usize) -> Result<Self, PipelineError> {
        let fingerprint = stage::hash_bytes(format!("{}\n{max_new_tokens}", resources.checkpoint_hash(checkpoint)?).as_bytes());
        Ok(Self {
            checkpoint: resources.checkpoint(checkpoint)?,
            name: format!("llama:{checkpoint}"),
            fingerprint,
            draw: Draw { max_new_tokens, batch_size: 8, ..Draw::default() },
        })
    }

    fn answers(&self, prompts: &[String]) -> Result<Vec<Answer>, PipelineError> {
        let tokenizer = &self.checkpoint.tokenizer;
        let questions = prompts
            .iter()
            .map(|prompt| {
                let text = tokenizer.render(&Dialogue::from_user(prompt), true)?;
                Ok(Question { key: String::new(), prompt: tokenizer.encode_text(&text)? })
            })
            .collect::<Result<Vec<_>, PipelineError>>()?;
        let speaker = Speaker { model: &self.checkpoint.model, tokenizer, draw: &self.draw, seed: 0 };
        let answers = speaker.answer(&questions, 0.0, &mut Speed::default())?;
        Ok(answers.into_iter().map(|answer| Answer::Text(answer.text)).collect())
    }
}

impl ChatModel for LlamaChat {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    fn answer(&self, prompts: &[String]) -> Vec<Answer> {
        self.answers(prompts).unwrap_or_else(|error| vec![Answer::Error(error.to_string()); prompts.len()])
    }
}
