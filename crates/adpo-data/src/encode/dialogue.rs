//! Turns as ids: escaping, the control token, the boundary between prompt and response, cutting.

use std::ops::Range;

use super::{Encoder, FORGED, Fault, NOT_A_PREFIX, OverLength, TOO_LONG};
use crate::DataError;
use crate::dialogue::{Dialogue, Role, Turn};
use crate::tokenizer::{ANY_TEXT, ChatTokenizer, ControlToken};

/// A turn whose text is harmless; the control token, if it has one, is kept apart from it.
#[derive(Debug, Clone)]
pub(super) struct EscapedTurn {
    pub role: Role,
    text: String,
    control: Option<String>,
}

pub(super) fn escaped(tokenizer: &ChatTokenizer, dialogue: &Dialogue) -> (Vec<EscapedTurn>, usize) {
    let mut count = 0;
    let turns = dialogue.turns.iter().map(|turn| {
        let (text, found) = tokenizer.escape(&turn.content);
        count += found;
        EscapedTurn { role: turn.role, text: text.into_owned(), control: None }
    });
    (turns.collect(), count)
}

/// The same turns with the control token behind the last one by the user, one space before it. It is added here, on
/// the way to ids, and never to a row: a second epoch cannot add a second one.
pub(super) fn with_control(mut turns: Vec<EscapedTurn>, control: &ControlToken) -> Vec<EscapedTurn> {
    if let Some(last) = turns.iter_mut().rfind(|turn| turn.role == Role::User) {
        last.control = Some(control.text.clone());
    }
    turns
}

impl EscapedTurn {
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    fn with_text(&self, text: &str) -> Turn {
        let content = self.control.as_ref().map_or_else(|| text.to_owned(), |control| format!("{text} {control}"));
        Turn { role: self.role, content }
    }
}

impl Encoder<'_> {
    /// Ids of turns; a row whose text changes the special ids among them is left out.
    pub(super) fn ids(&mut self, turns: &[EscapedTurn], generation_prompt: bool) -> Result<Vec<u32>, Fault> {
        let tokenizer = self.tokenizer;
        let encode = |text: &dyn Fn(&EscapedTurn) -> Turn| -> Result<Vec<u32>, DataError> {
            let turns: Vec<Turn> = turns.iter().map(text).collect();
            tokenizer.encode_text(&tokenizer.render_escaped(&turns, generation_prompt)?)
        };
        let special = |ids: &[u32]| -> Vec<u32> { ids.iter().copied().filter(|id| tokenizer.is_special(*id)).collect() };
        let ids = encode(&|turn| turn.with_text(&turn.text))?;
        let shape = (turns.iter().map(|turn| (turn.role, turn.control.is_some())).collect(), generation_prompt);
        let expected = match self.special.entry(shape) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) => new.insert(special(&encode(&|turn| turn.with_text(ANY_TEXT))?)),
        };
        if special(&ids) == *expected { Ok(ids) } else { Err(Fault::Drop(FORGED)) }
    }

    /// Ids of turns that end with a response to `prompt`, and where the response ends: behind its end-of-sequence id.
    /// What a template writes after that belongs to no response.
    pub(super) fn answered(&mut self, turns: &[EscapedTurn], prompt: &[u32]) -> Result<(Vec<u32>, usize), Fault> {
        if turns.last().is_none_or(|response| response.text.trim().is_empty()) {
            return Err(Fault::Drop("an empty response"));
        }
        let ids = self.ids(turns, false)?;
        let Some(response) = ids.strip_prefix(prompt) else { return Err(Fault::Drop(NOT_A_PREFIX)) };
        match response.iter().position(|id| *id == self.tokenizer.eos_id()) {
            Some(end) => Ok((ids.clone(), prompt.len() + end + 1)),
            None => Err(Fault::Error(DataError::Template {
                problem: "writes no eos_token after a response, so that the model would never learn to stop; write eos_token behind assistant turns, or set `eos_token` in tokenizer_config.json to the token that ends them"
                    .into(),
            })),
        }
    }

    /// Ids of one response to an encoded prompt.
    pub(super) fn response(&mut self, turns: &[EscapedTurn], prompt: &[u32], response: &str) -> Result<Vec<u32>, Fault> {
        let (text, count) = self.tokenizer.escape(response);
        self.report.escaped += count;
        if self.tokenizer.forges(&text) {
            return Err(Fault::Drop(FORGED));
        }
        let response = EscapedTurn { role: Role::Assistant, text: text.into_owned(), control: None };
        let turns: Vec<EscapedTurn> = turns.iter().cloned().chain([response]).collect();
        let (ids, end) = self.answered(&turns, prompt)?;
        Ok(ids[prompt.len()..end].to_vec())
    }

    /// What to take out of `prompt` so that a response of `response` tokens fits, by the policy for long rows.
    pub(super) fn cut(
        &mut self,
        prompt: &[u32],
        turns: &[EscapedTurn],
        response: usize,
        control: Option<u32>,
    ) -> Result<Range<usize>, Fault> {
        match self.options.over_length {
            OverLength::TruncatePrompt => self.cut_left(prompt, turns, response, control),
            _ if prompt.len() + response > self.options.max_length => Err(Fault::Drop(TOO_LONG)),
            _ => Ok(0..0),
        }
    }

    /// Takes tokens out of a prompt on its left, after the beginning-of-sequence id. What is left must hold more than
    /// the template's call for a response, and the control token if there is one.
    pub(super) fn cut_left(
        &mut self,
        prompt: &[u32],
        turns: &[EscapedTurn],
        response: usize,
        control: Option<u32>,
    ) -> Result<Range<usize>, Fault> {
        let excess = (prompt.len() + response).saturating_sub(self.options.max_length);
        if excess == 0 {
            return Ok(0..0);
        }
        let begin = usize::from(self.tokenizer.bos_id().is_some_and(|bos| prompt.first() == Some(&bos)));
        let call = prompt.len().saturating_sub(self.ids(turns, false)?.len());
        let kept = prompt.get(begin + excess..).unwrap_or_default();
        if kept.len() <= call || control.is_some_and(|control| !kept.contains(&control)) {
            return Err(Fault::Drop("the response leaves no room for its prompt"));
        }
        self.report.truncated += 1;
        Ok(begin..begin + excess)
    }
}
