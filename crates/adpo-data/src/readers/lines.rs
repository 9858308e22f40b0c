//! Lines of a JSONL or JSONL.gz file as JSON objects; whatever is wrong with one names file and line.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::PathBuf;

use flate2::bufread::MultiGzDecoder;

use super::record::Record;
use crate::DataError;

/// No row of text needs more; a line that does is an attack or another kind of file.
const LONGEST_LINE: u64 = 64 << 20;

/// Where lines come from.
#[derive(Debug, Clone)]
pub(super) enum Input {
    File(PathBuf),
    Text { name: String, text: String },
}

impl Input {
    pub(super) fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Text { name, .. } => name.clone(),
        }
    }

    /// What stands in row ids: the file's name without its folders.
    pub(super) fn source(&self) -> String {
        match self {
            Self::File(path) => path.file_name().map_or_else(|| self.name(), |name| name.to_string_lossy().into_owned()),
            Self::Text { name, .. } => name.clone(),
        }
    }

    pub(super) fn lines(&self) -> Result<Lines<'_>, DataError> {
        let reader: Box<dyn BufRead + '_> = match self {
            Self::Text { text, .. } => Box::new(Cursor::new(text.as_bytes())),
            Self::File(path) => {
                let mut file = BufReader::new(File::open(path).map_err(DataError::io(path))?);
                let start = file.fill_buf().map_err(DataError::io(path))?;
                if start.starts_with(b"PAR1") {
                    let problem = "is a Parquet file, and JSONL is read; convert it, for example with pandas: \
                                   pandas.read_parquet(FILE).to_json(\"rows.jsonl\", orient=\"records\", lines=True)";
                    return Err(DataError::file(self.name(), problem));
                }
                // The first two bytes say whether it is gzip, whatever its name says.
                let compressed = start.starts_with(&[0x1f, 0x8b]);
                if compressed { Box::new(BufReader::new(MultiGzDecoder::new(file))) } else { Box::new(file) }
            }
        };
        Ok(Lines { name: self.name(), reader, line: 0, buffer: Vec::new() })
    }
}

/// An open file.
pub(super) struct Lines<'a> {
    name: String,
    reader: Box<dyn BufRead + 'a>,
    line: usize,
    buffer: Vec<u8>,
}

impl Lines<'_> {
    /// The next line that is not blank.
    pub(super) fn next_record(&mut self) -> Result<Option<Record>, DataError> {
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
            Ok(serde_json::Value::Object(fields)) => Ok(Record { file: self.name.clone(), line: self.line, fields }),
            Ok(_) => Err(self.error("is JSON, but no object; one object {…} per line is needed")),
            Err(e) if e.is_eof() => Err(self.error(format!(
                "ends inside its JSON object, at column {}; the file is cut off (or one object spans several lines)",
                e.column()
            ))),
            Err(e) => Err(self.error(format!("is not JSON ({e}); one object {{…}} per line is needed"))),
        }
    }

    fn error(&self, problem: impl Into<String>) -> DataError {
        DataError::Line { file: self.name.clone(), line: self.line, problem: problem.into() }
    }
}
