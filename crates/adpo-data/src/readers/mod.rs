//! Files of rows in, one checked schema out.

mod array;
mod csv;
mod formats;
mod input;
mod markup;
#[cfg(feature = "parquet")]
mod parquet;
mod parsed;
mod record;
mod stream;

use std::path::Path;

use crate::DataError;
use crate::dialogue::Dialogue;
use crate::rows::{Preference, Prompt, Row, SftExample};
pub use formats::Format;
use input::Input;
pub(crate) use parsed::Kind;
pub use stream::{ReadReport, RowValue, Rows};

/// A JSONL file, a JSON array of rows or a `.csv` (gzipped or not), or JSON inside the program; with the feature `parquet`, a Parquet
/// file too. Nothing is read before rows are asked for.
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
            None => match self.input.records()?.next() {
                Some(record) => Format::of(&record?),
                None => Err(DataError::file(self.input.name(), "has no rows; one JSON object per line, or one row per example, is needed")),
            },
        }
    }

    /// The file's rows one at a time, so that memory does not grow with their text; the other methods collect them.
    ///
    /// # Errors
    /// As [`RowFile::format`]; the rows' own errors are items of the iterator.
    pub fn rows<T: RowValue>(&self) -> Result<Rows<'_, T>, DataError> {
        let source = self.source.clone().unwrap_or_else(|| self.input.source());
        Ok(Rows::new(self.format()?, source, self.licence.clone(), self.input.records()?))
    }

    /// Dialogues to fine-tune on. From preferences: the chosen responses (a rejected response is not thereby toxic, and
    /// nothing to imitate either); from chats: up to the last assistant turn; from quickstart rows: three each, of
    /// which the rude one is labelled toxic.
    ///
    /// # Errors
    /// [`DataError`] names file and line of the first row that is malformed, or that the format cannot give.
    pub fn sft(&self) -> Result<(Vec<Row<SftExample>>, ReadReport), DataError> {
        self.rows()?.all()
    }

    /// Preferences: from transcript pairs, TRL columns and triples.
    ///
    /// # Errors
    /// As [`RowFile::sft`].
    pub fn preferences(&self) -> Result<(Vec<Row<Preference>>, ReadReport), DataError> {
        self.rows()?.all()
    }

    /// Prompts: what precedes the last response.
    ///
    /// # Errors
    /// As [`RowFile::sft`].
    pub fn prompts(&self) -> Result<(Vec<Row<Prompt>>, ReadReport), DataError> {
        self.rows()?.all()
    }

    /// Dialogues as they stand; preferences end with the chosen response.
    ///
    /// # Errors
    /// As [`RowFile::sft`].
    pub fn dialogues(&self) -> Result<(Vec<Row<Dialogue>>, ReadReport), DataError> {
        self.rows()?.all()
    }
}

/// The format of a file, by the columns of its first row.
///
/// # Errors
/// As [`RowFile::format`].
pub fn detect(path: impl AsRef<Path>) -> Result<Format, DataError> {
    RowFile::new(path).format()
}

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
