//! Who is at work in a folder.
//!
//! The system holds the lock for the process that has the file open, and lets it go when that ends, however it ends: a kill leaves no lock,
//! and no number of a process has to be believed. What stands in the file is for people.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::Path;
use std::time::SystemTime;

use adpo_data::remove_unfinished;

use crate::PipelineError;
use crate::runs::utc;

const NAME: &str = ".lock";

/// A lock on a folder; it lasts as long as this does.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

/// Makes the folder where it is missing, takes its lock, and removes the files that were being written when the last one was killed.
///
/// Nothing is locked where nothing can be written: a finished run may be looked at on a disk that is read-only.
///
/// # Errors
/// [`PipelineError::Busy`] says who has the lock.
pub(crate) fn take(folder: &Path) -> Result<Option<Lock>, PipelineError> {
    std::fs::create_dir_all(folder).map_err(PipelineError::io(folder))?;
    let path = folder.join(NAME);
    let mut file = match OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => return Ok(None),
        Err(error) => return Err(PipelineError::io(&path)(error)),
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Between its lock and its words there is a moment.
            file.read_to_string(&mut holder).ok();
            let holder = if holder.trim().is_empty() { "another process".to_owned() } else { holder.trim().to_owned() };
            return Err(PipelineError::Busy { folder: folder.to_owned(), holder });
        }
        Err(TryLockError::Error(error)) => {
            log::warn!("{} cannot be locked ({error}); let nobody else work in that folder meanwhile", path.display());
            return Ok(None);
        }
    }
    // The lock holds without words too, on a full disk.
    file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(myself().as_bytes())).ok();
    remove_unfinished(folder)?;
    Ok(Some(Lock { file }))
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Nobody is there any more; the lock itself goes with the file.
        self.file.set_len(0).ok();
    }
}

/// This process, for people.
fn myself() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { String::new() } else { format!(" on {}", host.trim()) };
    format!("process {}{host}, since {}\n", std::process::id(), utc(SystemTime::now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_is_first_and_what_a_kill_left_locks_nobody_out() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("run");
        let first = take(&folder).expect("nobody is there").expect("it can be written");
        let told = take(&folder).expect_err("somebody is there").to_string();
        assert!(told.contains(&format!("process {}", std::process::id())) && told.contains("run"), "{told}");
        drop(first);
        // As a kill leaves it: with the number of a process that may be another one by now.
        std::fs::write(folder.join(NAME), format!("process {} on here\n", std::process::id())).expect("written");
        std::fs::write(folder.join("recipe.toml.tmp-4294967295-0"), "name").expect("written");
        assert!(take(&folder).expect("nobody is there").is_some());
        let left: Vec<_> = std::fs::read_dir(&folder).expect("readable").flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, [NAME]);
    }

    #[cfg(unix)]
    #[test]
    fn where_nothing_can_be_written_nothing_is_locked() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().expect("a folder");
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o555)).expect("set");
        // The superuser may write anyhow.
        assert!(take(root.path()).is_ok());
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).expect("set");
    }
}
