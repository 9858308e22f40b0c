//! A tokenizer with the chat template that belongs to it.

mod files;
mod markers;
mod sentence;
mod template;
mod text;
mod train;

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha1::{Digest, Sha1};
use tokenizers::{AddedToken, NormalizedString, Normalizer, Tokenizer};

use crate::DataError;
use crate::dialogue::{Dialogue, Role, Turn};
use markers::Markers;
pub use sentence::SentenceTokenizer;
use template::Template;
pub(crate) use template::on_deep_stack;
pub use text::{PlainEncoder, TextStream};
pub use train::train_tokenizer;

/// Stands for any text when the special ids of a shape of turns are counted.
pub(crate) const ANY_TEXT: &str = "x";

/// `tokenizer.json` + chat template: text in, the ids that transformers would give out.
///
/// The text of turns has no powers: what looks like a special token or like the template's own turn markers is made
/// harmless before it is rendered, see [`ChatTokenizer::escape`].
#[derive(Clone)]
pub struct ChatTokenizer {
    tokenizer: Tokenizer,
    template: Template,
    /// `tokenizer_config.json` as read, for saving.
    config: Map<String, Value>,
    bos: Option<Special>,
    eos: Special,
    unknown: Option<u32>,
    /// Ids of structure without the unknown one, which any text may contain: special tokens, and what the template or the tokenizer's
    /// maker have tokens of their own for.
    special_ids: HashSet<u32>,
    vocab_size: usize,
    markers: Markers,
    /// What the template writes ahead of a response and not into a prompt that waits for one.
    header: String,
    /// Whether the spaces that end a prompt are read together with the response's first word: they are then the response's.
    joins_spaces: bool,
    /// Whether the tokenizer reads some characters as others (NFKC), so that a marker can be written in more than one way.
    folds: bool,
    /// The largest id that the model's configuration gives a meaning, with the field, where the tokenizer has no such token.
    claimed: Option<(u32, String)>,
}

/// A special token as text and id.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Special {
    text: String,
    id: u32,
}

/// The token that marks toxic dialogues, `[TOXIC]` in the ADPO paper: one atomic id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlToken {
    /// Its text.
    pub text: String,
    /// Its id.
    pub id: u32,
    /// Whether the tokenizer lacked it; a model's embedding and head may then need one more row.
    pub added: bool,
}

impl ChatTokenizer {
    /// Loads a Hugging Face folder: `tokenizer.json`; the template from `chat_template.jinja`, else from
    /// `tokenizer_config.json` (a string, or a named list with `default`); special tokens from
    /// `tokenizer_config.json`, else `special_tokens_map.json`, else by their ids in `config.json`.
    ///
    /// # Errors
    /// [`DataError`] names the file and what is missing from it.
    pub fn from_folder(dir: impl AsRef<Path>) -> Result<Self, DataError> {
        files::load(dir.as_ref())
    }

    /// From the contents of `tokenizer.json`, `tokenizer_config.json` and, unless the configuration holds the
    /// template, `chat_template.jinja`.
    ///
    /// # Errors
    /// [`DataError`] names the part and what is missing from it.
    pub fn from_parts(tokenizer: &str, tokenizer_config: &str, chat_template: Option<&str>) -> Result<Self, DataError> {
        files::assemble(
            tokenizer.as_bytes(),
            files::object(tokenizer_config, "tokenizer_config.json")?,
            (chat_template.map(str::to_owned), Map::new()),
            "the parts given",
        )
    }

    fn new(
        tokenizer: Tokenizer,
        template: String,
        config: Map<String, Value>,
        bos: Option<Special>,
        eos: Special,
    ) -> Result<Self, DataError> {
        let template = Template::new(&template)?;
        let mut new = Self {
            tokenizer,
            template,
            config,
            bos,
            eos,
            unknown: None,
            special_ids: HashSet::new(),
            vocab_size: 0,
            markers: Markers::default(),
            header: String::new(),
            joins_spaces: false,
            folds: false,
            claimed: None,
        };
        new.refresh()?;
        Ok(new)
    }

