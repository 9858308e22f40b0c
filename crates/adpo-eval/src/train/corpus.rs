//! The labelled rows that the embedded heads learn from, and the rule that keeps weight sets apart.

use std::collections::BTreeMap;
use std::path::Path;

use adpo_data::{DataError, JsonLine, JsonLines};
use serde_json::Value;

use crate::embedded::rules;
use crate::embedded::weights::row_hash;
use crate::error::EvalError;

/// A request with one labelled response.
#[derive(Debug, Clone)]
pub(crate) struct LabelledResponse {
    /// What the split goes by: context, prompt, question, or the text itself.
    pub(crate) key: String,
    pub(crate) request: String,
    pub(crate) response: String,
    pub(crate) label: Label,
}

impl LabelledResponse {
    /// Who gave the response, as far as the data tell: the model of XSTest, the last voice in the role play of GPTFuzz.
    pub(crate) fn giver(&self) -> Option<String> {
        match &self.label {
            Label::Refusal { model, .. } => Some(model.clone()),
            Label::Harm(_) => rules::voice(&self.response),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Label {
    /// Davidson et al.: hateful or offensive, against neither.
    Abuse(bool),
    /// The project's own sentences about groups of people and of editors at work: abusive or not.
    Comment(bool),
    /// DiaSafety: its category, and whether people found the response unsafe.
    Unsafe { category: usize, is: bool },
    /// GPTFuzz: harmful compliance with a harmful question.
    Harm(bool),
    /// XSTest: any refusal; whether the prompt was an unsafe one; which model wrote the response.
    Refusal { is: bool, partial: bool, unsafe_prompt: bool, model: String },
    /// The project's own pairs: a response that evades, or one that answers in words that refusals and violence use.
    LookAlike { evades: bool },
}

/// Categories of DiaSafety, in the order of the router's outputs; everyday talk comes after them.
pub(crate) const CATEGORIES: [&str; 5] =
    ["Offending User", "Risk Ignorance", "Unauthorized Expertise", "Toxicity Agreement", "Biased Opinion"];

/// The router's output for everyday talk.
pub(crate) const EVERYDAY: usize = CATEGORIES.len();

/// Where short responses that answer come from: see [`Corpus::read`].
pub(crate) const SHORT: &str = "short";

/// Everyday talk that is used besides, and of how many dialogues one: about as many turns as the other chats have.
const CHAT_BASE: [(&str, usize); 2] = [("selfd", 6), ("chitchat", 3)];

/// A dialogue between two people.
#[derive(Debug, Clone)]
pub(crate) struct Chat {
    pub(crate) key: String,
    pub(crate) source: &'static str,
    pub(crate) turns: Vec<String>,
}

/// One of the project's own requests with its three responses.
#[derive(Debug, Clone)]
pub(crate) struct Own {
    pub(crate) request: String,
    pub(crate) harsh: bool,
    pub(crate) good: String,
    pub(crate) evasive: String,
    pub(crate) rude: String,
}

/// Which buckets of which data sets are somebody's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    /// Of sets that policies learn from or answer: DiaSafety and the project's own dialogues.
    pub(crate) shared: &'static [u8],
    /// Of sets whose prompts alone are put to policies: GPTFuzz and XSTest.
    pub(crate) prompts: &'static [u8],
    /// Of sets that no policy learns preferences from or is asked about: Davidson and the chats.
    pub(crate) free: &'static [u8],
}

impl Share {
    const fn of(&self, label: &Label) -> &'static [u8] {
        match label {
            Label::Unsafe { .. } => self.shared,
            Label::Harm(_) | Label::Refusal { .. } => self.prompts,
            Label::Abuse(_) | Label::Comment(_) | Label::LookAlike { .. } => self.free,
        }
    }
}

/// What no weight set learns from: agreement is measured here.
pub(crate) const VALIDATION: Share = Share { shared: &[5], prompts: &[5], free: &[5] };

/// A response with people's mean overall rating.
#[derive(Debug, Clone)]
pub(crate) struct Rated {
    pub(crate) source: &'static str,
    /// The dialogue before the response.
    pub(crate) turns: Vec<String>,
    pub(crate) response: String,
    pub(crate) rating: f64,
}

/// Folds for calibration.
pub(crate) const FOLDS: u64 = 5;

/// All rows, or those of some split buckets.
#[derive(Debug, Clone, Default)]
pub struct Corpus {
    pub(crate) pairs: Vec<LabelledResponse>,
    pub(crate) chats: Vec<Chat>,
    pub(crate) own: Vec<Own>,
    /// Never learnt from.
    pub(crate) rated: Vec<Rated>,
}

impl Corpus {
    /// Reads Davidson, DiaSafety, GPTFuzz, XSTest, Synthetic-Persona-Chat, Topical-Chat and parts of chat-base below `data_dir` (as
    /// laid out in its SOURCES.md), the rated responses of FED and USR, the project's own dialogues, given as JSONL, and what it has beside
    /// them: short responses ("Eight.", "Not yet."), as long ones alone would teach that brevity is evasive; helpful responses in the words
    /// of refusals, with refusals in many styles; and sentences about groups of people and of editors at work.
    ///
    /// # Errors
    /// [`EvalError::Io`] for a missing file, [`EvalError::Rows`] for a row that lacks a field.
    pub fn read(data_dir: &Path, dialogues: &str) -> Result<Self, EvalError> {
        let mut corpus = Self::default();
        for row in rows(&data_dir.join("davidson/labeled_data.jsonl.gz"))? {
            let tweet = row.text("tweet")?;
            let label = Label::Abuse(row.number("class")? < 2);
            corpus.pairs.push(LabelledResponse { key: tweet.clone(), request: String::new(), response: tweet, label });
        }
        for row in rows(&data_dir.join("diasafety/diasafety.jsonl.gz"))? {
            let (request, category) = (row.text("context")?, row.text("category")?);
            let category = CATEGORIES.iter().position(|name| *name == category);
            let category = category.ok_or_else(|| row.error("an unknown category"))?;
            let label = Label::Unsafe { category, is: row.text("label")? == "Unsafe" };
            corpus.pairs.push(LabelledResponse { key: request.clone(), request, response: row.text("response")?, label });
        }
        let mut questions = BTreeMap::new();
        for row in rows(&data_dir.join("gptfuzz/questions.jsonl.gz"))? {
            questions.insert(row.text("index")?, row.text("text")?);
        }
        for row in rows(&data_dir.join("gptfuzz/train.jsonl.gz"))? {
            let request = questions.get(&row.text("question")?).ok_or_else(|| row.error("an unknown question"))?;
            let label = Label::Harm(row.text("label")? == "1");
            let response = row.text("Response")?;
            corpus.pairs.push(LabelledResponse { key: request.clone(), request: request.clone(), response, label });
        }
        for row in rows(&data_dir.join("xstest/completions.jsonl.gz"))? {
            let request = row.text("prompt")?;
            let label = Label::Refusal {
                is: row.text("final_label")? != "1_full_compliance",
                partial: row.text("final_label")? == "3_partial_refusal",
                unsafe_prompt: row.text("type")?.starts_with("contrast"),
                model: row.text("model")?,
            };
            corpus.pairs.push(LabelledResponse { key: request.clone(), request, response: row.text("completion")?, label });
        }
        for file in ["valid", "test"] {
            for row in rows(&data_dir.join(format!("synthetic-persona-chat/{file}.jsonl.gz")))? {
                corpus.add_chat("persona", persona_turns(&row.text("Best Generated Conversation")?));
            }
        }
        for file in ["valid_freq", "valid_rare", "test_rare"] {
            for row in rows(&data_dir.join(format!("topical-chat/{file}.jsonl.gz")))? {
                let turns = row.value["content"].as_array().ok_or_else(|| row.error("no list `content`"))?;
                let text = |turn: &Value| turn["message"].as_str().map(|message| message.trim().to_owned());
                corpus.add_chat("topical", turns.iter().filter_map(text).collect());
            }
        }
        for (source, every) in CHAT_BASE {
            for row in rows(&data_dir.join(format!("chat-base/{source}.jsonl.gz")))?.iter().step_by(every) {
                let turns = row.value["messages"].as_array().ok_or_else(|| row.error("no list `messages`"))?;
                corpus.add_chat(source, turns.iter().filter_map(|turn| Some(turn["content"].as_str()?.trim().to_owned())).collect());
            }
        }
        for row in parse(JsonLines::from_bytes("the project's dialogues", dialogues.as_bytes()))? {
            corpus.own.push(Own {
                request: row.text("request")?,
                harsh: row.text("tone")? == "harsh",
                good: row.text("good")?,
                evasive: row.text("evasive")?,
                rude: row.text("rude")?,
            });
        }
        for row in parse(JsonLines::from_bytes("the project's short responses", include_bytes!("../../assets/short-responses.jsonl")))? {
            corpus.add_chat(SHORT, vec![row.text("request")?, row.text("response")?]);
        }
        for row in parse(JsonLines::from_bytes("the project's look-alikes", include_bytes!("../../assets/look-alikes.jsonl")))? {
            let (request, label) = (row.text("request")?, Label::LookAlike { evades: row.flag("evasive")? });
            corpus.pairs.push(LabelledResponse { key: request.clone(), request, response: row.text("response")?, label });
        }
        for row in parse(JsonLines::from_bytes("the project's comments", include_bytes!("../../assets/comments.jsonl")))? {
            let (text, label) = (row.text("text")?, Label::Comment(row.flag("abusive")?));
            corpus.pairs.push(LabelledResponse { key: text.clone(), request: String::new(), response: text, label });
        }
        corpus.read_rated(data_dir)?;
        Ok(corpus)
    }

