//! Rows out: JSONL that the readers read back, gzipped where the name ends in `.gz`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;

use crate::DataError;

/// Writes one JSON object per row. The file appears whole or not at all: rows go to a temporary file beside it, which
/// is renamed at the end. The same rows give the same bytes, gzipped or not.
///
/// # Errors
/// [`DataError::Io`] if the folder cannot be written; [`DataError::File`] if a row is not representable as JSON.
pub fn write_jsonl<T: Serialize>(path: impl AsRef<Path>, rows: &[T]) -> Result<(), DataError> {
    let path = path.as_ref();
    replace(path, |file| {
        if path.extension().is_some_and(|extension| extension == "gz") {
            let mut encoder = GzEncoder::new(file, Compression::default());
            write_rows(&mut encoder, path, rows)?;
            encoder.finish().map(drop).map_err(DataError::io(path))
        } else {
            write_rows(file, path, rows)
        }
    })
}

fn write_rows<T: Serialize>(output: &mut impl Write, path: &Path, rows: &[T]) -> Result<(), DataError> {
    for row in rows {
        let line = serde_json::to_string(row).map_err(|e| DataError::file(path.display(), e))?;
        writeln!(output, "{line}").map_err(DataError::io(path))?;
    }
    Ok(())
}

/// Writes a file beside `path` and renames it, so that a reader sees the old file or the new one.
pub(crate) fn replace(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<(), DataError>) -> Result<(), DataError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".tmp-{}", std::process::id()));
    let temporary = path.with_file_name(name);
    let finished = File::create(&temporary).map_err(DataError::io(&temporary)).and_then(|file| {
        let mut output = BufWriter::new(file);
        write(&mut output)?;
        let file = output.into_inner().map_err(|e| DataError::io(path)(e.into_error()))?;
        file.sync_all().map_err(DataError::io(path))?;
        std::fs::rename(&temporary, path).map_err(DataError::io(path))
    });
    if finished.is_err() {
        // The first error is the one to tell; a leftover temporary file harms nobody.
        drop(std::fs::remove_file(&temporary));
    }
    finished
}
