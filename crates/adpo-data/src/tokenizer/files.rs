//! The files of a Hugging Face folder that a tokenizer is made of.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokenizers::{AddedToken, Model, ModelWrapper, Tokenizer};

use super::{ChatTokenizer, Special};
use crate::files::read_small;
use crate::{DataError, write_file};

pub(super) const TOKENIZER: &str = "tokenizer.json";
const CONFIG: &str = "tokenizer_config.json";
const TEMPLATE: &str = "chat_template.jinja";
const ADDED: &str = "added_tokens.json";

/// Where a folder remembers the control token of the model in it. Its name does not end in `_token`: transformers would make it one of
/// the tokenizer's own.
pub(super) const CONTROL: &str = "adpo_control";

/// Bytes of a vocabulary and its merges; the largest published one has a seventh of it.
pub(super) const LARGEST_TOKENIZER: u64 = 256 << 20;
const LARGEST_CONFIG: u64 = 64 << 20;

/// Where a folder names tokens besides `bos_token` and `eos_token`, in the order in which transformers adds those that the tokenizer lacks.
const ROLES: [&str; 7] =
    ["unk_token", "sep_token", "pad_token", "cls_token", "mask_token", "additional_special_tokens", "extra_special_tokens"];

/// What adds tokens when transformers builds a tokenizer, or has it built anew from its class: all that it says is in `tokenizer.json`.
const REBUILDS: [&str; 10] = [
    "add_bos_token",
    "add_eos_token",
    "add_prefix_space",
    "added_tokens_decoder",
    "auto_map",
    "backend",
    "from_slow",
    "legacy",
    "sp_model_kwargs",
    "tokenizer_file",
];

pub(super) fn load(dir: &Path) -> Result<ChatTokenizer, DataError> {
    let path = dir.join(TOKENIZER);
    let Some(tokenizer) = read_small(&path, LARGEST_TOKENIZER)? else { return Err(no_tokenizer(dir)) };
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
    for role in ROLES {
        if !config.contains_key(role)
            && let Some(token) = fallback.get(role)
        {
            config.insert(role.to_owned(), token.clone());
        }
    }
    let template = optional(dir, TEMPLATE)?;
    let added = optional_object(dir, ADDED)?;
    let mut tokenizer = assemble(&tokenizer, config, (template, added), &dir.display().to_string())?;
    for (file, fields) in [("config.json", model), ("generation_config.json", optional_object(dir, "generation_config.json")?)] {
        tokenizer.claim(file, &fields);
    }
    Ok(tokenizer)
}

/// A folder of before `tokenizer.json`, or of no tokenizer at all.
fn no_tokenizer(dir: &Path) -> DataError {
    let found = ["tokenizer.model", "tekken.json", "vocab.json", "spiece.model"].into_iter().find(|file| dir.join(file).exists());
    let problem = match found {
        Some(file) => format!(
            "is not there, only {file}, which is not read; convert it once with transformers: \
             AutoTokenizer.from_pretrained(FOLDER, use_fast=True).save_pretrained(FOLDER)"
        ),
        None => "is not there; fetch it from where the model came from".to_owned(),
    };
    DataError::file(dir.join(TOKENIZER).display(), problem)
}

/// The library panics on some files that it cannot use; its own message is then on standard error as well.
pub(super) fn caught<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(_) => Err("the tokenizers library fails on it".to_owned()),
    }
}