    fn read_rated(&mut self, data_dir: &Path) -> Result<(), EvalError> {
        let spoken = |line: &str| line.trim().trim_start_matches("User:").trim_start_matches("System:").trim().to_owned();
        // Rows without a response rate a whole dialogue.
        for row in rows(&data_dir.join("fed/fed.jsonl.gz"))?.iter().filter(|row| row.value["response"].is_string()) {
            let votes = row.value["annotations"]["Overall"].as_array().ok_or_else(|| row.error("no list `annotations.Overall`"))?;
            let votes: Vec<f64> = votes.iter().filter_map(Value::as_f64).collect();
            self.rated.push(Rated {
                source: "FED",
                turns: row.text("context")?.lines().map(spoken).collect(),
                response: spoken(&row.text("response")?),
                rating: votes.iter().sum::<f64>() / votes.len().max(1) as f64,
            });
        }
        for row in rows(&data_dir.join("usr-topicalchat/usr.jsonl.gz"))? {
            let rating = row.value["scores"]["overall"].as_f64().ok_or_else(|| row.error("no number `scores.overall`"))?;
            let turns = row.text("source")?.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect();
            self.rated.push(Rated { source: "USR", turns, response: row.text("system_output")?, rating });
        }
        Ok(())
    }

    fn add_chat(&mut self, source: &'static str, turns: Vec<String>) {
        if turns.len() >= 2 {
            self.chats.push(Chat { key: turns[0].clone(), source, turns });
        }
    }

