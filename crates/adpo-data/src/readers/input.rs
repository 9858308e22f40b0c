//! Where rows come from: a file of any kind that is read, told by its first bytes and never by its name, or a text.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::record::Record;
use crate::DataError;
use crate::jsonl::JsonLines;

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
            Self::Text { name, text } => Ok(Box::new(records(JsonLines::from_bytes(name, text.as_bytes())))),
            Self::File(path) => open(path, self.name()),
        }
    }
}

fn open(path: &Path, name: String) -> Result<Records<'static>, DataError> {
    let mut start = Vec::new();
    File::open(path).and_then(|file| file.take(4).read_to_end(&mut start)).map_err(DataError::io(path))?;
    if start == b"PAR1" { parquet(path, name) } else { Ok(Box::new(records(JsonLines::open(path)?))) }
}

fn records(lines: JsonLines<'_>) -> impl Iterator<Item = Result<Record, DataError>> {
    lines.map(|line| Record::from_line(&line?))
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
