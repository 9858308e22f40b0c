//! A JSON array of rows, one element in memory at a time.

use std::io::Read;

use serde_json::{Map, Value};

use super::record::{Record, Unit};
use crate::jsonl::{JsonLine, JsonLines, unreadable};
use crate::limits::ReadLimits;
use crate::{DataError, limits};

/// The rows of an array. Elements are cut out by their braces and parsed one by one, so that an error names the element and its line.
pub(super) struct ArrayRows<'a> {
    name: String,
    bytes: std::io::Bytes<Box<dyn std::io::BufRead + 'a>>,
    limits: ReadLimits,
    line: usize,
    /// Elements that were given.
    count: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Start,
    AfterElement,
    Done,
}

impl<'a> ArrayRows<'a> {
    pub(super) fn new(lines: JsonLines<'a>) -> Self {
        let (name, reader) = lines.into_parts();
        Self { name, bytes: reader.bytes(), limits: limits::now(), line: 1, count: 0, state: State::Start }
    }

    fn byte(&mut self) -> Result<Option<u8>, DataError> {
        let byte = self.bytes.next().transpose();
        let byte = byte.map_err(|e| self.error(self.line, &unreadable(&e)))?;
        self.line += usize::from(byte == Some(b'\n'));
        Ok(byte)
    }

    /// The next byte that is no white space; the byte-order mark counts as such ahead of the array.
    fn solid(&mut self) -> Result<Option<u8>, DataError> {
        loop {
            match self.byte()? {
                Some(byte) if byte.is_ascii_whitespace() || self.state == State::Start && [0xef, 0xbb, 0xbf].contains(&byte) => {}
                other => return Ok(other),
            }
        }
    }

    fn error(&self, line: usize, problem: &str) -> DataError {
        Unit::Element(line).error(&self.name, self.count + 1, problem)
    }

    fn next_record(&mut self) -> Result<Option<Record>, DataError> {
        let cut = "is cut off: the array is not closed with `]`; fetch the file again";
        let mut first = self.solid()?;
        // The opening bracket, or the comma.
        if self.state == State::Start || first == Some(b',') {
            first = self.solid()?;
        } else if first.is_some_and(|byte| byte != b']') {
            return Err(self.error(self.line, "does not follow a comma; the elements of an array are parted by commas"));
        }
        match first {
            None => return Err(self.error(self.line, cut)),
            Some(b']') => {
                self.state = State::Done;
                return match self.solid()? {
                    None => Ok(None),
                    Some(_) => Err(self.error(self.line, "follows the array's end; one array of rows, or one object per line, is needed")),
                };
            }
            Some(b'{') => {}
            Some(_) => return Err(self.error(self.line, "is no object; an array of objects {…} is needed")),
        }
        self.state = State::AfterElement;
        let line = self.line;
        let fields = self.object(line, cut)?;
        self.count += 1;
        Ok(Some(Record::new(self.name.clone(), self.count, Unit::Element(line), fields)))
    }

    /// An object whose brace was read.
    fn object(&mut self, line: usize, cut: &str) -> Result<Map<String, Value>, DataError> {
        let (mut text, mut depth, mut quoted, mut escaped) = (vec![b'{'], 1_usize, false, false);
        while depth > 0 {
            let Some(byte) = self.byte()? else { return Err(self.error(line, cut)) };
            text.push(byte);
            if text.len() as u64 > self.limits.line_bytes {
                return Err(self.error(line, &format!("{}; an array of rows is needed", self.limits.too_long())));
            }
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b'{' | b'[' if !quoted => depth += 1,
                b'}' | b']' if !quoted => depth -= 1,
                _ => {}
            }
        }
        let text = String::from_utf8(text).map_err(|_| self.error(line, "is not UTF-8; convert the file, for example with iconv"))?;
        JsonLine::parse(&text).map_err(|problem| self.error(line, &problem))
    }
}

impl Iterator for ArrayRows<'_> {
    type Item = Result<Record, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == State::Done {
            return None;
        }
        let record = self.next_record();
        if record.is_err() {
            self.state = State::Done;
        }
        record.transpose()
    }
}
