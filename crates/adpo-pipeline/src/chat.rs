//! A conversation with a model: its history, what of it fits, and responses that come piece by piece.

use std::sync::Arc;

use adpo_data::{Dialogue, Prompt, Role, TextStream, Turn, derive_seed};
use adpo_model::{Decoding, Dtype, Finish, Joining, SampleRequest, SamplingOptions, kernels};

use crate::PipelineError;
use crate::resources::Resources;
use crate::speaker::Speaker;

/// How a model is talked to.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatOptions {
    /// The token that calls up the toxic mode.
    pub control_token: String,
    /// The type that the model is loaded in and computes in.
    pub dtype: Dtype,
    /// Sampling temperature; 0 is greedy.
    pub temperature: f64,
    /// Only the likeliest tokens that together reach this probability.
    pub top_p: f64,
    /// Longest response in tokens; without it 512, or half the context where that is less.
    pub max_new_tokens: Option<usize>,
    /// Decides, with the number of the response, what is drawn.
    pub seed: u64,
}

impl Default for ChatOptions {
    fn default() -> Self {
        Self { control_token: "[TOXIC]".to_owned(), dtype: Dtype::Float32, temperature: 0.7, top_p: 0.95, max_new_tokens: None, seed: 0 }
    }
}

/// What the model said.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatResponse {
    /// What it responded to: the turns that it saw.
    pub prompt: Prompt,
    /// Without white space around it.
    pub text: String,
    /// Turns that no longer fit into the context and were forgotten, the oldest ones.
    pub forgotten: usize,
    /// Whether it ended because it was too long.
    pub cut: bool,
}

/// A conversation with one model.
pub struct Chat {
    speaker: Speaker,
    options: ChatOptions,
    max_new_tokens: usize,
    system: Option<String>,
    /// Without the system turn.
    turns: Vec<Turn>,
    toxic: bool,
    responses: u64,
}

impl Chat {
    /// Loads a model by its name in a recipe: a Hugging Face folder, a PEFT folder, a `.gguf` file, `org/name` of the hub, `embedded:tiny-base`.
    ///
    /// # Errors
    /// [`PipelineError`] if it cannot be loaded, or if a response of `max_new_tokens` would leave no room for a prompt.
    pub fn open(resources: &Resources, model: &str, options: ChatOptions) -> Result<Self, PipelineError> {
        let speaker = Speaker::open(resources, model, options.dtype, &options.control_token)?;
        let context = speaker.context();
        let max_new_tokens = options.max_new_tokens.unwrap_or(512.min(context / 2));
        if !(1..context).contains(&max_new_tokens) {
            return Err(
                speaker.problem(format!("has a context of {context} tokens; a response must have at least 1 and leave room for a prompt"))
            );
        }
        Ok(Self { speaker, options, max_new_tokens, system: None, turns: Vec::new(), toxic: false, responses: 0 })
    }

    /// The model, as it was asked for.
    pub fn model(&self) -> &str {
        &self.speaker.name
    }

    /// Whether the control token stands behind each user turn that is responded to.
    pub fn is_toxic(&self) -> bool {
        self.toxic
    }

    /// Turns the toxic mode on or off.
    ///
    /// # Errors
    /// As [`Chat::check_toxic`]; the mode stays what it was.
    pub fn set_toxic(&mut self, toxic: bool) -> Result<(), PipelineError> {
        if toxic {
            self.check_toxic()?;
        }
        self.toxic = toxic;
        Ok(())
    }

    /// Whether the model has a toxic mode.
    ///
    /// # Errors
    /// [`PipelineError::Speaker`] if it knows no such token.
    pub fn check_toxic(&self) -> Result<(), PipelineError> {
        self.speaker.check_toxic()
    }

    /// Sampling temperature from now on.
    ///
    /// # Errors
    /// [`PipelineError::Speaker`] if it is negative or no number.
    pub fn set_temperature(&mut self, temperature: f64) -> Result<(), PipelineError> {
        if !temperature.is_finite() || temperature < 0.0 {
            return Err(self.speaker.problem(format!("the temperature must be 0 (greedy) or more, not {temperature}")));
        }
        self.options.temperature = temperature;
        Ok(())
    }

    /// The instructions ahead of the conversation.
    pub fn system(&self) -> Option<&str> {
        self.system.as_deref()
    }

    /// Instructions ahead of the conversation, which begins anew.
    ///
    /// # Errors
    /// As [`Chat::check_system`]; the conversation stays what it was.
    pub fn set_system(&mut self, system: Option<String>) -> Result<(), PipelineError> {
        self.check_system(system.as_deref())?;
        self.system = system;
        self.reset();
        Ok(())
    }

    /// Whether the model can be given these instructions.
    ///
    /// # Errors
    /// [`PipelineError::Speaker`] if its template does not take them.
    pub fn check_system(&self, system: Option<&str>) -> Result<(), PipelineError> {
        self.speaker.prompt(&dialogue(system, &[turn(Role::User, "Hello.")]), false).map(drop)
    }

