//! Encoded rows by index: in memory, or in a file that is written once, row by row, and then mapped.
//!
//! The file (`<name>-<key>.tokens`; numbers little-endian) holds
//!
//! | bytes | |
//! |---|---|
//! | 16 | `adpo token cache` |
//! | 4 | version of this format |
//! | 32 | key: SHA-256 of everything that the rows depend on |
//! | 4 + n, each row | its length n, and the row as [postcard](https://postcard.jamesmunns.com/wire-format) |
//! | 4 | `ff ff ff ff`: no more rows |
//! | 32 | digest: SHA-256 of the rows with their lengths |
//! | 4 + n | length and JSON of the report of whoever made it |
//! | 32 | seal: SHA-256 of magic, version, key, digest and report |

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::DataError;
use crate::files::replace;

const MAGIC: &[u8; 16] = b"adpo token cache";
const VERSION: u32 = 1;
const END: u32 = u32::MAX;

/// Encoded rows by index. Training asks for the rows of a step when it comes to them, wherever they lie.
pub trait EncodedRows<T: Clone>: Sync {
    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The row at `index`, which is less than [`EncodedRows::len`].
    ///
    /// # Errors
    /// [`DataError`] if it lies in a file that has been changed since it was opened.
    fn row(&self, index: usize) -> Result<Cow<'_, T>, DataError>;

    /// SHA-256 of all rows in their order, in hexadecimal: the same for the same rows, wherever they lie.
    ///
    /// # Errors
    /// [`DataError`] if a row cannot be written as bytes.
    fn digest(&self) -> Result<String, DataError>;
}

impl<T: Clone + Sync + Serialize> EncodedRows<T> for [T] {
    fn len(&self) -> usize {
        <[T]>::len(self)
    }

    fn row(&self, index: usize) -> Result<Cow<'_, T>, DataError> {
        Ok(Cow::Borrowed(&self[index]))
    }

    fn digest(&self) -> Result<String, DataError> {
        let (mut hash, mut record) = (Sha256::new(), Vec::new());
        for row in self {
            record = to_record(row, record).map_err(|problem| DataError::file("rows in memory", problem))?;
            hash.update(&record);
        }
        Ok(hex::encode(hash.finalize()))
    }
}

impl<T: Clone + Sync + Serialize> EncodedRows<T> for Vec<T> {
    fn len(&self) -> usize {
        Vec::len(self)
    }

    fn row(&self, index: usize) -> Result<Cow<'_, T>, DataError> {
        self.as_slice().row(index)
    }

    fn digest(&self) -> Result<String, DataError> {
        self.as_slice().digest()
    }
}

/// Rows in a mapped file. Besides the file's pages, which the system keeps as long as there is room, 8 bytes per row are
/// in memory.
#[derive(Debug)]
pub struct TokenCache<T> {
    path: PathBuf,
    map: Mmap,
    /// Where each row's length stands, and where the end does.
    offsets: Vec<usize>,
    digest: String,
    report: Value,
    rows: PhantomData<fn() -> T>,
}

/// Takes rows on their way into a new cache; none of them stays in memory.
#[derive(Debug)]
pub struct TokenCacheWriter<'a, T> {
    path: &'a Path,
    output: &'a mut BufWriter<File>,
    hash: Sha256,
    record: Vec<u8>,
    rows: PhantomData<fn(T)>,
}

impl<T: Serialize> TokenCacheWriter<'_, T> {
    /// Adds a row.
    ///
    /// # Errors
    /// [`DataError`] if the file cannot be written.
    pub fn push(&mut self, row: &T) -> Result<(), DataError> {
        self.record = to_record(row, std::mem::take(&mut self.record)).map_err(|problem| DataError::file(self.path.display(), problem))?;
        self.hash.update(&self.record);
        self.output.write_all(&self.record).map_err(DataError::io(self.path))
    }
}

