//! Lines of JSONL: the one reader of them. Whatever is wrong with a line is told with its file and number.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use serde_json::{Map, Value};

use crate::files::open_file;
use crate::limits::ReadLimits;
use crate::{DataError, limits};

/// The lines of a JSONL text, gzipped or not, one at a time. Blank lines are left out and counted. After an error there are no more.
///
/// ```
/// use adpo_data::JsonLines;
///
/// let mut lines = JsonLines::from_bytes("scores", b"{\"score\": 1}\n\n{\"score\": \"two\"}\n");
/// let second = lines.nth(1).expect("two lines that are not blank")?;
/// assert_eq!((second.number(), second.text()), (3, "{\"score\": \"two\"}"));
/// assert!(second.error("`score` is a string").to_string().starts_with("scores:3: "));
/// # Ok::<(), adpo_data::DataError>(())
/// ```
pub struct JsonLines<'a> {
    name: String,
    reader: Box<dyn BufRead + 'a>,
    limits: ReadLimits,
    number: usize,
    /// A last line without its line feed is left out.
    whole_only: bool,
    failed: bool,
}

/// One line that is not blank.
#[derive(Debug, Clone)]
pub struct JsonLine {
    file: String,
    number: usize,
    text: String,
}

impl JsonLine {
    /// The file's name, for messages.
    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    /// Its number, counted from 1.
    pub fn number(&self) -> usize {
        self.number
    }

    /// What it says, without the line feed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its fields.
    ///
    /// # Errors
    /// [`DataError::Line`] if it is no JSON object.
    pub fn fields(&self) -> Result<Map<String, Value>, DataError> {
        Self::parse(&self.text).map_err(|problem| self.error(problem))
    }

    /// The fields of an object, or what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Map<String, Value>, String> {
        let parsed = match serde_json::from_str(text) {
            // Python writes these, often in columns that nobody reads.
            Err(e) if text.contains("NaN") || text.contains("Infinity") => serde_json::from_str(&without_nan(text)).map_err(|_| e),
            other => other,
        };
        match parsed {
            Ok(Value::Object(fields)) => Ok(fields),
            Ok(_) => Err("is JSON, but no object; one object {…} per line is needed".into()),
            Err(e) if e.to_string().contains("surrogate") || e.to_string().contains("hex escape") => Err(format!(
                "holds half of a surrogate pair (\\ud800 to \\udfff), which is no character, at column {}; strike it, or write the character itself",
                e.column()
            )),
            Err(e) if e.is_eof() => Err(format!(
                "ends inside its JSON object, at column {}; the file is cut off (or one object spans several lines)",
                e.column()
            )),
            Err(e) => Err(format!("is not JSON ({e}); one object {{…}} per line is needed")),
        }
    }

    /// An error that names file and line.
    pub fn error(&self, problem: impl Into<String>) -> DataError {
        DataError::Line { file: self.file.clone(), line: self.number, problem: problem.into() }
    }
}

impl JsonLines<'static> {
    /// The lines of a file. The first two bytes say whether it is gzip, not its name.
    ///
    /// # Errors
    /// [`DataError::Io`] if it cannot be opened or read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DataError> {
        let path = path.as_ref();
        let file = open_file(path)?;
        let packed = file.metadata().map_err(DataError::io(path))?.len();
        let mut file = BufReader::new(file);
        let gzipped = is_gzip(file.fill_buf().map_err(DataError::io(path))?);
        let reader: Box<dyn BufRead> = if gzipped { Box::new(BufReader::new(Unpacked::new(file, packed))) } else { Box::new(file) };
        Ok(Self::new(path.display().to_string(), reader))
    }
}

impl<'a> JsonLines<'a> {
    /// The lines of a text in memory, gzipped or not; `name` stands for the file's in errors.
    pub fn from_bytes(name: impl Into<String>, bytes: &'a [u8]) -> Self {
        let reader: Box<dyn BufRead + 'a> =
            if is_gzip(bytes) { Box::new(BufReader::new(Unpacked::new(bytes, bytes.len() as u64))) } else { Box::new(bytes) };
        Self::new(name.into(), reader)
    }

