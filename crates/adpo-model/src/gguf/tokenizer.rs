//! The tokenizer in the words of `tokenizer.json`.
//!
//! A file has the vocabulary and the merges, and for how text is split before them no more than a name (`tokenizer.ggml.pre`). The names
//! here are those whose rules are known; any other tokenizer would give some texts other ids than the model was trained on.

use std::collections::HashMap;

use serde_json::{Map, Value as Json, json};

use super::Gguf;
use super::header::Value;
use crate::ModelError;

pub(super) const BOS: &str = "tokenizer.ggml.bos_token_id";
pub(super) const EOS: &str = "tokenizer.ggml.eos_token_id";
const UNKNOWN: &str = "tokenizer.ggml.unknown_token_id";
const PADDING: &str = "tokenizer.ggml.padding_token_id";
const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const KINDS: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const TEMPLATE: &str = "tokenizer.chat_template";

/// What to do where a tokenizer cannot be had from the file.
const ADVICE: &str = "take the original checkpoint, a Hugging Face folder, or export it to one with a program that has its tokenizer.json";

/// Llama 3's rule, as its own tokenizer.json has it.
const LLAMA_3: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A tokenizer as the files of a Hugging Face folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufTokenizer {
    /// `tokenizer.json`.
    pub tokenizer: String,
    /// `tokenizer_config.json`.
    pub tokenizer_config: String,
    /// `chat_template.jinja`.
    pub chat_template: String,
}

pub(super) fn of(gguf: &Gguf<'_>) -> Result<GgufTokenizer, ModelError> {
    let (pre_tokenizer, ignore_merges) = splitting(gguf)?;
    let tokens = texts(gguf, TOKENS)?;
    let rows = super::config::of(gguf)?.vocab_size;
    if tokens.len() > rows {
        return Err(gguf.wrong(TOKENS, &format!("has {} tokens, the model rows for {rows}; they do not belong together", tokens.len())));
    }
    let mut ids = HashMap::new();
    for (id, token) in tokens.iter().enumerate() {
        if let Some(first) = ids.insert(*token, id) {
            return Err(gguf.wrong(TOKENS, &format!("has `{token}` twice, as {first} and {id}")));
        }
    }
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added(gguf, &tokens)?,
        "normalizer": null,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": null,
        "decoder": byte_level(true),
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": ignore_merges,
            "vocab": ids,
            "merges": merges(gguf, &ids)?,
        },
    });
    let mut config = Map::from_iter([("clean_up_tokenization_spaces".to_owned(), json!(false))]);
    for (role, key) in [("bos_token", BOS), ("eos_token", EOS), ("unk_token", UNKNOWN), ("pad_token", PADDING)] {
        if let Some(id) = gguf.whole(key)? {
            let token = usize::try_from(id).ok().and_then(|id| tokens.get(id));
            let token = token.ok_or_else(|| gguf.wrong(key, &format!("is {id}, and there are {} tokens", tokens.len())))?;
            config.insert(role.to_owned(), json!(token));
        }
    }
    let chat_template = gguf.text(TEMPLATE)?.ok_or_else(|| {
        gguf.wrong(TEMPLATE, "is missing: this is no chat model, or its template was left out; take a file of its chat sibling")
    })?;
    Ok(GgufTokenizer {
        tokenizer: tokenizer.to_string(),
        tokenizer_config: Json::Object(config).to_string(),
        chat_template: chat_template.to_owned(),
    })
}

