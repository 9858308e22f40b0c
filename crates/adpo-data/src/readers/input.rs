//! Where rows come from: a file of any kind that is read, told by its first bytes and never by its name, or a text.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::lines::Lines;
use super::record::Record;
use crate::DataError;

#[derive(Debug, Clone)]
pub(super) enum Input {
    File(PathBuf),
    Text { name: String, text: String },
}

/// Records one at a time; after an error there are no more.
pub(super) type Records<'a> = Box<dyn Iterator<Item = Result<Record, DataError>> + 'a>;

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

    pub(super) fn records(&self) -> Result<Records<'_>, DataError> {
        match self {
            Self::Text { text, .. } => Ok(Box::new(Lines::new(self.name(), Box::new(Cursor::new(text.as_bytes()))))),
            Self::File(path) => open(path, self.name()),
        }
    }
}

fn open(path: &Path, name: String) -> Result<Records<'static>, DataError> {
    let mut file = BufReader::new(File::open(path).map_err(DataError::io(path))?);
    let start = file.fill_buf().map_err(DataError::io(path))?;
    if start.starts_with(b"PAR1") {
        return parquet(path, name);
    }
    // The first two bytes say whether it is gzip, whatever its name says.
    let lines: Box<dyn BufRead> =
        if start.starts_with(&[0x1f, 0x8b]) { Box::new(BufReader::new(MultiGzDecoder::new(file))) } else { Box::new(file) };
    Ok(Box::new(Lines::new(name, lines)))
}

#[cfg(feature = "parquet")]
fn parquet(path: &Path, name: String) -> Result<Records<'static>, DataError> {
    Ok(Box::new(super::parquet::ParquetRows::open(path, name)?))
}

#[cfg(not(feature = "parquet"))]
fn parquet(_: &Path, name: String) -> Result<Records<'static>, DataError> {
    let problem = "is a Parquet file, and this program is built without the feature `parquet`; build it with that \
                   (`--features parquet`), or convert the file, for example with pandas: \
                   pandas.read_parquet(FILE).to_json(\"rows.jsonl\", orient=\"records\", lines=True)";
    Err(DataError::file(name, problem))
}
