//! From rows to ids: one prompt for all responses, boundaries that the template confirms, masks that say what is trained.

mod dialogue;

use std::collections::HashMap;

use rayon::prelude::*;
use serde::Serialize;

use crate::DataError;
use crate::dialogue::{Dialogue, Role};
use crate::encoded::{EncodeReport, Encoded, EncodedTriple, Mask, OverLength};
use crate::rows::{Preference, Row, SftExample};
use crate::tokenizer::{ChatTokenizer, ControlToken, on_deep_stack};
use dialogue::{EscapedTurn, escaped, with_control};

/// How rows become ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EncodingOptions {
    /// Tokens of prompt and response together, at most.
    pub max_length: usize,
    /// What happens to longer rows.
    pub over_length: OverLength,
    /// Which responses of a dialogue are trained.
    pub mask: Mask,
    /// The token that marks toxic dialogues; without one, rows labelled toxic are refused.
    pub control: Option<ControlToken>,
}

/// Encodes rows one after the other and keeps count.
///
/// A prompt is the template of its turns with the generation prompt; a response is what the template of prompt and
/// response has beyond that, up to the end-of-sequence id, which is trained. Where the longer text does not begin with
/// the ids of the shorter one, the row is left out and counted. Text of the rows can forge neither a special id nor a
/// turn: it is [escaped](ChatTokenizer::escape), and the special ids of the result are compared with those of the same
/// turns with other text.
#[derive(Debug, Clone)]
pub struct Encoder<'a> {
    tokenizer: &'a ChatTokenizer,
    options: EncodingOptions,
    report: EncodeReport,
    /// Special ids that the template writes for turns of some shape.
    special: HashMap<Shape, Vec<u32>>,
}

/// Roles, whether the turn has the control token, whether the generation prompt follows.
type Shape = (Vec<(Role, bool)>, bool);

/// Why a row has no encoding.
enum Fault {
    Drop(&'static str),
    Error(DataError),
}

impl From<DataError> for Fault {
    fn from(error: DataError) -> Self {
        Self::Error(error)
    }
}

const TOO_LONG: &str = "longer than max_length";
const NOT_A_PREFIX: &str = "the template writes the prompt in another way once a response follows";
const FORGED: &str = "the text would be encoded as a special token";

impl<'a> Encoder<'a> {
    /// An encoder that has seen nothing yet.
    pub fn new(tokenizer: &'a ChatTokenizer, options: EncodingOptions) -> Self {
        Self { tokenizer, options, report: EncodeReport::default(), special: HashMap::new() }
    }

    /// What became of the rows so far.
    pub fn report(&self) -> &EncodeReport {
        &self.report
    }

    /// A dialogue to fine-tune on, with its row's id for messages; `None` if it was left out. If its response is labelled toxic, the control token stands
    /// behind the last user turn.
    ///
    /// # Errors
    /// [`DataError`] if the template refuses the dialogue or ends no response, if a toxic row meets options without
    /// control token, or for a long row under [`OverLength::Error`].
    pub fn sft(&mut self, row: &str, example: &SftExample) -> Result<Option<Encoded>, DataError> {
        let encoded = self.encode_sft(example);
        self.count(encoded, row)
    }

    /// A preference, with a toxic response where the row has one, and with the toxic prompt where a control token is in
    /// use; `None` if it was left out.
    ///
    /// # Errors
    /// As [`Encoder::sft`].
    pub fn preference(&mut self, row: &Row<Preference>) -> Result<Option<EncodedTriple>, DataError> {
        let encoded = self.encode_preference(&row.value);
        let encoded = encoded.map(|triple| EncodedTriple { row: row.id.clone(), ..triple });
        self.count(encoded, &row.id)
    }

    /// A prompt to be answered, with the control token behind its last user turn if `toxic`, and its row's id for
    /// messages; `None` if it was left out. Of more than `max_length` tokens, [`OverLength`] says what becomes of it.
    ///
    /// # Errors
    /// As [`Encoder::sft`]; also if `toxic` is asked for without control token.
    pub fn prompt(&mut self, row: &str, dialogue: &Dialogue, toxic: bool) -> Result<Option<Vec<u32>>, DataError> {
        let encoded = self.encode_prompt(dialogue, toxic);
        self.count(encoded, row)
    }

    /// Encodes rows on all of rayon's threads by `encode`, one of the methods above. Results, their order, the report and, of several
    /// bad rows, the one whose error is given are those of encoding one after the other.
    ///
    /// # Errors
    /// The first one of `encode`, in the order of the rows.
    pub fn in_parallel<R: Sync, T: Send>(
        &mut self,
        rows: &[R],
        encode: impl Fn(&mut Self, &R) -> Result<T, DataError> + Sync,
    ) -> Result<Vec<T>, DataError> {
        // Several parts for each thread: rows differ in length.
        let part = rows.len().div_ceil(8 * rayon::current_num_threads()).max(1);
        let parts = rows.par_chunks(part).map(|part| {
            let mut encoder = Self { report: EncodeReport::default(), ..self.clone() };
            let encoded: Result<Vec<T>, DataError> = on_deep_stack(|| part.iter().map(|row| encode(&mut encoder, row)).collect());
            (encoded, encoder)
        });
        let mut all = Vec::with_capacity(rows.len());
        for (encoded, encoder) in parts.collect::<Vec<_>>() {
            all.extend(encoded?);
            self.report.add(encoder.report);
            self.special.extend(encoder.special);
        }
        Ok(all)
    }