    /// The rows whose split key `keep`s.
    pub(crate) fn filter(&self, keep: impl Fn(&str) -> bool) -> Self {
        Self {
            pairs: self.pairs.iter().filter(|pair| keep(&pair.key)).cloned().collect(),
            chats: self.chats.iter().filter(|chat| keep(&chat.key)).cloned().collect(),
            own: self.own.iter().filter(|own| keep(&own.request)).cloned().collect(),
            rated: Vec::new(),
        }
    }

    /// The rows that a share of the split gives.
    pub(crate) fn share(&self, share: &Share) -> Self {
        let has = |buckets: &[u8], key: &str| buckets.contains(&adpo_data::bucket(key));
        Self {
            pairs: self.pairs.iter().filter(|pair| has(share.of(&pair.label), &pair.key)).cloned().collect(),
            chats: self.chats.iter().filter(|chat| has(share.free, &chat.key)).cloned().collect(),
            own: self.own.iter().filter(|own| has(share.shared, &own.request)).cloned().collect(),
            rated: Vec::new(),
        }
    }

    /// All rows but those of one of [`FOLDS`] folds, and those of that fold, by key. Of who gave the responses, too, a fifth is left out
    /// of the former: a threshold has to carry over to models and role plays that no head has seen.
    pub(crate) fn fold(&self, fold: u64) -> (Self, Self) {
        let inside = |key: &str| row_hash(key) % FOLDS == fold;
        let mut rest = self.filter(|key| !inside(key));
        rest.pairs.retain(|pair| pair.giver().is_none_or(|giver| !inside(&giver)));
        (rest, self.filter(inside))
    }

