//! A Llama checkpoint as a judge: the rubric prompt in, a strict verdict out.

use adpo_data::{Dialogue, Role, Turn};
use adpo_eval::{Exchange, Judge, Judgement, rubric};

use crate::answers::{Question, Speaker, Speed};
use crate::recipe::Draw;
use crate::resources::{Checkpoint, Resources};
use crate::{PipelineError, stage};

/// Judges with a language model, greedily; an answer that the parser does not accept is `unparsed`, not a score.
pub struct LlamaJudge {
    checkpoint: Checkpoint,
    name: String,
    fingerprint: String,
    draw: Draw,
}

impl LlamaJudge {
    /// Loads the judge.
    ///
    /// # Errors
    /// [`PipelineError`] if the folder is not a usable checkpoint.
    pub fn load(resources: &Resources, checkpoint: &str, max_new_tokens: usize) -> Result<Self, PipelineError> {
        let fingerprint = stage::hash_bytes(format!("{}{}", resources.checkpoint_hash(checkpoint)?, rubric::fingerprint()).as_bytes());
        Ok(Self {
            checkpoint: resources.checkpoint(checkpoint)?,
            name: format!("llama:{checkpoint}"),
            fingerprint,
            draw: Draw { max_new_tokens, batch_size: 8, ..Draw::default() },
        })
    }

    fn verdicts(&self, exchanges: &[Exchange]) -> Result<Vec<Judgement>, PipelineError> {
        let tokenizer = &self.checkpoint.tokenizer;
        let questions = exchanges
            .iter()
            .map(|exchange| {
                let turn = Turn { role: Role::User, content: rubric::prompt(exchange) };
                let text = tokenizer.render(&Dialogue { turns: vec![turn] }, true)?;
                Ok(Question { key: String::new(), prompt: tokenizer.encode_text(&text)? })
            })
            .collect::<Result<Vec<_>, PipelineError>>()?;
        let speaker = Speaker { model: &self.checkpoint.model, tokenizer, draw: &self.draw, seed: 0 };
        let answers = speaker.answer(&questions, 0.0, &mut Speed::default())?;
        Ok(exchanges.iter().zip(answers).map(|(exchange, answer)| rubric::parse(exchange, &answer.text)).collect())
    }
}

impl Judge for LlamaJudge {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    fn judge(&self, exchanges: &[Exchange]) -> Vec<Judgement> {
        self.verdicts(exchanges).unwrap_or_else(|error| {
            let unanswered = Judgement::ApiError { error: error.to_string() };
            vec![unanswered; exchanges.len()]
        })
    }
}