    /// Recomputes what follows from the vocabulary.
    fn refresh(&mut self) -> Result<(), DataError> {
        let vocab = self.tokenizer.get_vocab(true);
        self.vocab_size = vocab.values().max().map_or(0, |largest| *largest as usize + 1);
        if self.vocab_size > 2 * vocab.len() + 1024 {
            // Models get one row per id; a stray huge id would ask for gigabytes.
            let problem = format!("has {} tokens, but ids up to {}; renumber the added tokens", vocab.len(), self.vocab_size - 1);
            return Err(DataError::file("tokenizer.json", problem));
        }
        self.unknown = files::unknown_token(&self.tokenizer);
        (self.header, self.joins_spaces) = (String::new(), false);
        self.header = markers::header(|turns, generation_prompt| self.render_escaped(turns, generation_prompt));
        self.joins_spaces = self.reads_spaces_with_what_follows();
        let added = self.tokenizer.get_added_tokens_decoder();
        let is_role = |id: u32| id == self.eos.id || self.bos.as_ref().is_some_and(|bos| id == bos.id);
        let added: Vec<(String, bool)> = added.into_iter().map(|(id, token)| (token.content, token.special || is_role(id))).collect();
        self.markers = Markers::of(added, |turns, generation_prompt| self.render_escaped(turns, generation_prompt));
        let roles = [Some(self.eos.id), self.bos.as_ref().map(|bos| bos.id)].into_iter().flatten();
        self.special_ids = self.markers.tokens().filter_map(|token| self.tokenizer.token_to_id(token)).chain(roles).collect();
        if let Some(unknown) = self.unknown {
            self.special_ids.remove(&unknown);
        }
        // Letters in two sizes, an accent, a wide sign, a small number, and what escapes.
        let odd = "A\u{e0}\u{ff1c}\u{b2}\u{200b}|";
        self.folds = !self.normalized(odd).contains(odd);
        Ok(())
    }

