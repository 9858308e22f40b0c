//! One row of a file as named fields, taken out one by one: what is left over was not read, and is counted.

use serde_json::{Map, Value};

use crate::DataError;
use crate::jsonl::JsonLine;
use crate::rows::json::{self, kind};

/// Columns without which a row means something else: a model cannot be taught what they say.
pub(super) const TELLING: [&str; 10] =
    ["tools", "functions", "images", "image", "videos", "video", "audios", "audio", "documents", "chat_template_kwargs"];

pub(super) struct Record {
    pub file: String,
    /// Counted from 1, by lines or by rows as the kind of file has it.
    pub number: usize,
    pub unit: Unit,
    pub fields: Map<String, Value>,
    /// The names of its columns, those that were taken out included.
    columns: Vec<String>,
}

/// What the numbers of a file's records count.
#[derive(Clone, Copy)]
pub(super) enum Unit {
    Line,
    /// Elements of a JSON array, or rows of CSV; each begins at this line.
    Element(usize),
    #[cfg(feature = "parquet")]
    Row,
}

impl Unit {
    pub(super) fn error(self, file: &str, number: usize, problem: impl Into<String>) -> DataError {
        let (file, problem) = (file.to_owned(), problem.into());
        match self {
            Self::Line => DataError::Line { file, line: number, problem },
            Self::Element(line) => DataError::Line { file, line, problem: format!("row {number}: {problem}") },
            #[cfg(feature = "parquet")]
            Self::Row => DataError::ParquetRow { file, row: number, problem },
        }
    }
}

/// Why a record gives no row.
pub enum Fault {
    /// The row is well-formed but of no use; counted under this reason.
    Drop(&'static str),
    /// The row's format cannot give what is wanted.
    Unfit(String),
    /// The file is not what it should be.
    Error(DataError),
}

impl From<DataError> for Fault {
    fn from(error: DataError) -> Self {
        Self::Error(error)
    }
}

impl Record {
    pub(super) fn from_line(line: &JsonLine) -> Result<Self, DataError> {
        Ok(Self::new(line.file().to_owned(), line.number(), Unit::Line, line.fields()?))
    }

    pub(super) fn new(file: String, number: usize, unit: Unit, fields: Map<String, Value>) -> Self {
        let columns = fields.keys().cloned().collect();
        Self { file, number, unit, fields, columns }
    }

    /// Its columns, for messages.
    pub(super) fn columns(&self) -> String {
        self.columns.join(", ")
    }

    pub(super) fn error(&self, problem: impl Into<String>) -> DataError {
        self.unit.error(&self.file, self.number, problem)
    }

    fn field_error(&self, field: &str, problem: impl std::fmt::Display) -> DataError {
        self.error(format!("field `{field}` {problem}"))
    }

    pub(super) fn has(&self, field: &str) -> bool {
        self.fields.get(field).is_some_and(|value| !value.is_null())
    }

    pub(super) fn has_all(&self, fields: &[&str]) -> bool {
        fields.iter().all(|field| self.has(field))
    }

    pub(super) fn is_text(&self, field: &str) -> bool {
        self.fields.get(field).is_some_and(Value::is_string)
    }

    /// A field that may be missing or null.
    pub(super) fn take(&mut self, field: &str) -> Option<Value> {
        self.fields.remove(field).filter(|value| !value.is_null())
    }

    pub(super) fn need(&mut self, field: &str) -> Result<Value, DataError> {
        if self.fields.get(field) == Some(&Value::Null) {
            return Err(self.field_error(field, "is null; give it a value, or take the row out"));
        }
        self.take(field).ok_or_else(|| {
            let columns = self.columns();
            self.field_error(field, format_args!("is missing; the row has [{columns}]. Rename the column, or state another format"))
        })
    }

    pub(super) fn text(&mut self, field: &str) -> Result<String, DataError> {
        match self.need(field)? {
            Value::String(text) => Ok(text),
            other => Err(self.field_error(field, format_args!("is {}; a string is needed", kind(&other)))),
        }
    }

    pub(super) fn optional_text(&mut self, field: &str) -> Result<Option<String>, DataError> {
        if self.has(field) { self.text(field).map(Some) } else { Ok(None) }
    }

    pub(super) fn optional_bool(&mut self, field: &str) -> Result<Option<bool>, DataError> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(other) => Err(self.field_error(field, format_args!("is {}; true or false is needed", kind(&other)))),
        }
    }

    /// An id may be a string or a number.
    pub(super) fn id(&mut self) -> Result<Option<String>, DataError> {
        match self.take("id") {
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text)),
            None => Ok(None),
            Some(other) => Err(self.field_error("id", format_args!("is {} or empty; a string or a number is needed", kind(&other)))),
        }
    }

    /// A field through one of the schema's own parsers.
    pub(super) fn parse<T>(&mut self, field: &str, parse: fn(Value) -> Result<T, String>) -> Result<T, DataError> {
        let value = self.need(field)?;
        parse(value).map_err(|problem| self.field_error(field, problem))
    }

    pub(super) fn completion(&mut self, field: &str) -> Result<String, Fault> {
        let text = self.parse(field, json::parse_completion)?;
        if text.trim().is_empty() { Err(Fault::Drop("an empty response")) } else { Ok(text) }
    }
}
