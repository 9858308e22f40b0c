//! The rows of a file one after the other.

use std::collections::{BTreeMap, HashSet};
use std::iter::FusedIterator;

use serde::Serialize;
use sha1::{Digest, Sha1};

use super::formats::Format;
use super::input::Records;
use super::markup;
use super::parsed::{FromParsed, Parsed};
use super::record::{Fault, Record, TELLING};
use crate::DataError;
use crate::dialogue::Dialogue;
use crate::encoded::left_out;
use crate::rows::json::blank;
use crate::rows::{Preference, Prompt, Row, SftExample};

/// What became of the lines of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ReadReport {
    /// Lines (of a Parquet file: rows) that hold a row.
    pub read: usize,
    /// Rows returned; a quickstart line gives three examples to fine-tune on.
    pub kept: usize,
    /// Rows left out, by reason.
    pub dropped: BTreeMap<String, usize>,
    /// The id of the first row left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_dropped: Option<String>,
    /// Columns that the format has no use for (TRL's `ref_chosen_logps`, …), with the number of rows that had them.
    pub ignored_columns: BTreeMap<String, usize>,
}

impl ReadReport {
    /// Which rows were left out and why, and which was the first; `None` where none was.
    pub fn left_out(&self) -> Option<String> {
        left_out(&self.dropped, self.first_dropped.as_deref())
    }

    /// The columns that were not read, by name; `None` where all were.
    pub fn columns_not_read(&self) -> Option<String> {
        let columns: Vec<String> = self.ignored_columns.keys().map(|column| format!("`{column}`")).collect();
        (!columns.is_empty()).then(|| columns.join(", "))
    }
}

/// What rows can be read as.
pub trait RowValue: FromParsed {
    /// The dialogue, or the prompt of the responses.
    fn dialogue(&self) -> &Dialogue;
}

impl RowValue for SftExample {
    fn dialogue(&self) -> &Dialogue {
        &self.dialogue
    }
}

impl RowValue for Preference {
    fn dialogue(&self) -> &Dialogue {
        &self.prompt
    }
}

impl RowValue for Prompt {
    fn dialogue(&self) -> &Dialogue {
        &self.dialogue
    }
}

impl RowValue for Dialogue {
    fn dialogue(&self) -> &Dialogue {
        self
    }
}

/// Rows in the order of their file, made by [`RowFile::rows`](super::RowFile::rows). One record of the file is in memory at a time,
/// and 8 bytes for each row before it, by which ids are told apart. After an error there are no more.
///
/// ```
/// use adpo_data::{Preference, RowFile};
///
/// let line = r#"{"prompt": "How long does paint take to dry?", "chosen": "An hour or two.", "rejected": "Who cares."}"#;
/// let file = RowFile::from_text("two", [line, line].join("\n"));
/// let mut rows = file.rows::<Preference>()?;
/// for row in rows.by_ref() {
///     assert_eq!(row?.value.chosen, "An hour or two.");
/// }
/// assert_eq!(rows.report().kept, 2);
/// # Ok::<(), adpo_data::DataError>(())
/// ```
pub struct Rows<'a, T> {
    format: Format,
    source: String,
    licence: Option<String>,
    records: Records<'a>,
    ids: Ids,
    /// Of the record at hand.
    ready: std::vec::IntoIter<Row<T>>,
    report: ReadReport,
    failed: bool,
}

impl<T: RowValue> Iterator for Rows<'_, T> {
    type Item = Result<Row<T>, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.failed {
            if let Some(row) = self.ready.next() {
                return Some(Ok(row));
            }
            let rows = self.records.next()?.and_then(|record| self.rows_of(record));
            self.failed = rows.is_err();
            match rows {
                Ok(rows) => self.ready = rows.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
        None
    }
}

impl<T: RowValue> FusedIterator for Rows<'_, T> {}

impl<'a, T: RowValue> Rows<'a, T> {
    pub(super) fn new(format: Format, source: String, licence: Option<String>, records: Records<'a>) -> Self {
        let (ready, report) = (Vec::new().into_iter(), ReadReport::default());
        Self { format, source, licence, records, ids: Ids::default(), ready, report, failed: false }
    }

    /// What became of the records read so far; after the last row, of all of them.
    pub fn report(&self) -> &ReadReport {
        &self.report
    }

