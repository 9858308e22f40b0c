//! Trains a small tokenizer.

use std::collections::HashSet;

use serde_json::{Map, json};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, NormalizerWrapper, PostProcessorWrapper, TokenizerBuilder};

use super::{ChatTokenizer, files};
use crate::DataError;

/// Special tokens of a new tokenizer, ids 0 to 3.
const SPECIAL: [&str; 4] = ["<s>", "</s>", "<|user|>", "<|assistant|>"];

/// Turns are told apart by single tokens, so that no boundary depends on the text beside it.
const TEMPLATE: &str = "\
{{ bos_token }}\
{% for m in messages %}\
{% if m['role'] == 'user' %}{{ '<|user|>' + m['content'] }}\
{% elif m['role'] == 'assistant' %}{{ '<|assistant|>' + m['content'] + eos_token }}\
{% else %}{{ raise_exception('only user and assistant turns') }}{% endif %}\
{% endfor %}\
{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";

/// Trains byte-level BPE (GPT-2's: any text can be encoded, nothing is unknown) of at most `vocab_size` tokens, fewer
/// where the texts have no more pairs to merge. `<s>`, `</s>`, `<|user|>` and `<|assistant|>` are single special
/// tokens (ids 0 to 3), which the chat template uses. The same texts give the same tokenizer.
///
/// # Errors
/// [`DataError::File`] if `vocab_size` has no room for the 256 bytes and the special tokens.
pub fn train_tokenizer(texts: impl IntoIterator<Item = String>, vocab_size: usize) -> Result<ChatTokenizer, DataError> {
    let failed = |problem: String| DataError::file("new tokenizer", problem);
    let least = 256 + SPECIAL.len();
    if vocab_size < least {
        return Err(failed(format!(
            "a vocabulary of {vocab_size} has no room for 256 bytes and {} special tokens; use {least} or more",
            SPECIAL.len()
        )));
    }
    // Each piece of text (between special tokens) begins with a space, so that a word is one token wherever it stands.
    let bytes = ByteLevel::new(true, false, true);
    let mut tokenizer = TokenizerBuilder::<BPE, NormalizerWrapper, ByteLevel, PostProcessorWrapper, ByteLevel>::new()
        .with_model(BPE::default())
        .with_pre_tokenizer(Some(bytes))
        .with_decoder(Some(ByteLevel::default()))
        .build()
        .map_err(|e| failed(e.to_string()))?;
    let mut trainer = BpeTrainer::builder()
        .vocab_size(vocab_size)
        .show_progress(false)
        .special_tokens(SPECIAL.iter().map(|token| AddedToken::from(*token, true)).collect())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect::<HashSet<char>>())
        .build();
    let texts: Vec<String> = texts.into_iter().collect();
    tokenizer.train(&mut trainer, texts.iter()).map_err(|e| failed(e.to_string()))?;
    let json = tokenizer.to_string(false).map_err(|e| failed(e.to_string()))?;
    let config = json!({
        "bos_token": SPECIAL[0],
        "eos_token": SPECIAL[1],
        "pad_token": SPECIAL[1],
        "clean_up_tokenization_spaces": false,
        "tokenizer_class": "PreTrainedTokenizerFast",
    });
    files::assemble(
        json.as_bytes(),
        config.as_object().cloned().unwrap_or_default(),
        (Some(TEMPLATE.to_owned()), Map::new()),
        "new tokenizer",
    )
}
