//! Files of rows in, one checked schema out.

mod dia_safety;
mod format;
mod hh;
mod lines;
mod messages;
mod parsed;
mod persona;
mod preferences;
mod prompts;
mod quickstart;
mod record;
mod topical;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

use crate::DataError;
use crate::dialogue::Dialogue;
use crate::rows::{Preference, Prompt, Row, SftExample};
pub use format::{Format, detect};
pub(crate) use hh::{is_transcript, parse_transcript};
use lines::Input;
use parsed::Parsed;
use record::Fault;

/// What became of the lines of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ReadReport {
    /// Lines that hold a row.
    pub read: usize,
    /// Rows returned; a quickstart line gives three examples to fine-tune on.
    pub kept: usize,
    /// Rows left out, by reason.
    pub dropped: BTreeMap<String, usize>,
    /// Columns that the format has no use for (TRL's `ref_chosen_logps`, …), with the number of rows that had them.
    pub ignored_columns: BTreeMap<String, usize>,
}

/// A JSONL file (gzipped or not), or such text inside the program; nothing is read before rows are asked for.
///
/// ```
/// use adpo_data::RowFile;
///
/// let text = r#"{"prompt": "How long does paint take to dry?", "chosen": "An hour or two.", "rejected": "Who cares."}"#;
/// let (rows, report) = RowFile::from_text("three-words", text).preferences()?;
/// assert_eq!(rows[0].id, "three-words:1");
/// assert_eq!(rows[0].value.chosen, "An hour or two.");
/// assert_eq!((report.read, report.kept), (1, 1));
/// # Ok::<(), adpo_data::DataError>(())
/// ```
#[derive(Debug, Clone)]
pub struct RowFile {
    input: Input,
    source: Option<String>,
    format: Option<Format>,
    licence: Option<String>,
}

