//! Responses on disk, one JSON line each, so that a killed run asks nothing twice.
//!
//! Lines are only ever appended, each in one write, and nobody but their owner reads them: they hold what models said. A line that a
//! kill cut off, or that something else damaged or changed, is skipped and told; its request is asked again. So are two lines that say
//! different things of one request.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::EvalError;

pub(super) struct Cache<T> {
    path: PathBuf,
    state: Mutex<State<T>>,
}

struct State<T> {
    responses: HashMap<String, T>,
    file: File,
    /// The last write failed, and may have left a part of its line.
    torn: bool,
    warnings: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Line<T> {
    key: String,
    response: T,
    /// Of key and response; lines of earlier builds have none.
    hash: Option<String>,
}

impl<T: Serialize> Line<T> {
    fn new(key: String, response: T) -> Self {
        let line = Self { key, response, hash: None };
        Self { hash: Some(line.content_hash()), ..line }
    }

    fn content_hash(&self) -> String {
        // What came as JSON can be written.
        let response = serde_json::to_string(&self.response).unwrap_or_default();
        hex::encode(&Sha256::digest(format!("{}\n{response}", self.key))[..8])
    }

    fn is_whole(&self) -> bool {
        self.hash.as_ref().is_none_or(|hash| *hash == self.content_hash())
    }
}

impl<T: Serialize + DeserializeOwned + Clone + PartialEq> Cache<T> {
    /// Reads `path` where it exists and goes on writing to it; its folder is made where it is missing.
    pub(super) fn open(path: &Path) -> Result<Self, EvalError> {
        let failed = |source| EvalError::io(path, source);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let bytes = if path.exists() { adpo_data::read_bytes(path)? } else { Vec::new() };
        let mut responses: HashMap<String, T> = HashMap::new();
        let (mut damaged, mut contradicted) = (Vec::new(), HashSet::new());
        for (number, line) in bytes.split(|&byte| byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
            match serde_json::from_slice::<Line<T>>(line) {
                Ok(line) if line.is_whole() => match responses.get(&line.key) {
                    Some(known) if *known != line.response => drop(contradicted.insert(line.key)),
                    Some(_) => {}
                    None => drop(responses.insert(line.key, line.response)),
                },
                _ => damaged.push(number + 1),
            }
        }
        responses.retain(|key, _| !contradicted.contains(key));
        let mut warnings = Vec::new();
        if let Some(first) = damaged.first() {
            warnings.push(format!(
                "{}: {} damaged line(s) skipped, the first is line {first}; what they held is asked again",
                path.display(),
                damaged.len()
            ));
        }
        if !contradicted.is_empty() {
            warnings.push(format!(
                "{}: says two things of {} request(s), the file was changed or mixed; they are asked again",
                path.display(),
                contradicted.len()
            ));
        }
        let mut file = open_privately(path).map_err(failed)?;
        if bytes.last().is_some_and(|&byte| byte != b'\n') {
            file.write_all(b"\n").map_err(failed)?;
        }
        Ok(Self { path: path.to_owned(), state: Mutex::new(State { responses, file, torn: false, warnings }) })
    }

    pub(super) fn get(&self, key: &str) -> Option<T> {
        self.lock().responses.get(key).cloned()
    }

    /// Keeps a response. Where it cannot be written, the run goes on with it and a warning tells.
    pub(super) fn put(&self, key: &str, response: &T) {
        let mut state = self.lock();
        let line = serde_json::to_string(&Line::new(key.to_owned(), response)).map_err(std::io::Error::other);
        // Behind what could only be written in part, a line of its own.
        let begin = if state.torn { "\n" } else { "" };
        let written = line.and_then(|line| state.file.write_all(format!("{begin}{line}\n").as_bytes()));
        state.torn = written.is_err();
        if let Err(error) = written
            && !state.warnings.iter().any(|warning| warning.contains("cannot be written"))
        {
            state.warnings.push(format!("{}: cannot be written ({error}); a later run will ask again", self.path.display()));
        }
        state.responses.insert(key.to_owned(), response.clone());
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        self.lock().warnings.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens a file to append to, which nobody but its owner can read.
fn open_privately(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
        let file = options.mode(0o600).open(path)?;
        // One of an earlier build was open to all.
        if file.metadata()?.permissions().mode() & 0o077 != 0 {
            file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        }
        Ok(file)
    }
    #[cfg(not(unix))]
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_are_found_again_and_damaged_lines_are_skipped_and_told() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("deep/cache.jsonl");
        let cache = Cache::<String>::open(&path)?;
        cache.put("a", &"one".to_owned());
        cache.put("b", &"two\nlines".to_owned());
        drop(cache);
        // A line in the middle is damaged, and the last one was cut off by a kill.
        let text = std::fs::read_to_string(&path)?;
        std::fs::write(&path, format!("{{\"key\": \"c\"}}\n\u{0}garbage\n{text}{{\"key\":\"d\",\"ans"))?;
        let cache = Cache::<String>::open(&path)?;
        assert_eq!((cache.get("a").as_deref(), cache.get("b").as_deref()), (Some("one"), Some("two\nlines")));
        assert!(cache.get("c").is_none() && cache.get("d").is_none());
        let warnings = cache.warnings();
        assert!(warnings.len() == 1 && warnings[0].contains("3 damaged") && warnings[0].contains("line 1"), "{warnings:?}");
        // What is written now does not grow out of the cut-off line.
        cache.put("d", &"four".to_owned());
        assert_eq!(Cache::<String>::open(&path)?.get("d").as_deref(), Some("four"));
        Ok(())
    }

    #[cfg(unix)]
    #[test]
    fn nobody_but_its_owner_reads_a_cache() -> Result<(), Box<dyn std::error::Error>> {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("cache.jsonl");
        let mode = || std::fs::metadata(&path).map(|found| found.permissions().mode() & 0o777);
        Cache::<String>::open(&path)?.put("a", &"one".to_owned());
        assert_eq!(mode()?, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644))?;
        Cache::<String>::open(&path)?;
        assert_eq!(mode()?, 0o600);
        Ok(())
    }

    #[test]
    fn what_was_changed_or_said_twice_is_asked_again() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("cache.jsonl");
        let cache = Cache::<String>::open(&path)?;
        for key in ["a", "b", "c"] {
            cache.put(key, &format!("says {key}"));
        }
        drop(cache);
        let text = std::fs::read_to_string(&path)?;
        // Another answer ahead of the first, and a changed one.
        std::fs::write(&path, format!("{}\n{}", r#"{"key": "a", "response": "forged"}"#, text.replace("says b", "says d")))?;
        let cache = Cache::<String>::open(&path)?;
        assert_eq!([cache.get("a"), cache.get("b"), cache.get("c")], [None, None, Some("says c".to_owned())]);
        let warnings = cache.warnings().join("\n");
        assert!(warnings.contains("1 damaged") && warnings.contains("two things of 1 request"), "{warnings}");
        Ok(())
    }

    #[test]
    fn a_cache_that_cannot_be_opened_is_an_error_that_names_it() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let error = Cache::<String>::open(folder.path()).err().expect("it is a folder").to_string();
        assert!(error.contains(&folder.path().display().to_string()), "{error}");
        Ok(())
    }
}
