//! What a checkpoint's name stands for: a part of the program, a folder, or a file.

use std::path::{Path, PathBuf};

use crate::PipelineError;
use crate::resources::{EmbeddedCheckpoint, Resources, TINY_BASE};

/// Where a checkpoint is.
pub(crate) enum Place {
    /// In the program.
    Embedded(EmbeddedCheckpoint),
    /// A Hugging Face folder, or PEFT's.
    Folder(PathBuf),
    /// One file that holds a model with its tokenizer.
    Gguf(PathBuf),
}

impl Resources {
    /// Finds a checkpoint by its name in a recipe or on the command line.
    ///
    /// # Errors
    /// [`PipelineError::Checkpoint`] says what was looked for, where, and what a name may be.
    pub(crate) fn place(&self, name: &str) -> Result<Place, PipelineError> {
        if name.starts_with("embedded:") {
            let known = if name == TINY_BASE { self.tiny_base } else { None };
            return known.map(Place::Embedded).ok_or_else(|| refused(name, "is not part of this program"));
        }
        let path = Path::new(name);
        if path.is_dir() {
            return Ok(Place::Folder(path.to_owned()));
        }
        match (path.exists(), path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))) {
            (true, true) => return Ok(Place::Gguf(path.to_owned())),
            (true, false) => return Err(refused(name, "is a file that is no `.gguf` file")),
            _ => {}
        }
        let place = match std::env::current_dir() {
            Ok(folder) if path.is_relative() => format!(" in {}", folder.display()),
            _ => String::new(),
        };
        Err(refused(name, &format!("there is no such folder or file{place}")))
    }
}

fn refused(name: &str, problem: &str) -> PipelineError {
    let problem = format!("{problem}; a checkpoint is a Hugging Face folder, a PEFT folder, a `.gguf` file, or `{TINY_BASE}`");
    PipelineError::Checkpoint { name: name.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(name: &str) -> String {
        Resources::default().place(name).err().expect("there is no such checkpoint").to_string()
    }

    #[test]
    fn a_name_that_leads_nowhere_says_what_was_looked_for_and_where_and_what_a_name_may_be() {
        let here = std::env::current_dir().expect("a folder");
        let told = problem("no/such/folder");
        assert!(told.starts_with("checkpoint `no/such/folder`: there is no such folder or file in "), "{told}");
        assert!(told.contains(&here.display().to_string()) && told.contains("Hugging Face folder"), "{told}");
        assert!(problem("/no/such/folder").starts_with("checkpoint `/no/such/folder`: there is no such folder or file; a checkpoint is"));
        assert!(problem("Cargo.toml").starts_with("checkpoint `Cargo.toml`: is a file that is no `.gguf` file; a checkpoint is"));
        assert!(problem("embedded:large").starts_with("checkpoint `embedded:large`: is not part of this program; a checkpoint is"));
        assert!(problem("").starts_with("checkpoint ``: there is no such folder or file"), "{}", problem(""));
    }
}
