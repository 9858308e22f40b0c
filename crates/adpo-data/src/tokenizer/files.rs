//! The files of a Hugging Face folder that a tokenizer is made of.

use std::io::ErrorKind;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokenizers::{Model, ModelWrapper, Tokenizer};

use super::{ChatTokenizer, Special};
use crate::{DataError, write_file};

const TOKENIZER: &str = "tokenizer.json";
const CONFIG: &str = "tokenizer_config.json";
const TEMPLATE: &str = "chat_template.jinja";

pub(super) fn load(dir: &Path) -> Result<ChatTokenizer, DataError> {
    let tokenizer = std::fs::read(dir.join(TOKENIZER)).map_err(DataError::io(&dir.join(TOKENIZER)))?;
    let mut config = optional_object(dir, CONFIG)?;
    let fallback = optional_object(dir, "special_tokens_map.json")?;
    let model = optional_object(dir, "config.json")?;
    for role in ["bos", "eos"] {
        let (token, id) = (format!("{role}_token"), format!("{role}_token_id"));
        if !config.contains_key(&token) {
            // An id stands for its token until the tokenizer is there to look it up.
            let found = fallback.get(&token).or_else(|| model.get(&id)).filter(|value| !value.is_null());
            found.cloned().into_iter().for_each(|value| drop(config.insert(token.clone(), value)));
        }
    }
    let template = optional(dir, TEMPLATE)?;
    assemble(&tokenizer, config, template, &dir.display().to_string())
}

/// `place` is named in errors.
pub(super) fn assemble(
    bytes: &[u8],
    mut config: Map<String, Value>,
    template: Option<String>,
    place: &str,
) -> Result<ChatTokenizer, DataError> {
    let tokenizer = Tokenizer::from_bytes(bytes).map_err(|e| {
        DataError::file(
            format_args!("{place}: {TOKENIZER}"),
            format_args!("{e}; fetch the file again, or save it with a current tokenizers library"),
        )
    })?;
    check_added_ids(bytes, &tokenizer).map_err(|problem| DataError::file(format_args!("{place}: {TOKENIZER}"), problem))?;
    let problem = |problem: String| DataError::file(format_args!("{place}: {CONFIG}"), problem);
    let in_config = config.remove("chat_template");
    let template = match (template, in_config) {
        (Some(template), _) | (None, Some(Value::String(template))) => template,
        (None, Some(Value::Array(named))) => named
            .iter()
            .find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"))
            .and_then(|entry| entry.get("template")?.as_str())
            .map(str::to_owned)
            .ok_or_else(|| problem("`chat_template` lists no template named `default`; add one".into()))?,
        (None, _) => {
            return Err(problem(format!(
                "there is no chat template; add {TEMPLATE} (base models have none: take that of their chat sibling)"
            )));
        }
    };
    let special = |role: &str| -> Result<Option<Special>, DataError> {
        let text = match config.get(role) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) => text.clone(),
            Some(Value::Object(token)) if token.get("content").is_some_and(Value::is_string) => {
                token["content"].as_str().unwrap_or_default().to_owned()
            }
            Some(id @ (Value::Number(_) | Value::Array(_))) => {
                let first = id.as_array().map_or(Some(id), |ids| ids.first()).and_then(Value::as_u64);
                let text = first.and_then(|id| tokenizer.id_to_token(u32::try_from(id).ok()?));
                text.ok_or_else(|| problem(format!("`{role}` is given by the id {id}, which the tokenizer does not have")))?
            }
            Some(other) => return Err(problem(format!("`{role}` is {other}; a string is needed"))),
        };
        match tokenizer.token_to_id(&text) {
            Some(id) => Ok(Some(Special { text, id })),
            None => Err(problem(format!("`{role}` is `{text}`, which is not in {TOKENIZER}"))),
        }
    };
    let bos = special("bos_token")?;
    let eos = special("eos_token")?.ok_or_else(|| problem("`eos_token` is missing; name the token that ends a response".into()))?;
    ChatTokenizer::new(tokenizer, template, config, bos, eos)
}

