//! What a checkpoint's name stands for: a part of the program, a folder, a file, or a model of the hub.

use std::path::{Path, PathBuf};

use crate::PipelineError;
use crate::hub::{Extent, Hub, HubModel};
use crate::resources::{EmbeddedCheckpoint, Resources, TINY_BASE};

/// Where a checkpoint is.
#[derive(Debug)]
pub(crate) enum Place {
    /// In the program.
    Embedded(EmbeddedCheckpoint),
    /// A Hugging Face folder, or PEFT's.
    Folder(PathBuf),
    /// One file that holds a model with its tokenizer.
    Gguf(PathBuf),
}

impl Resources {
    /// Finds a checkpoint by its name in a recipe or on the command line. What is here goes before a model of the hub, which is fetched
    /// as far as `extent` asks for.
    ///
    /// # Errors
    /// [`PipelineError::Checkpoint`] says what was looked for, where, and what a name may be.
    pub(crate) fn place(&self, name: &str, extent: Extent) -> Result<Place, PipelineError> {
        if name.starts_with("embedded:") {
            let known = if name == TINY_BASE { self.tiny_base } else { None };
            return known.map(Place::Embedded).ok_or_else(|| refused(name, "is not part of this program"));
        }
        let path = Path::new(name);
        if path.is_dir() {
            return folder(path).map_err(|problem| refused(name, &problem));
        }
        if path.exists() {
            return if is_gguf(path) { Ok(Place::Gguf(path.to_owned())) } else { Err(refused(name, "is a file, and no `.gguf` file")) };
        }
        let Some(model) = HubModel::parse(name) else { return Err(refused(name, &absent(path))) };
        let found = Hub::from_env(self.offline).find(&model, extent);
        let found = found.map_err(|problem| refused(name, &format!("{}, and as a model of the hub {problem}", absent(path))))?;
        Ok(if is_gguf(&found) { Place::Gguf(found) } else { Place::Folder(found) })
    }
}

fn refused(name: &str, problem: &str) -> PipelineError {
    let kinds = "a Hugging Face or PEFT folder, a `.gguf` file, `org/name` of a model on the hub";
    PipelineError::Checkpoint { name: name.to_owned(), problem: format!("{problem}. A checkpoint is {kinds}, or `{TINY_BASE}`") }
}

fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")) && !path.is_dir()
}

fn folder(path: &Path) -> Result<Place, String> {
    if ["config.json", "adapter_config.json"].iter().any(|file| path.join(file).exists()) {
        return Ok(Place::Folder(path.to_owned()));
    }
    let mut within: Vec<String> = entries(path).into_iter().filter(|name| is_gguf(&path.join(name))).collect();
    within.extend(entries(path).into_iter().filter(|name| path.join(name).join("config.json").exists()));
    within.sort();
    let instead = match within.as_slice() {
        [] => String::new(),
        within => format!("; it has {}: name one", within.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
    };
    Err(format!("is a folder without a config.json{instead}"))
}

/// That there is nothing, where, and what may be meant.
fn absent(path: &Path) -> String {
    let place = match std::env::current_dir() {
        Ok(folder) if path.is_relative() => format!(" in {}", folder.display()),
        _ => String::new(),
    };
    let meant = near(path).map(|near| format!(" (did you mean `{}`?)", near.display())).unwrap_or_default();
    format!("there is no such folder or file{place}{meant}")
}

/// The path with its first part that is not there replaced by the one that is there and the most like it.
fn near(path: &Path) -> Option<PathBuf> {
    let mut there = PathBuf::new();
    let mut parts = path.components();
    let wrong = parts.by_ref().find(|part| {
        let next = there.join(part);
        let missing = !next.exists();
        if !missing {
            there = next;
        }
        missing
    })?;
    let wrong = wrong.as_os_str().to_str()?;
    let here = if there.as_os_str().is_empty() { Path::new(".") } else { &there };
    let distance = |name: &str| strsim::osa_distance(&wrong.to_lowercase(), &name.to_lowercase());
    let nearest = entries(here).into_iter().map(|name| (distance(&name), name)).min()?;
    // Two slips, and one in a short name.
    (nearest.0 <= (wrong.chars().count() / 3).min(2)).then(|| {
        let near = there.join(nearest.1);
        let whole: PathBuf = near.components().chain(parts).collect();
        if whole.exists() { whole } else { near }
    })
}

/// Names in a folder that can be written in a recipe; none where it cannot be read.
fn entries(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(name: &str) -> String {
        let resources = Resources { offline: true, ..Resources::default() };
        resources.place(name, Extent::Whole).expect_err("there is no such checkpoint").to_string()
    }

    #[test]
    fn a_name_that_leads_nowhere_says_what_was_looked_for_and_where_and_what_a_name_may_be() {
        let here = std::env::current_dir().expect("a folder");
        let told = problem("no/such/folder");
        assert!(told.starts_with("checkpoint `no/such/folder`: there is no such folder or file in "), "{told}");
        assert!(told.contains(&here.display().to_string()) && told.contains("`org/name` of a model on the hub"), "{told}");
        assert!(problem("/no/such/folder").starts_with("checkpoint `/no/such/folder`: there is no such folder or file. A checkpoint is"));
        assert!(problem("Cargo.toml").starts_with("checkpoint `Cargo.toml`: is a file, and no `.gguf` file. A checkpoint is"));
        assert!(problem("embedded:large").starts_with("checkpoint `embedded:large`: is not part of this program. A checkpoint is"));
        assert!(problem("").starts_with("checkpoint ``: there is no such folder or file"), "{}", problem(""));
    }

    #[test]
    fn what_may_be_a_model_of_the_hub_tells_of_both() {
        let told = problem("no-such-org/no-such-model");
        for part in ["there is no such folder or file in ", "and as a model of the hub it is not in the hub's cache (", "--offline"] {
            assert!(told.contains(part), "`{part}` is not in: {told}");
        }
    }

    #[test]
    fn a_slip_is_answered_with_what_is_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let model = folder.path().join("my-model/final");
        std::fs::create_dir_all(&model).expect("made");
        let suggested =
            |name: &str| problem(&folder.path().join(name).display().to_string()).contains(&format!("did you mean `{}`?", model.display()));
        for slip in ["my-modle/final", "My-Model/final", "my-model/fnal", "mymodel/final"] {
            assert!(suggested(slip), "{slip}: {}", problem(&folder.path().join(slip).display().to_string()));
        }
        assert!(!problem(&folder.path().join("other/final").display().to_string()).contains("did you mean"));
        assert!(problem(&folder.path().join("my-modle/last").display().to_string()).contains("/my-model`?"));
    }

    #[test]
    fn a_folder_that_holds_models_but_is_none_lists_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().display().to_string();
        assert!(problem(&path).contains("is a folder without a config.json. A checkpoint is"));
        std::fs::write(folder.path().join("small.Q4_1.gguf"), "").expect("written");
        std::fs::create_dir(folder.path().join("final")).expect("made");
        std::fs::write(folder.path().join("final/config.json"), "").expect("written");
        assert!(problem(&path).contains("; it has `final`, `small.Q4_1.gguf`: name one. A checkpoint is"), "{}", problem(&path));
    }
}