impl<T: Serialize + DeserializeOwned> TokenCache<T> {
    /// Opens the cache of `name` and `key` in `folder`; where there is none, `make` fills it first and says what the cache
    /// shall report. `key` is everything that the rows depend on: tokenizer, encoding options, the rows' own hash; caches of
    /// other keys, and of other versions of the format, have other file names.
    ///
    /// The file appears whole or not at all, so a kill leaves none, and of writers that meet the last one wins. It is read
    /// through once and compared with its hashes, in constant memory.
    ///
    /// # Errors
    /// What `make` gives; [`DataError`] if the file cannot be written or read, or is not what was written. Such a file is
    /// not replaced silently: something is wrong with the disk, or someone wrote to it.
    pub fn open_or_make<E: From<DataError>>(
        folder: &Path,
        name: &str,
        key: &impl Serialize,
        make: impl FnOnce(&mut TokenCacheWriter<'_, T>) -> Result<Value, E>,
    ) -> Result<Self, E> {
        let key = serde_json::to_vec(key).map_err(|e| DataError::file(folder.display(), format!("a key that is no JSON: {e}")))?;
        let key: [u8; 32] = Sha256::new().chain_update(VERSION.to_le_bytes()).chain_update(name).chain_update(key).finalize().into();
        let path = folder.join(format!("{name}-{}.tokens", &hex::encode(key)[..16]));
        if !path.exists() {
            std::fs::create_dir_all(folder).map_err(DataError::io(folder))?;
            replace(&path, |output| write(&path, output, key, make))?;
        }
        Ok(Self::open(path, key)?)
    }

    /// What its maker reported.
    pub fn report(&self) -> &Value {
        &self.report
    }

    fn open(path: PathBuf, key: [u8; 32]) -> Result<Self, DataError> {
        let file = File::open(&path).map_err(DataError::io(&path))?;
        let Checked { offsets, digest, report } = check(&file, key).map_err(|fault| match fault {
            Fault::Io(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => DataError::io(&path)(error),
            Fault::Io(_) => damaged(&path, "ends early"),
            Fault::Content(problem) => damaged(&path, problem),
        })?;
        // SAFETY: the map is read alone, and nobody writes to a cache once it has its name: it is made beside it and renamed. One cut by
        // somebody else would end the process, as SECURITY.md says.
        let map = unsafe { Mmap::map(&file) }.map_err(DataError::io(&path))?;
        Ok(Self { path, map, offsets, digest, report, rows: PhantomData })
    }
}

impl<T: Clone + DeserializeOwned> EncodedRows<T> for TokenCache<T> {
    fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    fn row(&self, index: usize) -> Result<Cow<'_, T>, DataError> {
        let record = self.map.get(self.offsets[index] + 4..self.offsets[index + 1]).unwrap_or_default();
        let row = postcard::from_bytes(record).map_err(|e| damaged(&self.path, format!("row {index}: {e}")))?;
        Ok(Cow::Owned(row))
    }

    fn digest(&self) -> Result<String, DataError> {
        Ok(self.digest.clone())
    }
}

fn damaged(path: &Path, problem: impl std::fmt::Display) -> DataError {
    DataError::file(path.display(), format!("is no whole token cache ({problem}); delete the file, and it is made again"))
}

/// A row with its length ahead of it, in `buffer`.
fn to_record<T: Serialize>(row: &T, mut buffer: Vec<u8>) -> Result<Vec<u8>, String> {
    buffer.clear();
    buffer.extend([0; 4]);
    let mut record = postcard::to_extend(row, buffer).map_err(|e| format!("a row cannot be written as bytes: {e}"))?;
    let length = u32::try_from(record.len() - 4).ok().filter(|length| *length != END).ok_or("a row has more than 4 GiB")?;
    record[..4].copy_from_slice(&length.to_le_bytes());
    Ok(record)
}

fn seal(key: [u8; 32], digest: &[u8], report: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(MAGIC)
        .chain_update(VERSION.to_le_bytes())
        .chain_update(key)
        .chain_update(digest)
        .chain_update(report)
        .finalize()
        .into()
}

fn write<T: Serialize, E: From<DataError>>(
    path: &Path,
    output: &mut BufWriter<File>,
    key: [u8; 32],
    make: impl FnOnce(&mut TokenCacheWriter<'_, T>) -> Result<Value, E>,
) -> Result<(), E> {
    let put = |output: &mut BufWriter<File>, bytes: &[u8]| output.write_all(bytes).map_err(DataError::io(path));
    put(output, MAGIC)?;
    put(output, &VERSION.to_le_bytes())?;
    put(output, &key)?;
    let mut writer = TokenCacheWriter { path, output, hash: Sha256::new(), record: Vec::new(), rows: PhantomData };
    let report = make(&mut writer)?.to_string();
    let digest = writer.hash.finalize();
    put(output, &END.to_le_bytes())?;
    put(output, &digest)?;
    put(output, &(report.len() as u32).to_le_bytes())?;
    put(output, report.as_bytes())?;
    Ok(put(output, &seal(key, &digest, report.as_bytes()))?)
}

/// What a file says that was read through.
struct Checked {
    offsets: Vec<usize>,
    digest: String,
    report: Value,
}

enum Fault {
    Io(std::io::Error),
    Content(String),
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

fn check(file: &File, key: [u8; 32]) -> Result<Checked, Fault> {
    let wrong = |problem: &str| Err(Fault::Content(problem.to_owned()));
    let size = file.metadata()?.len();
    let mut input = BufReader::with_capacity(1 << 20, file);
    if array(&mut input)? != *MAGIC || array(&mut input)? != VERSION.to_le_bytes() {
        return wrong("it begins like another kind of file, or another version");
    }
    if array(&mut input)? != key {
        return wrong("it holds the rows of another key");
    }
    let mut at = MAGIC.len() as u64 + 4 + 32;
    let (mut offsets, mut hash, mut record) = (vec![at as usize], Sha256::new(), Vec::new());
    loop {
        let length: [u8; 4] = array(&mut input)?;
        let bytes = u32::from_le_bytes(length);
        if bytes == END {
            break;
        }
        at += 4 + u64::from(bytes);
        if at > size {
            return wrong("a row goes on behind its end");
        }
        record.resize(bytes as usize, 0);
        input.read_exact(&mut record)?;
        hash.update(length);
        hash.update(&record);
        offsets.push(at as usize);
    }
    let digest: [u8; 32] = array(&mut input)?;
    if digest != <[u8; 32]>::from(hash.finalize()) {
        return wrong("its rows are not those that were written");
    }
    let length = u64::from(u32::from_le_bytes(array(&mut input)?));
    let mut report = Vec::new();
    input.by_ref().take(length).read_to_end(&mut report)?;
    let found: [u8; 32] = array(&mut input)?;
    if found != seal(key, &digest, &report) || input.read(&mut [0])? != 0 {
        return wrong("its end is not what was written");
    }
    let report = serde_json::from_slice(&report).map_err(|e| Fault::Content(format!("its report: {e}")))?;
    Ok(Checked { offsets, digest: hex::encode(digest), report })
}

fn array<const N: usize>(input: &mut impl Read) -> Result<[u8; N], std::io::Error> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}