/// The tokenizers library numbers added tokens anew where their ids leave a gap; the model would then read the wrong
/// rows.
fn check_added_ids(bytes: &[u8], tokenizer: &Tokenizer) -> Result<(), String> {
    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        added_tokens: Vec<Added>,
    }
    #[derive(Deserialize)]
    struct Added {
        id: u32,
        content: String,
    }
    let file: File = serde_json::from_slice(bytes).map_err(|e| format!("`added_tokens`: {e}; fetch the file again"))?;
    match file.added_tokens.iter().find(|token| tokenizer.token_to_id(&token.content) != Some(token.id)) {
        None => Ok(()),
        Some(Added { id, content }) => Err(format!(
            "`added_tokens` gives `{content}` the id {id}, which leaves a gap in the vocabulary; number added tokens without gaps"
        )),
    }
}

pub(super) fn save(from: &ChatTokenizer, dir: &Path) -> Result<(), DataError> {
    std::fs::create_dir_all(dir).map_err(DataError::io(dir))?;
    let mut config = from.config.clone();
    config.insert("bos_token".into(), json!(from.bos.as_ref().map(|bos| &bos.text)));
    config.insert("eos_token".into(), json!(from.eos.text));
    config.entry("tokenizer_class").or_insert_with(|| json!("PreTrainedTokenizerFast"));
    let failed = |e: &dyn std::fmt::Display| DataError::file(dir.display(), e);
    let tokenizer = from.tokenizer.to_string(true).map_err(|e| failed(&e))?;
    let config = serde_json::to_string_pretty(&config).map_err(|e| failed(&e))? + "\n";
    for (name, text) in [(TOKENIZER, tokenizer.as_str()), (CONFIG, &config), (TEMPLATE, from.template.source())] {
        write_file(dir.join(name), text)?;
    }
    Ok(())
}

/// Older configurations list added tokens a second time; a list that is there must be whole.
pub(super) fn note_added_token(config: &mut Map<String, Value>, token: &str, id: u32) {
    if let Some(Value::Object(list)) = config.get_mut("added_tokens_decoder") {
        let flags = json!({"content": token, "lstrip": false, "normalized": false, "rstrip": false, "single_word": false, "special": true});
        list.insert(id.to_string(), flags);
    }
}

/// The same tokenizer without one token, whether the vocabulary holds it or only the list of added tokens.
pub(super) fn without_token(from: &ChatTokenizer, token: &str) -> Result<ChatTokenizer, DataError> {
    let failed = |e: &dyn std::fmt::Display| DataError::file(TOKENIZER, e);
    let mut json: Value = serde_json::to_value(&from.tokenizer).map_err(|e| failed(&e))?;
    if let Some(added) = json["added_tokens"].as_array_mut() {
        added.retain(|entry| entry["content"] != token);
    }
    if let Some(vocab) = json["model"]["vocab"].as_object_mut() {
        vocab.remove(token);
    }
    let mut config = from.config.clone();
    if let Some(Value::Object(list)) = config.get_mut("added_tokens_decoder") {
        list.retain(|_, entry| entry["content"] != token);
    }
    for listed in ["additional_special_tokens", "extra_special_tokens"] {
        if let Some(Value::Array(list)) = config.get_mut(listed) {
            list.retain(|entry| entry != token && entry["content"] != token);
        }
    }
    let tokenizer: Tokenizer = serde_json::from_value(json).map_err(|e| failed(&e))?;
    ChatTokenizer::new(tokenizer, from.template.source().to_owned(), config, from.bos.clone(), from.eos.clone())
}

/// The id that a model gives to text it has no tokens for.
pub(super) fn unknown_token(tokenizer: &Tokenizer) -> Option<u32> {
    let model = tokenizer.get_model();
    let token = match model {
        ModelWrapper::BPE(bpe) => bpe.unk_token.clone(),
        ModelWrapper::WordPiece(pieces) => Some(pieces.unk_token.clone()),
        ModelWrapper::WordLevel(words) => Some(words.unk_token.clone()),
        // A unigram model keeps its unknown piece by number, and by this name in every published file.
        ModelWrapper::Unigram(_) => Some("<unk>".to_owned()),
    };
    model.token_to_id(&token?)
}

pub(super) fn object(text: &str, name: &str) -> Result<Map<String, Value>, DataError> {
    serde_json::from_str(text).map_err(|e| DataError::file(name, format!("{e}; a JSON object is needed")))
}

fn optional(dir: &Path, name: &str) -> Result<Option<String>, DataError> {
    let path = dir.join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(DataError::io(&path)(e)),
    }
}

fn optional_object(dir: &Path, name: &str) -> Result<Map<String, Value>, DataError> {
    let text = optional(dir, name)?;
    text.map_or(Ok(Map::new()), |text| object(&text, &dir.join(name).display().to_string()))
}
