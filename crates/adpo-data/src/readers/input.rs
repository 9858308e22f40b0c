//! Where rows come from: a file of any kind that is read, told by its first bytes (CSV, which has none of its
//! own, by its name), or a text.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::array::ArrayRows;
use super::csv::CsvRows;
use super::record::Record;
use crate::DataError;
use crate::files::open_file;
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
            Self::Text { name, text } => rows(JsonLines::from_bytes(name, text.as_bytes())),
            Self::File(path) => open(path, self.name()),
        }
    }
}

fn open(path: &Path, name: String) -> Result<Records<'static>, DataError> {
    let mut start = Vec::new();
    open_file(path)?.take(4).read_to_end(&mut start).map_err(DataError::io(path))?;
    match () {
        () if start == b"PAR1" => parquet(path, name),
        () if is_csv(path) => Ok(Box::new(CsvRows::new(JsonLines::open(path)?)?)),
        () => rows(JsonLines::open(path)?),
    }
}

/// Whether a name ends in `.csv` or `.csv.gz`.
fn is_csv(path: &Path) -> bool {
    let ends = |path: &Path, ending: &str| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(ending));
    ends(path, "csv") || ends(path, "gz") && path.file_stem().is_some_and(|stem| ends(Path::new(stem), "csv"))
}

/// One object per line, or one array of objects.
fn rows(mut lines: JsonLines<'_>) -> Result<Records<'_>, DataError> {
    if lines.opens_array()? { Ok(Box::new(ArrayRows::new(lines))) } else { Ok(Box::new(lines.map(|line| Record::from_line(&line?)))) }
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