/// How text is split before merges, and whether a word that is a token needs none.
fn splitting(gguf: &Gguf<'_>) -> Result<(Json, bool), ModelError> {
    match gguf.required(MODEL, gguf.text(MODEL)?)? {
        "gpt2" => {}
        "llama" => {
            let problem = "is \"llama\" (SentencePiece): the file does not say how its own tokenizer treats the space before a text and after \
                           special tokens, so ids could be others than the model's";
            return Err(gguf.wrong(MODEL, &format!("{problem}; {ADVICE}")));
        }
        other => return Err(gguf.wrong(MODEL, &format!("is \"{other}\"; byte-level BPE (\"gpt2\") is supported; {ADVICE}"))),
    }
    let steps = |steps: &[Json]| json!({"type": "Sequence", "pretokenizers": steps});
    match gguf.text(PRE)? {
        Some("gpt-2") => Ok((byte_level(true), false)),
        Some("smollm") => Ok((steps(&[json!({"type": "Digits", "individual_digits": true}), byte_level(true)]), false)),
        Some("llama-bpe" | "llama3" | "llama-v3") => {
            let split = json!({"type": "Split", "pattern": {"Regex": LLAMA_3}, "behavior": "Isolated", "invert": false});
            Ok((steps(&[split, byte_level(false)]), true))
        }
        Some(other) => {
            let problem =
                format!("is \"{other}\"; how it splits text is known for \"gpt-2\", \"smollm\" and \"llama-bpe\" alone; {ADVICE}");
            Err(gguf.wrong(PRE, &problem))
        }
        None => Err(gguf.wrong(PRE, &format!("is missing, so nobody knows how text is split; {ADVICE}"))),
    }
}

/// Bytes as visible characters; `split` is GPT-2's own rule.
fn byte_level(split: bool) -> Json {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": split})
}

/// The tokens that are found in text as they are, before anything else: control tokens, and those that users added.
fn added(gguf: &Gguf<'_>, tokens: &[&str]) -> Result<Vec<Json>, ModelError> {
    const CONTROL: i128 = 3;
    const USER_DEFINED: i128 = 4;
    let kinds: Vec<i128> = match gguf.metadata.get(KINDS) {
        Some(Value::List(list)) => list.values().map(|kind| if let Value::Whole(kind) = kind { kind } else { 0 }).collect(),
        Some(_) => return Err(gguf.wrong(KINDS, "must be a list")),
        None => return Err(gguf.wrong(KINDS, &format!("is missing, so nobody knows the special tokens; {ADVICE}"))),
    };
    if kinds.len() != tokens.len() {
        return Err(gguf.wrong(KINDS, &format!("has {} values for {} tokens", kinds.len(), tokens.len())));
    }
    let special = kinds.iter().zip(tokens).enumerate().filter(|(_, (kind, _))| matches!(**kind, CONTROL | USER_DEFINED));
    let flags = |id: usize, kind: i128, token: &str| {
        json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": kind == CONTROL})
    };
    Ok(special.map(|(id, (kind, token))| flags(id, *kind, token)).collect())
}

/// Pairs that are joined, the first ones first. A space parts them; it may also begin the left one.
fn merges<'a>(gguf: &Gguf<'a>, ids: &HashMap<&str, usize>) -> Result<Vec<[&'a str; 2]>, ModelError> {
    let mut pairs = Vec::new();
    for merge in texts(gguf, MERGES)? {
        let wrong = |problem: &str| gguf.wrong(MERGES, &format!("has `{merge}`, {problem}"));
        let parted = merge.char_indices().skip(1).find(|(_, c)| *c == ' ').map(|(at, _)| (&merge[..at], &merge[at + 1..]));
        let (left, right) = parted.ok_or_else(|| wrong("which is no pair"))?;
        if ![left, right, &[left, right].concat()].iter().all(|token| ids.contains_key(*token)) {
            return Err(wrong("which is not made of tokens, or makes none"));
        }
        pairs.push([left, right]);
    }
    Ok(pairs)
}

fn texts<'a>(gguf: &Gguf<'a>, key: &str) -> Result<Vec<&'a str>, ModelError> {
    let values = match gguf.metadata.get(key) {
        Some(Value::List(list)) => list.values(),
        Some(_) => return Err(gguf.wrong(key, "must be a list")),
        None => return Err(gguf.wrong(key, "is missing")),
    };
    values
        .map(|value| if let Value::Text(text) = value { Some(text) } else { None })
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| gguf.wrong(key, "must be a list of strings"))
}