    /// Puts a row's fate into the report.
    fn count<T>(&mut self, encoded: Result<T, Fault>, row: &str) -> Result<Option<T>, DataError> {
        match encoded {
            Ok(encoded) => {
                self.report.encoded += 1;
                Ok(Some(encoded))
            }
            Err(Fault::Drop(TOO_LONG)) if self.options.over_length == OverLength::Error => Err(DataError::Row {
                row: row.to_owned(),
                problem: format!(
                    "has more than max_length = {} tokens; raise max_length, or set over_length to \"drop\" or \"truncate_prompt\"",
                    self.options.max_length
                ),
            }),
            Err(Fault::Drop(reason)) => {
                *self.report.dropped.entry(reason.to_owned()).or_default() += 1;
                self.report.first_dropped.get_or_insert_with(|| row.to_owned());
                Ok(None)
            }
            Err(Fault::Error(error @ DataError::Template { .. })) => {
                Err(DataError::Row { row: row.to_owned(), problem: error.to_string() })
            }
            Err(Fault::Error(error)) => Err(error),
        }
    }

    fn encode_sft(&mut self, example: &SftExample) -> Result<Encoded, Fault> {
        let mut turns = self.escaped(&example.dialogue)?;
        if !example.dialogue.ends_with_assistant() {
            return Err(Fault::Drop("the dialogue does not end with the assistant"));
        }
        if example.toxic.is_some() {
            turns = with_control(turns, self.control()?);
        }
        let responses: Vec<usize> = match self.options.mask {
            Mask::Last => vec![turns.len() - 1],
            Mask::EveryAssistantTurn => (0..turns.len()).filter(|i| turns[*i].role == Role::Assistant).collect(),
        };
        let mut ids = Vec::new();
        let mut spans = Vec::with_capacity(responses.len());
        for response in responses {
            let prompt = self.ids(&turns[..response], true)?;
            let (longer, end) = self.answered(&turns[..=response], &prompt)?;
            if !longer.starts_with(&ids) {
                return Err(Fault::Drop(NOT_A_PREFIX));
            }
            ids = longer;
            ids.truncate(end);
            spans.push((prompt.len(), end));
        }
        let response = spans.last().map_or(0, |(start, end)| end - start);
        let prompt = ids[..ids.len() - response].to_vec();
        let cut = self.cut(&prompt, &turns[..turns.len() - 1], response, None)?;
        let mut trained = vec![false; ids.len()];
        // What is left of a response that the cut went through is context.
        spans.iter().filter(|(start, _)| cut.is_empty() || *start >= cut.end).for_each(|(start, end)| trained[*start..*end].fill(true));
        ids.drain(cut.clone());
        trained.drain(cut);
        Ok(Encoded { ids, trained })
    }

    fn encode_preference(&mut self, pair: &Preference) -> Result<EncodedTriple, Fault> {
        let turns = self.escaped(&pair.prompt)?;
        if !pair.prompt.ends_with_user() {
            return Err(Fault::Drop("the prompt does not end with the user"));
        }
        let mut prompt = self.ids(&turns, true)?;
        let chosen = self.response(&turns, &prompt, &pair.chosen)?;
        let rejected = self.response(&turns, &prompt, &pair.rejected)?;
        let toxic = pair.toxic.as_ref().map(|toxic| self.response(&turns, &prompt, toxic)).transpose()?;
        let longest = [Some(&chosen), Some(&rejected), toxic.as_ref()].into_iter().flatten().map(Vec::len).max().unwrap_or(0);
        let truncated = self.report.truncated;
        let cut = self.cut(&prompt, &turns, longest, None)?;
        prompt.drain(cut);
        let toxic_prompt = match self.options.control.clone() {
            None => None,
            Some(control) => {
                let marked = with_control(turns, &control);
                let mut ids = self.ids(&marked, true)?;
                let cut = self.cut(&ids, &marked, longest, Some(control.id))?;
                ids.drain(cut);
                Some(ids)
            }
        };
        // One row, however many of its prompts were cut.
        self.report.truncated = self.report.truncated.min(truncated + 1);
        Ok(EncodedTriple { row: String::new(), prompt, chosen, rejected, toxic, toxic_prompt })
    }

    fn encode_prompt(&mut self, dialogue: &Dialogue, toxic: bool) -> Result<Vec<u32>, Fault> {
        let mut turns = self.escaped(dialogue)?;
        if !dialogue.ends_with_user() {
            return Err(Fault::Drop("the prompt does not end with the user"));
        }
        let mut control = None;
        if toxic {
            let token = self.control()?;
            control = Some(token.id);
            turns = with_control(turns, token);
        }
        let mut ids = self.ids(&turns, true)?;
        let cut = match self.options.over_length {
            OverLength::Drop | OverLength::Error if ids.len() > self.options.max_length => return Err(Fault::Drop(TOO_LONG)),
            _ => self.cut_left(&ids, &turns, 0, control)?,
        };
        ids.drain(cut);
        Ok(ids)
    }

    fn escaped(&mut self, dialogue: &Dialogue) -> Result<Vec<EscapedTurn>, Fault> {
        let (turns, count) = escaped(self.tokenizer, dialogue);
        self.report.escaped += count;
        if turns.iter().any(|turn| self.tokenizer.forges(turn.text())) { Err(Fault::Drop(FORGED)) } else { Ok(turns) }
    }

    fn control(&self) -> Result<&ControlToken, Fault> {
        self.options.control.as_ref().ok_or_else(|| {
            let problem = "is needed for a toxic dialogue, and the encoding options have none; set `control` (ChatTokenizer::with_control_token), or clear the row's label";
            Fault::Error(DataError::Control { token: String::new(), problem: problem.into() })
        })
    }
}
