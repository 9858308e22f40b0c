//! What the targets share.

use std::path::Path;

/// A reader, put to bytes: they are read or refused, and it panics where neither goes as it should.
pub struct Target {
    /// Its name on command lines.
    pub name: &'static str,
    /// One input; whether it was read.
    pub run: fn(&[u8]) -> bool,
    /// Inputs to begin with, some of which are read.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// A folder of this thread's own. Inputs that a reader takes as files lie there.
pub fn with_folder<T>(work: impl FnOnce(&Path) -> T) -> T {
    thread_local!(static FOLDER: tempfile::TempDir = tempfile::tempdir().expect("a temporary folder"));
    FOLDER.with(|folder| work(folder.path()))
}

/// Writes an input where a reader looks for it.
pub fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("the temporary folder can be written");
}

/// Whether it was read. An error has to name what it is about.
pub fn read<T, E: std::fmt::Display>(result: Result<T, E>, name: &str) -> Option<T> {
    result.map_err(|error| assert!(error.to_string().contains(name), "the error does not name {name}: {error}")).ok()
}

/// A file of the repository. The crates that have these targets lie in its root or a folder below.
pub fn file(path: &str) -> Vec<u8> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = package.ancestors().skip(1).map(|root| root.join(path)).find(|path| path.exists()).unwrap_or_else(|| package.join(path));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