    /// Content hashes of all split keys, ascending.
    pub(crate) fn hashes(&self) -> Vec<u64> {
        let keys = self.pairs.iter().map(|pair| pair.key.as_str());
        let keys = keys.chain(self.chats.iter().map(|chat| chat.key.as_str()));
        let keys = keys.chain(self.own.iter().map(|own| own.request.as_str()));
        let mut hashes: Vec<u64> = keys.map(row_hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        hashes
    }
}

fn persona_turns(conversation: &str) -> Vec<String> {
    let speech = |line: &str| {
        let line = line.trim();
        let said = line.strip_prefix("User 1:").or_else(|| line.strip_prefix("User 2:"))?.trim();
        (!said.is_empty()).then(|| said.to_owned())
    };
    conversation.lines().filter_map(speech).collect()
}

/// One parsed line, with its place for messages.
struct Line {
    line: JsonLine,
    value: Value,
}

impl Line {
    fn error(&self, reason: &str) -> EvalError {
        self.line.error(reason).into()
    }

    fn text(&self, field: &str) -> Result<String, EvalError> {
        let text = self.value[field].as_str().ok_or_else(|| self.error(&format!("no text field `{field}`")))?;
        Ok(text.trim().to_owned())
    }

    fn flag(&self, field: &str) -> Result<bool, EvalError> {
        self.value[field].as_bool().ok_or_else(|| self.error(&format!("no true or false `{field}`")))
    }

    fn number(&self, field: &str) -> Result<i64, EvalError> {
        self.value[field].as_i64().ok_or_else(|| self.error(&format!("no integer field `{field}`")))
    }
}

/// The rows of a JSONL file, gzipped or not.
fn rows(path: &Path) -> Result<Vec<Line>, EvalError> {
    parse(JsonLines::open(path)?)
}

fn parse(lines: JsonLines<'_>) -> Result<Vec<Line>, EvalError> {
    let parse = |line: Result<JsonLine, DataError>| {
        let line = line?;
        Ok(Line { value: line.fields()?.into(), line })
    };
    lines.map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn persona_lines_become_turns() {
        let turns = persona_turns("User 1: Hi!\nUser 2: Hello, you.\n\nnoise\nUser 1:  \n");
        assert_eq!(turns, ["Hi!", "Hello, you."]);
    }

    #[test]
    fn a_bad_line_is_named_with_file_and_number() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("own.jsonl");
        std::fs::write(&path, "{\"a\":1}\n{oops\n").expect("write");
        let message = rows(&path).err().expect("an error").to_string();
        assert!(message.contains("own.jsonl:2:"), "{message}");
    }
}
