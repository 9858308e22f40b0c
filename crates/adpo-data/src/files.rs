//! Files and folders of a program's own: rows out and back in, and text, each replaced as a whole.

use std::fs::File;
#[cfg(feature = "tokenizers")]
use std::io::ErrorKind;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::DataError;
use crate::jsonl::JsonLines;

/// Writes one JSON object per row. The file appears whole or not at all: rows go to a temporary file beside it, which
/// is renamed at the end. The same rows give the same bytes, gzipped or not.
///
/// # Errors
/// [`DataError::Io`] if the folder cannot be written; [`DataError::File`] if a row is not representable as JSON.
pub fn write_jsonl<T: Serialize>(path: impl AsRef<Path>, rows: &[T]) -> Result<(), DataError> {
    write_jsonl_with(path, |file| rows.iter().try_for_each(|row| file.push(row)))
}

/// Writes a file as [`write_jsonl`] does, of rows that `make` pushes one by one, and gives what it returns; if that is an error,
/// there is no file.
///
/// # Errors
/// What `make` gives; [`DataError`] as [`write_jsonl`].
pub fn write_jsonl_with<R, E: From<DataError>>(
    path: impl AsRef<Path>,
    make: impl FnOnce(&mut JsonlWriter<'_>) -> Result<R, E>,
) -> Result<R, E> {
    let path = path.as_ref();
    replace(path, |file| {
        if path.extension().is_some_and(|extension| extension == "gz") {
            let mut encoder = GzEncoder::new(file, Compression::default());
            let made = make(&mut JsonlWriter { path, output: &mut encoder })?;
            encoder.finish().map_err(DataError::io(path))?;
            Ok(made)
        } else {
            make(&mut JsonlWriter { path, output: file })
        }
    })
}

/// Takes rows on their way into a file; none of them stays in memory.
pub struct JsonlWriter<'a> {
    path: &'a Path,
    output: &'a mut dyn Write,
}

impl JsonlWriter<'_> {
    /// Adds a row.
    ///
    /// # Errors
    /// As [`write_jsonl`].
    pub fn push<T: Serialize>(&mut self, row: &T) -> Result<(), DataError> {
        let line = serde_json::to_string(row).map_err(|e| DataError::file(self.path.display(), e))?;
        writeln!(self.output, "{line}").map_err(DataError::io(self.path))
    }
}

/// Reads back rows of any one type, as [`write_jsonl`] wrote them or as a program appended them.
///
/// A last line without its line feed is what a kill leaves of an append; it is left out.
///
/// # Errors
/// [`DataError::Io`] if the file cannot be read; [`DataError::Line`] names the line that is no such row.
pub fn read_jsonl<T: DeserializeOwned>(path: impl AsRef<Path>) -> Result<Vec<T>, DataError> {
    stream_jsonl(path)?.collect()
}

/// Reads rows as [`read_jsonl`] does, one at a time.
///
/// # Errors
/// [`DataError::Io`] if the file cannot be opened; its items as [`read_jsonl`].
pub fn stream_jsonl<T: DeserializeOwned>(path: impl AsRef<Path>) -> Result<impl Iterator<Item = Result<T, DataError>>, DataError> {
    Ok(JsonLines::open(path)?.whole_only().map(|line| {
        let line = line?;
        serde_json::from_str(line.text())
            .map_err(|e| line.error(format!("is not what was written there ({e}); delete the file, or what made it, and run again")))
    }))
}

