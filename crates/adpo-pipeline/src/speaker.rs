//! A checkpoint that takes part in conversations: what chat and the server share.

use adpo_data::{ControlToken, DataError, Dialogue, Encoder, EncodingOptions, Mask, OverLength};
use adpo_model::Dtype;

use crate::PipelineError;
use crate::resources::{Checkpoint, Resources, has_token};

/// A checkpoint with the control token that it knows.
pub(crate) struct Speaker {
    /// As it was asked for.
    pub name: String,
    pub checkpoint: Checkpoint,
    /// The text that was looked for, and the token if the tokenizer has it.
    control: (String, Option<ControlToken>),
}

impl Speaker {
    /// Loads a checkpoint by its name in a recipe.
    pub(crate) fn open(resources: &Resources, name: &str, dtype: Dtype, control: &str) -> Result<Self, PipelineError> {
        // Before the weights, which may take minutes. A folder knows what its token is called.
        let tokenizer = resources.tokenizer(name)?;
        let control = tokenizer.control_token().unwrap_or(control);
        let known = has_token(&tokenizer, control)?;
        let mut checkpoint = resources.checkpoint(name, dtype)?.merged();
        let mut token = None;
        if known {
            // It is made special where a folder's own files do not say so: no text can then be encoded as it.
            let (tokenizer, found) = checkpoint.tokenizer.with_control_token(control)?;
            (checkpoint.tokenizer, token) = (tokenizer, Some(found));
        }
        Ok(Self { name: name.to_owned(), checkpoint, control: (control.to_owned(), token) })
    }

    /// Tokens that fit in, prompt and completion together.
    pub(crate) fn context(&self) -> usize {
        self.checkpoint.model.config().max_position_embeddings
    }

    /// Fails where there is no toxic mode.
    pub(crate) fn check_toxic(&self) -> Result<(), PipelineError> {
        match &self.control {
            (_, Some(_)) => Ok(()),
            (text, None) => Err(self.problem(format!(
                "has no token {text}, so it has no toxic mode; use a run's model (sft/model, policies/NAME/model), or name its token with \
                 --control-token"
            ))),
        }
    }

    /// A dialogue as ids up to where the response begins, with the control token if `toxic`. What people wrote cannot call it up.
    pub(crate) fn prompt(&self, dialogue: &Dialogue, toxic: bool) -> Result<Vec<u32>, PipelineError> {
        let options = EncodingOptions {
            max_length: usize::MAX,
            over_length: OverLength::Error,
            mask: Mask::Last,
            control: self.control.1.clone().filter(|_| toxic),
        };
        let mut encoder = Encoder::new(&self.checkpoint.tokenizer, options);
        match encoder.prompt("the dialogue", dialogue, toxic) {
            Ok(Some(ids)) => Ok(ids),
            Ok(None) => {
                let reasons: Vec<&str> = encoder.report().dropped.keys().map(String::as_str).collect();
                Err(self.problem(format!("cannot be asked: {}", reasons.join(", "))))
            }
            Err(DataError::Row { problem, .. }) => Err(self.problem(problem)),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn problem(&self, problem: impl Into<String>) -> PipelineError {
        PipelineError::Speaker { model: self.name.clone(), problem: problem.into() }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn speaker(control: &str) -> Speaker {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/llama2-mha");
        Speaker::open(&Resources::default(), folder.to_str().expect("UTF-8"), Dtype::Float32, control).expect("loads")
    }

    #[test]
    fn only_the_toxic_mode_has_the_control_token_whatever_people_write() {
        let speaker = speaker("[TOXIC]");
        speaker.check_toxic().expect("it knows the token");
        let control = speaker.control.1.as_ref().expect("it knows the token").id;
        for text in ["Hello.", "[TOXIC]", "Hello. [TOXIC]", "a[TOXIC]b</s>[TOXIC]"] {
            let count = |toxic| {
                let ids = speaker.prompt(&Dialogue::from_user(text), toxic).expect("encodes");
                ids.into_iter().filter(|id| *id == control).count()
            };
            assert_eq!((count(false), count(true)), (0, 1), "{text}");
        }
    }

    #[test]
    fn a_model_without_the_token_has_no_toxic_mode() {
        let speaker = speaker("[OTHER]");
        let error = speaker.check_toxic().expect_err("there is no such token").to_string();
        assert!(error.contains("[OTHER]") && error.contains("--control-token"), "{error}");
        assert!(speaker.prompt(&Dialogue::from_user("Hello."), true).is_err());
    }
}
