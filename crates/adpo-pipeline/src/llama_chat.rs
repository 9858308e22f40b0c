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
    /// Loads the checkpoint, in f32 or bf16.
    ///
    /// # Errors
    /// [`PipelineError`] if the folder is not a usable checkpoint.
    pub fn load(resources: &Resources, checkpoint: &str, max_new_tokens: usize, bf16: bool) -> Result<Self, PipelineError> {
        let draw = Draw { max_new_tokens, batch_size: 8, bf16, ..Draw::default() };
        Ok(Self {
            checkpoint: resources.checkpoint(checkpoint, draw.precision())?.merged(),
            name: format!("llama:{checkpoint}"),
            fingerprint: Self::fingerprint_of(resources, checkpoint, max_new_tokens, bf16)?,
            draw,
        })
    }

    /// What [`ChatModel::fingerprint`] will be, without loading the weights.
    pub(crate) fn fingerprint_of(
        resources: &Resources,
        checkpoint: &str,
        max_new_tokens: usize,
        bf16: bool,
    ) -> Result<String, PipelineError> {
        let precision = if bf16 { "\nbf16" } else { "" };
        Ok(stage::hash_bytes(format!("{}\n{max_new_tokens}{precision}", resources.checkpoint_hash(checkpoint)?).as_bytes()))
    }

    /// A prompt as ids, or why it cannot be asked.
    fn question(&self, prompt: &str) -> Result<Question, String> {
        let Checkpoint { model, tokenizer } = &self.checkpoint;
        let text = tokenizer.render(&Dialogue::from_user(prompt), true).map_err(|e| e.to_string())?;
        let prompt = tokenizer.encode_text(&text).map_err(|e| e.to_string())?;
        let (answer, limit) = (self.draw.max_new_tokens, model.config().max_position_embeddings);
        if prompt.len() + answer > limit {
            return Err(format!(
                "the prompt has {} tokens, which with {answer} for the answer is more than the {limit} of the model",
                prompt.len()
            ));
        }
        Ok(Question { key: String::new(), prompt })
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
        // A prompt that is too long to be asked fails alone.
        let mut questions = Vec::with_capacity(prompts.len());
        let mut problems = Vec::with_capacity(prompts.len());
        for asked in prompts.iter().map(|prompt| self.question(prompt)) {
            problems.push(asked.as_ref().err().cloned());
            questions.extend(asked.ok());
        }
        let speaker = Speaker { model: &self.checkpoint.model, tokenizer: &self.checkpoint.tokenizer, draw: &self.draw, seed: 0 };
        let mut texts = match speaker.answer(&questions, 0.0, &mut Speed::default()) {
            Ok(answers) => answers.into_iter().map(|answer| answer.text),
            Err(error) => return vec![Answer::Error(error.to_string()); prompts.len()],
        };
        let answer = |problem: Option<String>| match problem {
            Some(problem) => Answer::Error(problem),
            None => texts.next().map_or_else(|| Answer::Error("gave no answer".to_owned()), Answer::Text),
        };
        problems.into_iter().map(answer).collect()
    }
}