/// Writes a text or bytes. The file appears whole or not at all, as with [`write_jsonl`].
///
/// # Errors
/// [`DataError::Io`] if the folder cannot be written.
pub fn write_file(path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> Result<(), DataError> {
    let path = path.as_ref();
    replace(path, |file| file.write_all(contents.as_ref()).map_err(DataError::io(path)))
}

/// Writes a folder. It appears whole or not at all: `write` fills `.<name>.tmp` beside it, which gets the name at the end.
/// Whatever is there by either name goes first. What a failed attempt wrote is removed: on a full disk, it would take the room
/// that somebody is about to make.
///
/// # Errors
/// What `write` gives; [`DataError::Io`] if the folder cannot be made or renamed.
pub fn write_folder<E: From<DataError>>(path: impl AsRef<Path>, write: impl FnOnce(&Path) -> Result<(), E>) -> Result<(), E> {
    let path = path.as_ref();
    let temporary = temporary_folder(path);
    remove_folder(path)?;
    std::fs::create_dir_all(&temporary).map_err(DataError::io(&temporary))?;
    let finished = write(&temporary).and_then(|()| Ok(rename(&temporary, path)?));
    if finished.is_err() {
        // The first error is the one to tell.
        drop(std::fs::remove_dir_all(&temporary));
    }
    finished
}

/// Removes what [`write_folder`] wrote, or left unfinished. A folder loses its name before its files: half removed, it would look
/// like a whole one.
///
/// # Errors
/// [`DataError::Io`] if it cannot be removed.
pub fn remove_folder(path: impl AsRef<Path>) -> Result<(), DataError> {
    let path = path.as_ref();
    let doomed = temporary_folder(path);
    let remove = || if doomed.exists() { std::fs::remove_dir_all(&doomed) } else { Ok(()) };
    remove().map_err(DataError::io(&doomed))?;
    if path.exists() {
        std::fs::rename(path, &doomed).map_err(DataError::io(path))?;
    }
    remove().map_err(DataError::io(&doomed))
}

/// Reads a text that is held in memory as a whole: a recipe, a configuration. Pipes and devices are refused, and more than 64 MiB.
///
/// # Errors
/// [`DataError::Io`] if it cannot be read, [`DataError::File`] for what is no such text.
pub fn read_text(path: impl AsRef<Path>) -> Result<String, DataError> {
    let path = path.as_ref();
    String::from_utf8(read_at_most(path, 64 << 20)?)
        .map_err(|_| DataError::file(path.display(), "is not UTF-8; convert the file, for example with iconv"))
}

/// Reads a file of rows that is held in memory as a whole. Pipes and devices are refused.
///
/// # Errors
/// As [`read_text`].
pub fn read_bytes(path: impl AsRef<Path>) -> Result<Vec<u8>, DataError> {
    read_at_most(path.as_ref(), u64::MAX - 1)
}

/// Opens a file to read. What is no file is refused: a pipe or a device may have no end, and to open one may never return.
///
/// # Errors
/// [`DataError::Io`] if it cannot be opened, [`DataError::File`] for what is no file.
pub(crate) fn open_file(path: &Path) -> Result<File, DataError> {
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        return Err(DataError::file(path.display(), "is a pipe or a device; write what comes out of it into a file first"));
    }
    File::open(path).map_err(DataError::io(path))
}

fn read_at_most(path: &Path, largest: u64) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::new();
    open_file(path)?.take(largest + 1).read_to_end(&mut bytes).map_err(DataError::io(path))?;
    if bytes.len() as u64 > largest {
        return Err(DataError::file(path.display(), format_args!("is larger than {} MiB, and no such file is", largest >> 20)));
    }
    Ok(bytes)
}