impl RowFile {
    /// Rows of a file.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self { input: Input::File(path.as_ref().to_owned()), source: None, format: None, licence: None }
    }

    /// Rows of a text; `name` stands for the file's name in ids and errors.
    pub fn from_text(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { input: Input::Text { name: name.into(), text: text.into() }, source: None, format: None, licence: None }
    }

    /// Reads as `format`, where it would be detected from the first row otherwise.
    #[must_use]
    pub fn with_format(mut self, format: Format) -> Self {
        self.format = Some(format);
        self
    }

    /// Says what stands for the file in row ids, where it would be its name without folders: two files may share that.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<String>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// States the licence of rows that state none.
    #[must_use]
    pub fn with_licence(mut self, licence: impl Into<String>) -> Self {
        self.licence = Some(licence.into());
        self
    }

    /// The format given, or the one that the first row has.
    ///
    /// # Errors
    /// [`DataError`] if the file cannot be read, has no rows, or its first row fits no format.
    pub fn format(&self) -> Result<Format, DataError> {
        match self.format {
            Some(format) => Ok(format),
            None => match self.input.lines()?.next_record()? {
                Some(record) => format::of(&record),
                None => Err(DataError::file(self.input.name(), "has no rows; one JSON object per line is needed")),
            },
        }
    }

    /// Dialogues to fine-tune on. From preferences: the chosen answers (a rejected answer is not thereby toxic, and
    /// nothing to imitate either); from chats: up to the last assistant turn; from quickstart rows: three each, of
    /// which the rude one is labelled toxic.
    ///
    /// # Errors
    /// [`DataError`] names file and line of the first row that is malformed, or that the format cannot give.
    pub fn sft(&self) -> Result<(Vec<Row<SftExample>>, ReadReport), DataError> {
        self.read(Parsed::into_sft)
    }

    /// Preferences: from transcript pairs, TRL columns and triples.
    ///
    /// # Errors
    /// As [`RowFile::sft`].
    pub fn preferences(&self) -> Result<(Vec<Row<Preference>>, ReadReport), DataError> {
        self.read(Parsed::into_preference)
    }

    /// Prompts: what precedes the last answer.
    ///
    /// # Errors
    /// As [`RowFile::sft`].
    pub fn prompts(&self) -> Result<(Vec<Row<Prompt>>, ReadReport), DataError> {
        self.read(Parsed::into_prompt)
    }

    /// Dialogues as they stand; preferences end with the chosen answer.
    ///
    /// # Errors
    /// As [`RowFile::sft`].
    pub fn dialogues(&self) -> Result<(Vec<Row<Dialogue>>, ReadReport), DataError> {
        self.read(|parsed| Ok(vec![("", parsed.into_dialogue())]))
    }

    /// Reads all lines; `convert` turns what a line says into the values wanted, each with a suffix for its id.
    fn read<T>(&self, convert: impl Fn(Parsed) -> Converted<T>) -> Result<(Vec<Row<T>>, ReadReport), DataError> {
        let format = self.format()?;
        let source = self.source.clone().unwrap_or_else(|| self.input.source());
        let mut lines = self.input.lines()?;
        let (mut rows, mut report, mut ids) = (Vec::new(), ReadReport::default(), BTreeSet::new());
        while let Some(mut record) = lines.next_record()? {
            report.read += 1;
            let line = record.line;
            let source = record.optional_text("source")?.unwrap_or_else(|| source.clone());
            let given_licence = record.optional_text("licence")?.or(record.optional_text("license")?);
            let licence = given_licence.or_else(|| self.licence.clone());
            let mut id = record.id()?.unwrap_or_else(|| format!("{source}:{line}"));
            if !ids.insert(id.clone()) {
                // Random streams are named after ids, so two rows must not share one.
                id = format!("{id}@{line}");
                ids.insert(id.clone());
            }
            let values = match format.parse(&mut record) {
                Ok(parsed) => convert(parsed),
                Err(fault) => Err(fault),
            };
            match values {
                Ok(values) => rows.extend(values.into_iter().map(|(suffix, value)| Row {
                    id: format!("{id}{suffix}"),
                    source: source.clone(),
                    licence: licence.clone(),
                    value,
                })),
                Err(Fault::Drop(reason)) => *report.dropped.entry(reason.to_owned()).or_default() += 1,
                Err(Fault::Unfit(problem)) => return Err(record.error(problem)),
                Err(Fault::Error(error)) => return Err(error),
            }
            for column in std::mem::take(&mut record.fields).into_iter().map(|(column, _)| column) {
                *report.ignored_columns.entry(column).or_default() += 1;
            }
        }
        report.kept = rows.len();
        Ok((rows, report))
    }
}

/// Values with a suffix for the row's id each, or why there are none.
type Converted<T> = Result<Vec<(&'static str, T)>, Fault>;

/// Dialogues of a file whose format is detected; see [`RowFile::dialogues`].
///
/// # Errors
/// As [`RowFile::sft`].
pub fn read_dialogues(path: impl AsRef<Path>) -> Result<(Vec<Row<Dialogue>>, ReadReport), DataError> {
    RowFile::new(path).dialogues()
}

/// Preferences of a file whose format is detected; see [`RowFile::preferences`].
///
/// # Errors
/// As [`RowFile::sft`].
pub fn read_preferences(path: impl AsRef<Path>) -> Result<(Vec<Row<Preference>>, ReadReport), DataError> {
    RowFile::new(path).preferences()
}

/// Prompts of a file whose format is detected; see [`RowFile::prompts`].
///
/// # Errors
/// As [`RowFile::sft`].
pub fn read_prompts(path: impl AsRef<Path>) -> Result<(Vec<Row<Prompt>>, ReadReport), DataError> {
    RowFile::new(path).prompts()
}

/// Dialogues to fine-tune on from a file whose format is detected; see [`RowFile::sft`].
///
/// # Errors
/// As [`RowFile::sft`].
pub fn read_sft(path: impl AsRef<Path>) -> Result<(Vec<Row<SftExample>>, ReadReport), DataError> {
    RowFile::new(path).sft()
}
