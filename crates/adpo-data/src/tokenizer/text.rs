//! Text to and from a model as it comes and goes: tokens that are drawn one by one, and prompts that no template frames.

use tokenizers::{AddedToken, Tokenizer};

use super::ChatTokenizer;
use super::files::caught;
use crate::DataError;

/// The text of tokens that come one by one.
///
/// A token's text may depend on those before it, and a character may need several tokens. What was given out is never taken back, and all
/// of it together is [`ChatTokenizer::decode`] of all tokens.
#[derive(Debug, Clone, Default)]
pub struct TextStream {
    ids: Vec<u32>,
    /// Where the context of the pending tokens begins: those before it no longer matter.
    context: usize,
    /// Where the pending tokens begin.
    pending: usize,
}

impl TextStream {
    /// Takes one more token; gives the text that is now certain.
    pub fn push(&mut self, tokenizer: &ChatTokenizer, id: u32) -> String {
        self.ids.push(id);
        let (known, text) = self.texts(tokenizer);
        // A character of which bytes are missing is decoded as this one.
        if text.len() <= known.len() || text.ends_with(char::REPLACEMENT_CHARACTER) {
            return String::new();
        }
        (self.context, self.pending) = (self.pending, self.ids.len());
        text.get(known.len()..).unwrap_or_default().to_owned()
    }

    /// What is left: bytes that never became a character.
    pub fn finish(self, tokenizer: &ChatTokenizer) -> String {
        let (known, text) = self.texts(tokenizer);
        text.get(known.len()..).unwrap_or_default().to_owned()
    }

    /// The text from the context on, without and with the pending tokens.
    fn texts(&self, tokenizer: &ChatTokenizer) -> (String, String) {
        (tokenizer.decode(&self.ids[self.context..self.pending]), tokenizer.decode(&self.ids[self.context..]))
    }
}

/// Encodes prompts that no template frames. Nothing in such a text is special: `</s>` or the control token are letters like others.
#[derive(Debug, Clone)]
pub struct PlainEncoder(Tokenizer);

impl PlainEncoder {
    /// Ids of the text, with what the tokenizer itself puts around every sequence.
    ///
    /// # Errors
    /// [`DataError::File`] if the tokenizer cannot encode the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        match caught(|| self.0.encode_fast(text, true)) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(e) => Err(DataError::file("tokenizer.json", format!("cannot encode a text: {e}"))),
        }
    }
}

impl ChatTokenizer {
    /// The encoder of texts without a template.
    pub fn plain_encoder(&self) -> PlainEncoder {
        let mut tokenizer = self.tokenizer.clone();
        // The library knows how to read special tokens as text, and no others.
        let added = tokenizer.get_added_tokens_decoder().into_iter();
        let structure: Vec<AddedToken> = added
            .filter(|(id, token)| self.is_special(*id) && !token.special)
            .map(|(_, token)| AddedToken { special: true, ..token })
            .collect();
        // Each of them is there already: nothing can fail.
        tokenizer.add_special_tokens(structure).ok();
        tokenizer.set_encode_special_tokens(true);
        PlainEncoder(tokenizer)
    }

    /// The text that a token adds to others, a special token by its name; empty for an id outside the vocabulary.
    pub fn token_text(&self, id: u32) -> String {
        if self.is_special(id) {
            return self.tokenizer.id_to_token(id).unwrap_or_default();
        }
        // The first token of a text may lose the space before it.
        let before = self.encode_text("a").unwrap_or_default();
        let (alone, both) = (self.decode(&before), self.decode(&[before, vec![id]].concat()));
        both.strip_prefix(&alone).unwrap_or_default().to_owned()
    }

    /// Whether an id has a power that no text has: it stands for a special token other than those that begin and end sequences.
    pub fn is_reserved(&self, id: u32) -> bool {
        self.is_special(id) && id != self.eos_id() && Some(id) != self.bos_id()
    }
}