/// The bytes of a file that may be missing.
#[cfg(feature = "tokenizers")]
pub(crate) fn read_small(path: &Path, largest: u64) -> Result<Option<Vec<u8>>, DataError> {
    match read_at_most(path, largest) {
        Err(DataError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// Where a folder is while it is written or removed.
fn temporary_folder(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    path.with_file_name(format!(".{name}.tmp"))
}

/// Removes the temporary files that writers of files left below a folder when they were killed. Nobody may write there meanwhile.
///
/// # Errors
/// [`DataError::Io`] if the folder cannot be read, or a file cannot be removed.
pub fn remove_unfinished(folder: impl AsRef<Path>) -> Result<(), DataError> {
    let folder = folder.as_ref();
    for entry in std::fs::read_dir(folder).map_err(DataError::io(folder))? {
        let entry = entry.map_err(DataError::io(folder))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(DataError::io(&path))?;
        if kind.is_dir() {
            remove_unfinished(&path)?;
        } else if kind.is_file() && is_unfinished(&entry.file_name().to_string_lossy()) {
            std::fs::remove_file(&path).map_err(DataError::io(&path))?;
        }
    }
    Ok(())
}

/// What stands between a file's name and the numbers of process and writer while it is written.
const UNFINISHED: &str = ".tmp-";

/// Whether a file is called as [`replace`] calls those that have no name yet.
fn is_unfinished(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let numbers = name.rsplit_once(UNFINISHED).and_then(|(_, numbers)| numbers.split_once('-'));
    numbers.is_some_and(|(process, writer)| is_number(process) && is_number(writer))
}

/// Writes a file beside `path` and renames it, so that a reader sees the old file or the new one. Writers of one file, in
/// whatever processes and threads, do not meet: each has a temporary file of its own, and the last one wins.
pub(crate) fn replace<R, E: From<DataError>>(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<R, E>) -> Result<R, E> {
    static WRITERS: AtomicUsize = AtomicUsize::new(0);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!("{UNFINISHED}{}-{}", std::process::id(), WRITERS.fetch_add(1, Ordering::Relaxed)));
    let temporary = path.with_file_name(name);
    let finished = File::create(&temporary).map_err(DataError::io(&temporary)).map_err(E::from).and_then(|file| {
        let mut output = BufWriter::new(file);
        let written = write(&mut output)?;
        let file = output.into_inner().map_err(|e| DataError::io(path)(e.into_error()))?;
        file.sync_all().map_err(DataError::io(path))?;
        rename(&temporary, path)?;
        Ok(written)
    });
    if finished.is_err() {
        // The first error is the one to report; a temporary file that is left over does no harm.
        drop(std::fs::remove_file(&temporary));
    }
    finished
}

/// Renames a file or folder and syncs its parent folder: until then, a power cut may undo the rename, but not the removal that made room
/// for it.
fn rename(from: &Path, to: &Path) -> Result<(), DataError> {
    std::fs::rename(from, to).map_err(DataError::io(to))?;
    #[cfg(unix)] // Elsewhere a folder cannot be opened.
    if let Some(folder) = to.parent() {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(DataError::io(folder))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_without_what_a_kill_cut_off() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("rows.jsonl");
        write_jsonl(&path, &["one", "two"])?;
        assert_eq!(read_jsonl::<String>(&path)?, ["one", "two"]);
        std::fs::write(&path, "\"one\"\n\"tw")?;
        assert_eq!(read_jsonl::<String>(&path)?, ["one"]);
        std::fs::write(&path, "\"one\"\n2\n")?;
        let message = read_jsonl::<String>(&path).expect_err("a number is no string").to_string();
        assert!(message.contains("rows.jsonl:2:"), "{message}");
        Ok(())
    }

    #[test]
    fn what_killed_writers_left_goes_and_nothing_else_does() -> Result<(), Box<dyn std::error::Error>> {
        let root = tempfile::tempdir()?;
        let below = root.path().join("seed-1/tokens");
        std::fs::create_dir_all(&below)?;
        // As a kill leaves it: the name is the writer's own.
        let killed = replace::<(), DataError>(&below.join("triples.tokens"), |_| {
            let left = std::fs::read_dir(&below).expect("readable").flatten().next().expect("a temporary file").path();
            std::fs::copy(&left, left.with_extension("tmp-4294967295-7")).expect("copied");
            Err(DataError::file("triples.tokens", "killed"))
        });
        assert!(killed.is_err());
        let kept = ["rows.tmp-1", "rows.tmp-a-1", "rows.tmp--1", "tmp-1-1", "rows.jsonl"];
        kept.iter().try_for_each(|name| std::fs::write(below.join(name), ""))?;
        assert_eq!(std::fs::read_dir(&below)?.count(), kept.len() + 1);
        remove_unfinished(root.path())?;
        let mut left: Vec<_> = std::fs::read_dir(&below)?.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<_, _>>()?;
        left.sort();
        let mut kept = kept.map(std::ffi::OsString::from);
        kept.sort();
        assert_eq!(left, kept);
        Ok(())
    }

    #[test]
    fn a_folder_appears_whole_or_not_at_all_and_takes_leftovers_with_it() -> Result<(), Box<dyn std::error::Error>> {
        let root = tempfile::tempdir()?;
        let (path, temporary) = (root.path().join("model"), root.path().join(".model.tmp"));
        let names = |folder: &Path| -> Result<Vec<_>, std::io::Error> { std::fs::read_dir(folder)?.map(|e| Ok(e?.file_name())).collect() };
        std::fs::create_dir_all(&temporary)?;
        std::fs::write(temporary.join("half a file of a killed attempt"), "")?;
        let full = |_: &Path| Err(DataError::file("weights", "no room"));
        assert!(write_folder(&path, full).is_err());
        assert!(names(root.path())?.is_empty(), "neither the old attempt nor the new one");
        for name in ["first", "second"] {
            write_folder(&path, |folder| write_file(folder.join(name), "whole"))?;
            assert_eq!((names(root.path())?, names(&path)?), (vec!["model".into()], vec![name.into()]));
        }
        remove_folder(&path)?;
        assert!(names(root.path())?.is_empty());
        remove_folder(&path)?;
        Ok(())
    }
}