    /// Whether the first byte that is no white space opens an array, for texts within what a reader holds at once.
    pub(crate) fn opens_array(&mut self) -> Result<bool, DataError> {
        let (name, line) = (&self.name, self.number + 1);
        let start = self.reader.fill_buf().map_err(|e| DataError::Line { file: name.clone(), line, problem: unreadable(&e) })?;
        let start = start.strip_prefix("\u{feff}".as_bytes()).unwrap_or(start);
        Ok(start.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'['))
    }

    /// The name and what is not read yet.
    pub(crate) fn into_parts(self) -> (String, Box<dyn BufRead + 'a>) {
        (self.name, self.reader)
    }

    fn new(name: String, reader: Box<dyn BufRead + 'a>) -> Self {
        Self { name, reader, limits: limits::now(), number: 0, whole_only: false, failed: false }
    }

    /// For files that a program appends to: a last line without its line feed, which a kill leaves, is left out.
    #[must_use]
    pub fn whole_only(mut self) -> Self {
        self.whole_only = true;
        self
    }

    fn next_line(&mut self) -> Result<Option<JsonLine>, DataError> {
        let mut buffer = Vec::new();
        loop {
            self.number += 1;
            buffer.clear();
            let read = self.reader.by_ref().take(self.limits.line_bytes.saturating_add(1)).read_until(b'\n', &mut buffer);
            let read = read.map_err(|e| self.error(unreadable(&e)))?;
            if read == 0 || self.whole_only && buffer.last() != Some(&b'\n') {
                return Ok(None);
            }
            if read as u64 > self.limits.line_bytes {
                return Err(self.error(format!("{}; a file with one JSON object per line is needed", self.limits.too_long())));
            }
            let text = std::str::from_utf8(&buffer).map_err(|e| {
                self.error(format!("is not UTF-8 (byte {}); convert the file, for example with iconv", e.valid_up_to() + 1))
            })?;
            // A byte-order mark is what some editors put ahead of the first line.
            let text = if self.number == 1 { text.trim_start_matches('\u{feff}') } else { text };
            if !text.trim().is_empty() {
                let text = text.trim_end_matches(['\n', '\r']).to_owned();
                return Ok(Some(JsonLine { file: self.name.clone(), number: self.number, text }));
            }
        }
    }

    fn error(&self, problem: String) -> DataError {
        DataError::Line { file: self.name.clone(), line: self.number, problem }
    }
}

impl Iterator for JsonLines<'_> {
    type Item = Result<JsonLine, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let line = self.next_line();
        self.failed = line.is_err();
        line.transpose()
    }
}

/// JSON with null for the numbers that Python writes and JSON does not know, outside of strings.
fn without_nan(text: &str) -> String {
    let (mut out, mut rest, mut quoted) = (String::with_capacity(text.len()), text, false);
    while let Some(next) = rest.chars().next() {
        let number = ["NaN", "-Infinity", "Infinity"].into_iter().find(|number| !quoted && rest.starts_with(number));
        let taken = match (number, next) {
            (Some(number), _) => number.len(),
            (None, '\\') if quoted => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            _ => next.len_utf8(),
        };
        quoted ^= next == '"';
        out.push_str(if number.is_some() { "null" } else { &rest[..taken] });
        rest = &rest[taken..];
    }
    out
}

/// Why a file cannot be read on.
pub(crate) fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        // Said by `Unpacked`.
        io::ErrorKind::FileTooLarge => error.to_string(),
        _ => format!("cannot be read on ({error}); the file is cut off or damaged, fetch it again"),
    }
}

/// What gzip unpacks, up to a limit: a small file may hold more than a disk does.
struct Unpacked<R> {
    decoder: MultiGzDecoder<R>,
    left: u64,
}

impl<R: BufRead> Unpacked<R> {
    fn new(packed: R, bytes: u64) -> Self {
        Self { decoder: MultiGzDecoder::new(packed), left: limits::now().unpacked(bytes) }
    }
}

impl<R: BufRead> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.decoder.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| io::Error::new(io::ErrorKind::FileTooLarge, limits::TOO_MUCH))?;
        Ok(read)
    }
}

/// Whether bytes are gzip, by their first two.
fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}