/// `place` is named in errors.
pub(super) fn assemble(
    bytes: &[u8],
    mut config: Map<String, Value>,
    (template, added): (Option<String>, Map<String, Value>),
    place: &str,
) -> Result<ChatTokenizer, DataError> {
    let wrong = |problem: String| DataError::file(format_args!("{place}: {TOKENIZER}"), problem);
    let fix = "fetch the file again, or save it with a current tokenizers library";
    let mut tokenizer = caught(|| Tokenizer::from_bytes(bytes)).map_err(|e| wrong(format!("{e}; {fix}")))?;
    // Whatever was set for serving: a training text is never cut or padded behind our back.
    tokenizer.with_padding(None);
    caught(|| tokenizer.with_truncation(None).map(drop)).map_err(wrong)?;
    check_added_ids(bytes, &tokenizer).map_err(wrong)?;
    let problem = |problem: String| DataError::file(format_args!("{place}: {CONFIG}"), problem);
    adopt(&mut tokenizer, &config, &added).map_err(|problem| DataError::file(place, problem))?;
    caught(|| probe(&tokenizer)).map_err(|e| wrong(format!("{e}; {fix}")))?;
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

/// Encodes and decodes once: some files are read, and fail when they are used.
fn probe(tokenizer: &Tokenizer) -> tokenizers::Result<()> {
    let encoding = tokenizer.encode_fast("Why, it's \u{e9}\u{4e2d} 1\n", false)?;
    tokenizer.decode(encoding.get_ids(), true)?;
    Ok(())
}

/// Adds the tokens that other files name and `tokenizer.json` lacks, with the ids that transformers gives them: those of
/// `added_tokens_decoder` and `added_tokens.json` by their numbers, then those that have a role. A model has rows for them.
fn adopt(tokenizer: &mut Tokenizer, config: &Map<String, Value>, added: &Map<String, Value>) -> Result<(), String> {
    let mut numbered = BTreeMap::new();
    if let Some(Value::Object(list)) = config.get("added_tokens_decoder") {
        for (id, token) in list {
            let id: u32 = id.parse().map_err(|_| format!("{CONFIG}: `added_tokens_decoder` has the key `{id}`, which is no id"))?;
            numbered.insert(id, (CONFIG, added_token(token)));
        }
    }
    for (token, id) in added {
        let id = id.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| format!("{ADDED}: `{token}` has no id"))?;
        numbered.entry(id).or_insert_with(|| (ADDED, Some(AddedToken::from(token.clone(), false))));
    }
    for (id, (file, token)) in numbered {
        let Some(token) = token.filter(|token| tokenizer.token_to_id(&token.content).is_none()) else { continue };
        let content = token.content.clone();
        add(tokenizer, token)?;
        if tokenizer.token_to_id(&content) != Some(id) {
            return Err(format!(
                "{file} gives `{content}` the id {id}, and {TOKENIZER}, which lacks it, has another one free; \
                 save both anew with transformers: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
            ));
        }
    }
    for role in ROLES.iter().filter_map(|role| config.get(*role)) {
        let tokens: Vec<&Value> = match role {
            Value::Array(list) => list.iter().collect(),
            Value::Object(named) if !named.contains_key("content") => named.values().collect(),
            one => vec![one],
        };
        for token in tokens.into_iter().filter_map(added_token) {
            if tokenizer.token_to_id(&token.content).is_none() {
                add(tokenizer, AddedToken { special: true, ..token })?;
            }
        }
    }
    Ok(())
}

fn add(tokenizer: &mut Tokenizer, token: AddedToken) -> Result<(), String> {
    let add = |tokenizer: &mut Tokenizer| if token.special { tokenizer.add_special_tokens([token]) } else { tokenizer.add_tokens([token]) };
    caught(|| add(tokenizer)).map(drop)
}

/// A token as configurations write it: a text, or an object with its flags.
fn added_token(value: &Value) -> Option<AddedToken> {
    let flag = |name: &str| value.get(name).and_then(Value::as_bool).unwrap_or(false);
    match value {
        Value::String(text) if !text.is_empty() => Some(AddedToken::from(text.clone(), true)),
        Value::Object(_) => {
            let text = value.get("content")?.as_str().filter(|text| !text.is_empty())?;
            Some(
                AddedToken::from(text.to_owned(), flag("special"))
                    .lstrip(flag("lstrip"))
                    .rstrip(flag("rstrip"))
                    .normalized(flag("normalized"))
                    .single_word(flag("single_word")),
            )
        }
        _ => None,
    }
}

/// What is written is read back with the ids that were trained: by a class that takes `tokenizer.json` as it is, and not by the one
/// that the base names, which transformers would build anew from the vocabulary.
pub(super) fn save(from: &ChatTokenizer, dir: &Path) -> Result<(), DataError> {
    from.check_template()?;
    std::fs::create_dir_all(dir).map_err(DataError::io(dir))?;
    let mut config = from.config.clone();
    config.insert("bos_token".into(), json!(from.bos.as_ref().map(|bos| &bos.text)));
    config.insert("eos_token".into(), json!(from.eos.text));
    config.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
    config.retain(|name, _| !REBUILDS.contains(&name.as_str()));
    let failed = |e: &dyn std::fmt::Display| DataError::file(dir.display(), e);
    let tokenizer = serde_json::to_value(&from.tokenizer).map_err(|e| failed(&e))?;
    // transformers 4 sets this anew, to false where the configuration does not say it.
    if let Some(space) = tokenizer["pre_tokenizer"].get("add_prefix_space").filter(|space| space.is_boolean()) {
        config.insert("add_prefix_space".into(), space.clone());
    }
    let tokenizer = from.tokenizer.to_string(true).map_err(|e| failed(&e))?;
    let config = serde_json::to_string_pretty(&config).map_err(|e| failed(&e))? + "\n";
    for (name, text) in [(TOKENIZER, tokenizer.as_str()), (CONFIG, &config), (TEMPLATE, from.template.source())] {
        write_file(dir.join(name), text)?;
    }
    Ok(())
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
    config.remove(CONTROL);
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
    let Some(bytes) = read_small(&path, LARGEST_CONFIG)? else { return Ok(None) };
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| DataError::file(path.display(), "is not UTF-8; convert the file, for example with iconv"))
}

fn optional_object(dir: &Path, name: &str) -> Result<Map<String, Value>, DataError> {
    let text = optional(dir, name)?;
    text.map_or(Ok(Map::new()), |text| object(&text, &dir.join(name).display().to_string()))
}
