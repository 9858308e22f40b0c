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
        Ok(Self {
            checkpoint: resources.checkpoint(checkpoint)?,
            name: format!("llama:{checkpoint}"),
            fingerprint: Self::fingerprint_of(resources, checkpoint, max_new_tokens)?,
            draw: Draw { max_new_tokens, batch_size: 8, ..Draw::default() },
        })
    }

    /// What [`Judge::fingerprint`] will be, without loading the weights.
    pub(crate) fn fingerprint_of(resources: &Resources, checkpoint: &str, max_new_tokens: usize) -> Result<String, PipelineError> {
        let all = format!("{}{}{max_new_tokens}", resources.checkpoint_hash(checkpoint)?, rubric::fingerprint());
        Ok(stage::hash_bytes(all.as_bytes()))
    }

    /// The rubric's prompt as ids, or why it cannot be asked.
    fn question(&self, exchange: &Exchange) -> Result<Question, String> {
        let Checkpoint { model, tokenizer } = &self.checkpoint;
        let turn = Turn { role: Role::User, content: rubric::prompt(exchange) };
        let text = tokenizer.render(&Dialogue { turns: vec![turn] }, true).map_err(|e| e.to_string())?;
        let prompt = tokenizer.encode_text(&text).map_err(|e| e.to_string())?;
        let (length, limit) = (prompt.len() + self.draw.max_new_tokens, model.config().max_position_embeddings);
        if length > limit {
            return Err(format!(
                "the dialogue with the rubric and {} tokens for the verdict needs {length} tokens, the judge has {limit}",
                { self.draw.max_new_tokens }
            ));
        }
        Ok(Question { key: String::new(), prompt })
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
        let failed = |error: String| Judgement::Failed { error };
        // A dialogue that is too long to be asked about fails alone.
        let asked: Vec<Result<Question, String>> = exchanges.iter().map(|exchange| self.question(exchange)).collect();
        let (mut questions, mut problems) = (Vec::new(), Vec::new());
        for question in asked {
            problems.push(question.as_ref().err().cloned());
            questions.extend(question.ok());
        }
        let speaker = Speaker { model: &self.checkpoint.model, tokenizer: &self.checkpoint.tokenizer, draw: &self.draw, seed: 0 };
        let mut answers = match speaker.answer(&questions, 0.0, &mut Speed::default()) {
            Ok(answers) => answers.into_iter(),
            Err(error) => return vec![failed(error.to_string()); exchanges.len()],
        };
        let verdict = |(exchange, problem): (&Exchange, Option<String>)| match (problem, &mut answers) {
            (Some(problem), _) => failed(problem),
            (None, answers) => {
                answers.next().map_or_else(|| failed("gave no answer".into()), |answer| rubric::parse(exchange, &answer.text))
            }
        };
        exchanges.iter().zip(problems).map(verdict).collect()
    }
}
