//! Lines of a JSONL text, one JSON object each; whatever is wrong with one names file and line.

use std::io::{BufRead, Read};

use super::record::{Record, Unit};
use crate::DataError;

/// No row of text needs more; a line that does is an attack or another kind of file.
const LONGEST_LINE: u64 = 64 << 20;

/// An open text.
pub(super) struct Lines<'a> {
    name: String,
    reader: Box<dyn BufRead + 'a>,
    line: usize,
    buffer: Vec<u8>,
}

impl Iterator for Lines<'_> {
    type Item = Result<Record, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_record().transpose()
    }
}

impl<'a> Lines<'a> {
    /// `name` stands in errors.
    pub(super) fn new(name: String, reader: Box<dyn BufRead + 'a>) -> Self {
        Self { name, reader, line: 0, buffer: Vec::new() }
    }

    /// The next line that is not blank.
    fn next_record(&mut self) -> Result<Option<Record>, DataError> {
        loop {
            self.line += 1;
            self.buffer.clear();
            let read = self.reader.by_ref().take(LONGEST_LINE + 1).read_until(b'\n', &mut self.buffer);
            let read = read.map_err(|e| self.error(format!("cannot be read on ({e}); the file is cut off or damaged, fetch it again")))?;
            if read == 0 {
                return Ok(None);
            }
            if read as u64 > LONGEST_LINE {
                return Err(self.error("is longer than 64 MiB; a file with one JSON object per line is needed"));
            }
            let text = std::str::from_utf8(&self.buffer).map_err(|e| {
                self.error(format!("is not UTF-8 (byte {}); convert the file, for example with iconv", e.valid_up_to() + 1))
            })?;
            // A byte-order mark is what some editors put ahead of the first line.
            let text = if self.line == 1 { text.trim_start_matches('\u{feff}') } else { text };
            if !text.trim().is_empty() {
                return self.record(text).map(Some);
            }
        }
    }

    fn record(&self, text: &str) -> Result<Record, DataError> {
        match serde_json::from_str(text) {
            Ok(serde_json::Value::Object(fields)) => Ok(Record { file: self.name.clone(), number: self.line, unit: Unit::Line, fields }),
            Ok(_) => Err(self.error("is JSON, but no object; one object {…} per line is needed")),
            Err(e) if e.is_eof() => Err(self.error(format!(
                "ends inside its JSON object, at column {}; the file is cut off (or one object spans several lines)",
                e.column()
            ))),
            Err(e) => Err(self.error(format!("is not JSON ({e}); one object {{…}} per line is needed"))),
        }
    }

    fn error(&self, problem: impl Into<String>) -> DataError {
        Unit::Line.error(&self.name, self.line, problem)
    }
}
