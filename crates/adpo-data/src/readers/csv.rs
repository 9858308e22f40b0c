//! CSV with a header row: every cell is text, an empty one is null.

use std::io::BufRead;

use csv::{Reader, StringRecord};
use serde_json::Value;

use super::record::{Record, Unit};
use crate::DataError;
use crate::jsonl::JsonLines;

pub(super) struct CsvRows {
    name: String,
    rows: Reader<Box<dyn BufRead>>,
    header: StringRecord,
    count: usize,
    failed: bool,
}

impl CsvRows {
    pub(super) fn new(lines: JsonLines<'static>) -> Result<Self, DataError> {
        let (name, reader) = lines.into_parts();
        // The library strips a byte-order mark.
        let mut rows = Reader::from_reader(reader);
        let header = rows.headers().map_err(|e| DataError::file(&name, problem(&e)))?.clone();
        let mut names: Vec<&str> = header.iter().collect();
        names.sort_unstable();
        if let Some([twice, _]) = names.array_windows().find(|[name, next]| name == next) {
            return Err(DataError::file(&name, format!("has two columns `{twice}`; rename one of them")));
        }
        Ok(Self { name, rows, header, count: 0, failed: false })
    }
}

impl Iterator for CsvRows {
    type Item = Result<Record, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let mut row = StringRecord::new();
        let read = self.rows.read_record(&mut row);
        self.count += 1;
        match read {
            Ok(false) => None,
            Ok(true) => {
                let line = row.position().map_or(0, |position| usize::try_from(position.line()).unwrap_or(usize::MAX));
                let cell = |cell: &str| if cell.is_empty() { Value::Null } else { Value::from(cell) };
                let fields = self.header.iter().zip(&row).map(|(column, text)| (column.to_owned(), cell(text))).collect();
                Some(Ok(Record::new(self.name.clone(), self.count, Unit::Element(line), fields)))
            }
            Err(error) => {
                self.failed = true;
                let line = error.position().map_or(0, |position| usize::try_from(position.line()).unwrap_or(usize::MAX));
                Some(Err(Unit::Element(line).error(&self.name, self.count, problem(&error))))
            }
        }
    }
}

fn problem(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("has {len} cells where the header has {expected_len}; quote cells with commas or line feeds in them")
        }
        csv::ErrorKind::Io(error) => crate::jsonl::unreadable(error),
        csv::ErrorKind::Utf8 { .. } => "is not UTF-8; convert the file, for example with iconv".to_owned(),
        _ => format!("cannot be read ({error}); fetch the file again, or convert it to JSONL"),
    }
}