    pub(super) fn all(mut self) -> Result<(Vec<Row<T>>, ReadReport), DataError> {
        Ok((self.by_ref().collect::<Result<_, _>>()?, self.report))
    }

    /// The record's content, with what columns say that every format may have.
    fn parse(&self, record: &mut Record) -> Result<Result<Parsed, Fault>, DataError> {
        if let Some(column) = TELLING.into_iter().find(|column| record.fields.get(*column).is_some_and(|value| !blank(value))) {
            let problem = format!(
                "field `{column}` changes what the row means, and is not supported; take out the rows that need it, or the column if none does"
            );
            return Err(record.error(problem));
        }
        let mut system: Option<String> = None;
        for name in ["system", "system_prompt", "system_message"] {
            let Some(text) = record.optional_text(name)?.filter(|text| !text.trim().is_empty()) else { continue };
            if system.as_ref().is_some_and(|known| known.trim() != text.trim()) {
                return Err(
                    record.error(format!("field `{name}` says something else than another column of instructions; take one of them out"))
                );
            }
            system = Some(text);
        }
        let parsed = (self.format.reader().parse)(record);
        let Some(system) = system else { return Ok(parsed) };
        parsed
            .map(|parsed| parsed.with_system(&system))
            .map_or_else(|fault| Ok(Err(fault)), |parsed| parsed.map(Ok).map_err(|e| record.error(e)))
    }

    /// Reads on to tell how many rows are alike: one may be a mistake, all of them are a kind of file.
    fn refused(&mut self, record: &Record, problem: &str) -> DataError {
        let (mut more, mut after) = (0, 0);
        while let Some(Ok(mut next)) = self.records.next() {
            after += 1;
            let alike = self.parse(&mut next).is_ok_and(|parsed| parsed.is_ok_and(|parsed| markup::problem(&parsed).is_some()));
            more += usize::from(alike);
        }
        let others = match (more, after) {
            (_, 0) => String::new(),
            (0, _) => " (no other row is like it)".to_owned(),
            (1, 1) => " (the row after it is like it)".to_owned(),
            (1, _) => format!(" (1 of the {after} rows after it is like it)"),
            _ => format!(" ({more} of the {after} rows after it are like it)"),
        };
        record.error(format!("{problem}{others}"))
    }

    fn rows_of(&mut self, mut record: Record) -> Result<Vec<Row<T>>, DataError> {
        self.report.read += 1;
        let number = record.number;
        let source = record.optional_text("source")?.unwrap_or_else(|| self.source.clone());
        let given_licence = record.optional_text("licence")?.or(record.optional_text("license")?);
        let licence = given_licence.or_else(|| self.licence.clone());
        let id = record.id()?.unwrap_or_else(|| format!("{source}:{number}"));
        let id = self.ids.unlike_others(id, number);
        let parsed = self.parse(&mut record)?;
        if let Ok(parsed) = &parsed
            && let Some(problem) = markup::problem(parsed)
        {
            return Err(self.refused(&record, &problem));
        }
        let values = match parsed.and_then(T::from_parsed) {
            Ok(values) => values,
            Err(Fault::Drop(reason)) => {
                *self.report.dropped.entry(reason.to_owned()).or_default() += 1;
                self.report.first_dropped.get_or_insert_with(|| id.clone());
                Vec::new()
            }
            Err(Fault::Unfit(problem)) => return Err(record.error(problem)),
            Err(Fault::Error(error)) => return Err(error),
        };
        for (column, _) in record.fields {
            *self.report.ignored_columns.entry(column).or_default() += 1;
        }
        self.report.kept += values.len();
        let row = |(suffix, value)| Row { id: format!("{id}{suffix}"), source: source.clone(), licence: licence.clone(), value };
        Ok(values.into_iter().map(row).collect())
    }
}

/// Ids seen so far, by the first 8 bytes of their SHA-1. Two ids that agree in these would cost nothing but a longer name.
#[derive(Default)]
struct Ids(HashSet<u64>);

impl Ids {
    /// The id, or one that no other row has: random streams are named after ids, so two rows must not share one.
    fn unlike_others(&mut self, id: String, number: usize) -> String {
        if self.insert(&id) {
            return id;
        }
        let id = format!("{id}@{number}");
        self.insert(&id);
        id
    }

    fn insert(&mut self, id: &str) -> bool {
        let digest = Sha1::digest(id);
        self.0.insert(digest.iter().take(8).fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }
}