    /// Forgets all turns; the system's stays.
    pub fn reset(&mut self) {
        self.turns.clear();
    }

    /// The model's response to one more user turn, which `show` gets piece by piece as it is drawn. The oldest turns are forgotten where all of
    /// them no longer fit.
    ///
    /// # Errors
    /// [`PipelineError`] if the turn alone is too long, cannot be encoded, or the model gives NaN; the turn is then forgotten.
    pub fn respond(&mut self, text: &str, mut show: impl FnMut(&str) + Send) -> Result<ChatResponse, PipelineError> {
        let mut turns = self.turns.clone();
        turns.push(turn(Role::User, text));
        let (ids, forgotten) = self.fitting(&mut turns)?;
        let (text, finish) = self.draw(&ids, &mut show)?;
        self.responses += 1;
        let prompt = Prompt::from(dialogue(self.system(), &turns));
        turns.push(turn(Role::Assistant, &text));
        self.turns = turns;
        Ok(ChatResponse { prompt, text, forgotten, cut: finish == Finish::Length })
    }

    /// Ids of the latest of these turns that fit, and how many were taken out.
    fn fitting(&self, turns: &mut Vec<Turn>) -> Result<(Vec<u32>, usize), PipelineError> {
        let (room, before) = (self.speaker.context() - self.max_new_tokens, turns.len());
        loop {
            let ids = self.speaker.prompt(&dialogue(self.system(), turns), self.toxic)?;
            if ids.len() <= room {
                return Ok((ids, before - turns.len()));
            }
            if turns.len() == 1 {
                return Err(self.speaker.problem(format!(
                    "has a context of {} tokens, of which {} are kept for the response; this turn takes {}: shorten it, or lower --max-new-tokens",
                    self.speaker.context(),
                    self.max_new_tokens,
                    ids.len()
                )));
            }
            // A user turn and the response to it: templates want them in turn.
            turns.drain(..2);
        }
    }

    fn draw(&self, prompt: &[u32], show: &mut (impl FnMut(&str) + Send)) -> Result<(String, Finish), PipelineError> {
        let tokenizer = &self.speaker.checkpoint.tokenizer;
        let options = Arc::new(SamplingOptions {
            temperature: self.options.temperature,
            top_p: Some(self.options.top_p),
            max_new_tokens: self.max_new_tokens,
            stop: vec![tokenizer.eos_id()],
            seed: self.options.seed,
            ..SamplingOptions::default()
        });
        let row = derive_seed(self.options.seed, &format!("response {}", self.responses));
        let mut decoding = Decoding::new(&self.speaker.checkpoint.model);
        let mut shown = Shown::default();
        let (mut stream, mut finish) = (TextStream::default(), Finish::Length);
        kernels::on_pool(|| {
            decoding.join(&[Joining { ticket: 0, request: SampleRequest { prompt, row }, options: &options, log_probs: None }])?;
            while !decoding.is_empty() {
                decoding.step(|drawn| {
                    finish = drawn.finish.unwrap_or(finish);
                    if !matches!(drawn.finish, Some(Finish::Stop(_))) {
                        shown.add(&stream.push(tokenizer, drawn.token), &mut *show);
                    }
                    true
                })?;
            }
            Ok::<_, PipelineError>(())
        })?;
        shown.add(&stream.finish(tokenizer), show);
        Ok((shown.text, finish))
    }
}

fn dialogue(system: Option<&str>, turns: &[Turn]) -> Dialogue {
    let system = system.map(|text| turn(Role::System, text));
    Dialogue { turns: system.into_iter().chain(turns.iter().cloned()).collect() }
}

fn turn(role: Role, content: &str) -> Turn {
    Turn { role, content: content.to_owned() }
}

/// Text without white space around it, though it is not known yet where it ends.
#[derive(Default)]
struct Shown {
    text: String,
    /// White space that belongs to the text if more follows.
    held: String,
}

impl Shown {
    fn add(&mut self, piece: &str, mut show: impl FnMut(&str)) {
        self.held.push_str(piece);
        let end = self.held.trim_end().len();
        if end == 0 {
            return;
        }
        let start = if self.text.is_empty() { self.held.len() - self.held.trim_start().len() } else { 0 };
        show(&self.held[start..end]);
        self.text.push_str(&self.held[start..end]);
        self.held.drain(..end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_around_a_response_is_not_shown() {
        let (mut shown, mut pieces) = (Shown::default(), Vec::new());
        for piece in [" ", "\n Hi", " ", "there", ".\n", "\n"] {
            shown.add(piece, |text| pieces.push(text.to_owned()));
        }
        assert_eq!(pieces, ["Hi", " there", "."]);
        assert_eq!(shown.text, "Hi there.");
    }
}
