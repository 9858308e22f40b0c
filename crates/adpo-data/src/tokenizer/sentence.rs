//! The tokenizer of a sentence encoder.

use std::path::Path;

use tokenizers::{PostProcessor, Tokenizer, TruncationParams};

use super::files::{LARGEST_TOKENIZER, TOKENIZER, caught};
use crate::DataError;
use crate::files::read_small;

/// `tokenizer.json` of a sentence encoder: a text in, the ids out that sentence-transformers would give the encoder.
#[derive(Clone)]
pub struct SentenceTokenizer {
    tokenizer: Tokenizer,
}

impl SentenceTokenizer {
    /// Loads `tokenizer.json` of a folder. Texts of more than `longest` ids, special tokens included, are cut at their end; what the file
    /// itself says of truncation and padding does not count, as in sentence-transformers.
    ///
    /// # Errors
    /// [`DataError`] names the file, if it is missing or no tokenizer, or if `longest` leaves no room for a text.
    pub fn from_folder(folder: impl AsRef<Path>, longest: usize) -> Result<Self, DataError> {
        let path = folder.as_ref().join(TOKENIZER);
        let wrong = |problem: String| DataError::file(path.display(), problem);
        let Some(bytes) = read_small(&path, LARGEST_TOKENIZER)? else {
            return Err(wrong("is not there; fetch it from where the encoder came from".to_owned()));
        };
        let mut tokenizer = caught(|| Tokenizer::from_bytes(bytes)).map_err(|e| wrong(format!("{e}; fetch the file again")))?;
        let special = tokenizer.get_post_processor().map_or(0, |frame| frame.added_tokens(false));
        if longest <= special {
            return Err(wrong(format!("frames a text with {special} special tokens, and the encoder reads {longest} ids")));
        }
        tokenizer.with_padding(None);
        let truncation = TruncationParams { max_length: longest, ..TruncationParams::default() };
        caught(|| tokenizer.with_truncation(Some(truncation)).map(drop))
            .map_err(|e| wrong(format!("texts cannot be cut to {longest} ids: {e}")))?;
        Ok(Self { tokenizer })
    }

    /// One more than the largest id.
    pub fn vocab_size(&self) -> usize {
        self.tokenizer.get_vocab(true).values().max().map_or(0, |largest| *largest as usize + 1)
    }

    /// The ids of a text between the special tokens.
    ///
    /// # Errors
    /// [`DataError::File`] if the tokenizer cannot read the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let encoding = caught(|| self.tokenizer.encode_fast(text, true)).map_err(|e| DataError::file(TOKENIZER, e))?;
        Ok(encoding.get_ids().to_vec())
    }
}