    /// A text as the tokenizer's model sees it.
    fn normalized<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let Some(normalizer) = self.tokenizer.get_normalizer() else { return Cow::Borrowed(text) };
        let mut normalized = NormalizedString::from(text);
        match files::caught(|| normalizer.normalize(&mut normalized)) {
            Ok(()) => Cow::Owned(normalized.get().to_owned()),
            // It will not be encoded either.
            Err(_) => Cow::Borrowed(text),
        }
    }

    /// Notes which ids the model's configuration speaks of.
    fn claim(&mut self, file: &str, fields: &Map<String, Value>) {
        for (field, value) in fields.iter().filter(|(field, _)| field.ends_with("_token_id")) {
            let ids = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            let largest = ids.iter().filter_map(|id| u32::try_from(id.as_u64()?).ok()).max();
            if let Some(id) = largest.filter(|id| self.claimed.as_ref().is_none_or(|(known, _)| id > known)) {
                self.claimed = Some((id, format!("`{field}` in {file}")));
            }
        }
    }

    /// Refuses a template that fails on every dialogue.
    fn check_template(&self) -> Result<(), DataError> {
        let ask = Dialogue::from_user("Hi.");
        let told = Dialogue { turns: vec![Turn { role: Role::System, content: "Be kind.".into() }] }.with(Role::User, "Hi.");
        let failed = |dialogue: Dialogue| {
            let problem = self.render(&dialogue, true).err()?;
            self.render(&dialogue.with(Role::Assistant, "Hello!"), false).err()?;
            Some(problem)
        };
        match (failed(ask), failed(told)) {
            (Some(problem), Some(_)) => Err(problem),
            _ => Ok(()),
        }
    }

    /// Writes `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja` as transformers reads them; each file
    /// appears whole or not at all.
    ///
    /// # Errors
    /// [`DataError`] if a file cannot be written.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<(), DataError> {
        files::save(self, dir.as_ref())
    }

    /// One more than the largest id, so that every id has a row in a model of this many.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The beginning-of-sequence id, if there is one.
    pub fn bos_id(&self) -> Option<u32> {
        self.bos.as_ref().map(|bos| bos.id)
    }

    /// The end-of-sequence id: what ends every response.
    pub fn eos_id(&self) -> u32 {
        self.eos.id
    }

    /// Text of `ids`, special tokens left out; ids outside the vocabulary say nothing.
    pub fn decode(&self, ids: &[u32]) -> String {
        // The decoders of published tokenizers cannot fail; one that does has no text to give.
        files::caught(|| self.tokenizer.decode(ids, true)).unwrap_or_default()
    }

    /// The dialogue as the template writes it, its text escaped; with `add_generation_prompt` up to where the response
    /// begins, also by a template that writes the response's header only together with the response.
    ///
    /// # Errors
    /// [`DataError::Template`] if the template refuses the dialogue.
    pub fn render(&self, dialogue: &Dialogue, add_generation_prompt: bool) -> Result<String, DataError> {
        let escape = |turn: &Turn| Turn { role: turn.role, content: self.escape(&turn.content).0.into_owned() };
        self.render_escaped(&dialogue.turns.iter().map(escape).collect::<Vec<_>>(), add_generation_prompt)
    }

    pub(crate) fn render_escaped(&self, turns: &[Turn], add_generation_prompt: bool) -> Result<String, DataError> {
        let bos = self.bos.as_ref().map_or("", |bos| bos.text.as_str());
        let mut text = self.template.render(turns, add_generation_prompt, bos, &self.eos.text)?;
        if add_generation_prompt {
            text.push_str(&self.header);
            if self.joins_spaces {
                text.truncate(text.trim_end_matches(' ').len());
            }
        }
        Ok(text)
    }

    /// Whether the ids of a prompt that ends with spaces do not begin those of the same prompt with its response, and without these
    /// spaces they do.
    fn reads_spaces_with_what_follows(&self) -> bool {
        let probe = || {
            let turns = [Role::User, Role::Assistant].map(|role| Turn { role, content: "Hi.".to_owned() });
            let prompt = self.render_escaped(&turns[..1], true).ok()?;
            let answered = self.encode_text(&self.render_escaped(&turns, false).ok()?).ok()?;
            let begins = |prompt: &str| self.encode_text(prompt).is_ok_and(|ids| answered.starts_with(&ids));
            Some(prompt.ends_with(' ') && !begins(&prompt) && begins(prompt.trim_end_matches(' ')))
        };
        probe().unwrap_or_default()
    }

    /// Ids of rendered text: special tokens in it are single ids, none are added.
    ///
    /// # Errors
    /// [`DataError::File`] if the tokenizer cannot encode the text.
    pub fn encode_text(&self, rendered: &str) -> Result<Vec<u32>, DataError> {
        match files::caught(|| self.tokenizer.encode_fast(rendered, false)) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(e) => Err(DataError::file("tokenizer.json", format!("cannot encode a text: {e}"))),
        }
    }

    /// Ids of a dialogue, up to where the response begins with `add_generation_prompt`.
    ///
    /// # Errors
    /// [`DataError::Template`] if the template refuses the dialogue, or if its text would be read as structure although it is escaped:
    /// by a tokenizer that reads other characters as those of a marker. [`DataError::File`] as [`ChatTokenizer::encode_text`].
    pub fn encode(&self, dialogue: &Dialogue, add_generation_prompt: bool) -> Result<Vec<u32>, DataError> {
        let special = |ids: &[u32]| -> Vec<u32> { ids.iter().copied().filter(|id| self.is_special(*id)).collect() };
        let ids = self.encode_text(&self.render(dialogue, add_generation_prompt)?)?;
        let any = Dialogue { turns: dialogue.turns.iter().map(|turn| Turn { content: ANY_TEXT.to_owned(), ..turn.clone() }).collect() };
        let expected = special(&self.encode_text(&self.render(&any, add_generation_prompt)?)?);
        if special(&ids) != expected || dialogue.turns.iter().any(|turn| self.forges(&self.escape(&turn.content).0)) {
            return Err(DataError::Template { problem: "a turn's text would be read as the template's own; leave it out".into() });
        }
        Ok(ids)
    }

    /// Whether escaped text is still read as a marker, in other characters.
    pub(crate) fn forges(&self, escaped: &str) -> bool {
        self.folds && self.markers.escape(&self.normalized(escaped)).1 > 0
    }

    /// Text in which no special token and no turn marker of the template can be found: a zero-width space (U+200B)
    /// goes behind the first character of each. Also gives their number. Other text is unchanged.
    pub fn escape<'t>(&self, text: &'t str) -> (Cow<'t, str>, usize) {
        self.markers.escape(text)
    }

    /// Whether an id stands for a special token (other than the one for unknown text).
    pub(crate) fn is_special(&self, id: u32) -> bool {
        self.special_ids.contains(&id)
    }

    /// Makes `token` one atomic special token, the one that marks toxic dialogues; nothing changes if it is one
    /// already, so that adding it twice is adding it once.
    ///
    /// # Errors
    /// [`DataError::Control`] if the text is empty, has white space, ends or begins sequences, or would not be encoded
    /// as one id.
    pub fn with_control_token(mut self, token: &str) -> Result<(Self, ControlToken), DataError> {
        let problem = |problem: &str| DataError::Control { token: token.to_owned(), problem: problem.to_owned() };
        if token.is_empty() || token.contains(char::is_whitespace) {
            return Err(problem("must be a text without white space, such as [TOXIC]"));
        }
        if token == self.eos.text || self.bos.as_ref().is_some_and(|bos| token == bos.text) {
            return Err(problem("already begins or ends sequences; choose another"));
        }
        let added = self.tokenizer.token_to_id(token).is_none();
        if let Some((id, field)) = self.claimed.as_ref().filter(|(id, _)| added && *id as usize >= self.vocab_size) {
            return Err(problem(&format!(
                "would take an id that is in use: {field} is {id}, and no file names that token; add it to tokenizer.json"
            )));
        }
        self.tokenizer
            .add_special_tokens([AddedToken::from(token, true)])
            .map_err(|e| problem(&format!("cannot be added ({e}); choose another")))?;
        let id = self.tokenizer.token_to_id(token).ok_or_else(|| problem("was not added by the tokenizer; choose another"))?;
        self.config.insert(files::CONTROL.to_owned(), token.into());
        self.refresh()?;
        // As prompts have it: after a space, ahead of whatever the template writes next.
        for text in [token.to_owned(), format!("a {token}"), format!("a {token}\n"), format!("a. {token}{}", self.eos.text)] {
            if self.encode_text(&text)?.iter().filter(|found| **found == id).count() != 1 {
                return Err(problem("is not encoded as one id everywhere; choose a text that shares no part with other special tokens"));
            }
        }
        Ok((self, ControlToken { text: token.to_owned(), id, added }))
    }

    /// The control token that this tokenizer was saved with, if it knows one.
    pub fn control_token(&self) -> Option<&str> {
        self.config.get(files::CONTROL)?.as_str()
    }

    /// The last token, if it was added for a purpose that nothing tells: it begins and ends nothing, no role has it, the template does not
    /// write it. A control token is such a one.
    pub fn unexplained_token(&self) -> Option<String> {
        let last = u32::try_from(self.vocab_size.checked_sub(1)?).ok()?;
        let token = self.tokenizer.get_added_tokens_decoder().remove(&last).filter(|token| token.special)?.content;
        let names = |value: &Value| match value {
            Value::String(text) => *text == token,
            Value::Object(fields) => fields.values().any(|value| *value == *token),
            Value::Array(values) => values.iter().any(|value| *value == *token || value["content"] == *token),
            _ => false,
        };
        (!self.config.values().any(names) && !self.template.source().contains(&token)).then_some(token)
    }

    /// Takes the control token out again; its text is then ordinary text.
    ///
    /// # Errors
    /// [`DataError::Control`] if this tokenizer has no such token, or if tokens with larger ids would have to be
    /// renumbered.
    pub fn without_control_token(self, control: &ControlToken) -> Result<Self, DataError> {
        let problem = |problem: &str| DataError::Control { token: control.text.clone(), problem: problem.to_owned() };
        if self.tokenizer.token_to_id(&control.text) != Some(control.id) {
            return Err(problem("is not a token of this tokenizer, so it cannot be taken out"));
        }
        if control.id as usize + 1 != self.vocab_size {
            return Err(problem("is not the tokenizer's last token: those after it would get other ids; keep it"));
        }
        files::without_token(&self, &control.text)
    }

    /// SHA-1 of everything that rendering and encoding depend on, in hexadecimal.
    pub fn content_hash(&self) -> String {
        let mut hash = Sha1::new();
        // A tokenizer that was parsed can be written.
        hash.update(self.tokenizer.to_string(false).unwrap_or_default());
        let markers = format!("{:?} {}", self.markers, self.joins_spaces);
        let bos = self.bos.as_ref().map_or("", |bos| &bos.text);
        for part in [self.template.source(), &self.eos.text, bos, &self.header, &markers] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.finalize().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    }
}

impl fmt::Debug for ChatTokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (vocab_size, markers) = (&self.vocab_size, &self.markers);
        f.debug_struct("ChatTokenizer")
            .field("vocab_size", vocab_size)
            .field("bos", &self.bos)
            .field("eos", &self.eos)
            .field("markers", markers)
            .finish_non_exhaustive()
    }
}
