//! Models of the Hugging Face hub, in the cache that its Python package keeps: what either has fetched is there for both.
//! <https://huggingface.co/docs/huggingface_hub/guides/manage-cache>

#[cfg(feature = "hub")]
mod fetch;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const ADAPTERS: &str = "adapter_config.json";
const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";

/// How much of a checkpoint has to be here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Shape, tokenizer and template: all that a plan needs.
    Description,
    /// The weights as well.
    Whole,
}

/// A model by its name on the hub: `org/name`, at a revision `org/name@revision`, and one file of it `org/name/FILE.gguf`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HubModel<'a> {
    repo: String,
    /// A branch, a tag or a commit.
    revision: &'a str,
    gguf: Option<&'a str>,
}

impl<'a> HubModel<'a> {
    /// `None` for what cannot be such a name.
    pub(crate) fn parse(name: &'a str) -> Option<Self> {
        let (org, rest) = name.split_once('/')?;
        let (model, gguf) = rest.split_once('/').map_or((rest, None), |(model, file)| (model, Some(file)));
        let (model, revision) = model.split_once('@').unwrap_or((model, "main"));
        let file = gguf.is_none_or(|file| file.to_ascii_lowercase().ends_with(".gguf") && file.split('/').all(is_part));
        (file && [org, model, revision].into_iter().all(is_part)).then(|| Self { repo: format!("{org}/{model}"), revision, gguf })
    }
}

/// A part of a name, as the hub allows it; none leads out of a folder.
fn is_part(part: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=96).contains(&part.len())
        && part.chars().all(known)
        && !part.starts_with(['.', '-'])
        && !part.ends_with('.')
        && !part.contains("..")
}

fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Where models of the hub come from and are kept.
#[derive(Debug)]
pub(crate) struct Hub {
    cache: PathBuf,
    /// Nothing is fetched.
    offline: bool,
    #[cfg(feature = "hub")]
    endpoint: String,
    #[cfg(feature = "hub")]
    token: Option<String>,
}

impl Hub {
    /// As `huggingface_hub` finds them: `HF_HUB_CACHE`, `HF_HOME`, `HF_HUB_OFFLINE`, `HF_ENDPOINT`, `HF_TOKEN`, and the token that
    /// `hf auth login` keeps.
    pub(crate) fn from_env(offline: bool) -> Self {
        let default = || {
            let user = || std::env::home_dir().unwrap_or_default().join(".cache");
            variable("XDG_CACHE_HOME").map_or_else(user, PathBuf::from).join("huggingface")
        };
        let home = variable("HF_HOME").map_or_else(default, PathBuf::from);
        Self {
            cache: variable("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from),
            offline: offline || variable("HF_HUB_OFFLINE").is_some_and(|value| is_on(&value)),
            #[cfg(feature = "hub")]
            endpoint: variable("HF_ENDPOINT")
                .map_or_else(|| "https://huggingface.co".to_owned(), |url| url.trim_end_matches('/').to_owned()),
            #[cfg(feature = "hub")]
            token: variable("HF_TOKEN").or_else(|| {
                let file = variable("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
                Some(std::fs::read_to_string(file).ok()?.trim().to_owned()).filter(|token| !token.is_empty())
            }),
        }
    }

    /// A model's folder in the cache, or its GGUF file. What is in the cache is used as it is, and nobody is asked whether there is
    /// a newer one; what is not there is fetched.
    ///
    /// # Errors
    /// Why it cannot be had, and what to do.
    pub(crate) fn find(&self, model: &HubModel<'_>, extent: Extent) -> Result<PathBuf, String> {
        if let Some(found) = self.snapshot(model).and_then(|snapshot| within(&snapshot, model, extent)) {
            return Ok(found);
        }
        let cache = self.cache.display();
        if self.offline {
            return Err(format!("it is not in the hub's cache ({cache}), and nothing is fetched with --offline or HF_HUB_OFFLINE"));
        }
        #[cfg(feature = "hub")]
        return self.fetch(model, extent);
        #[cfg(not(feature = "hub"))]
        Err(format!(
            "it is not in the hub's cache ({cache}), and this program was built without the feature `hub` that fetches models: build it with \
             `--features hub`, or run `hf download {}` first",
            model.repo
        ))
    }

    fn folder(&self, model: &HubModel<'_>) -> PathBuf {
        self.cache.join(format!("models--{}", model.repo.replace('/', "--")))
    }

    /// The folder of the commit that the cache has for a revision.
    fn snapshot(&self, model: &HubModel<'_>) -> Option<PathBuf> {
        let folder = self.folder(model);
        let commit = std::fs::read_to_string(folder.join("refs").join(model.revision));
        let commit = commit.as_deref().map_or(model.revision, str::trim);
        is_commit(commit).then(|| folder.join("snapshots").join(commit))
    }
}

/// What `find` gives, if the snapshot has it.
fn within(snapshot: &Path, model: &HubModel<'_>, extent: Extent) -> Option<PathBuf> {
    if let Some(file) = model.gguf {
        return Some(snapshot.join(file)).filter(|file| file.exists());
    }
    let has = |file: &str| snapshot.join(file).exists();
    let weights = || has(WEIGHTS) || shards(snapshot).is_some_and(|shards| shards.iter().all(|shard| has(shard)));
    let there = if has(ADAPTERS) {
        extent == Extent::Description || has(ADAPTER_WEIGHTS)
    } else {
        [CONFIG, TOKENIZER, TOKENIZER_CONFIG].into_iter().all(has) && (extent == Extent::Description || weights())
    };
    there.then(|| snapshot.to_owned())
}

/// The files of weights that a snapshot's index lists, where it has one.
fn shards(snapshot: &Path) -> Option<BTreeSet<String>> {
    let index: serde_json::Value = serde_json::from_slice(&std::fs::read(snapshot.join(INDEX)).ok()?).ok()?;
    let files: Option<BTreeSet<String>> = index["weight_map"].as_object()?.values().map(|file| Some(file.as_str()?.to_owned())).collect();
    files.filter(|files| !files.is_empty() && files.iter().all(|file| is_part(file)))
}

/// An environment variable that says something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// As `huggingface_hub` reads switches.
fn is_on(value: &str) -> bool {
    matches!(value.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE")
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn offline(cache: &Path) -> Hub {
        Hub {
            cache: cache.to_owned(),
            offline: true,
            #[cfg(feature = "hub")]
            endpoint: String::new(),
            #[cfg(feature = "hub")]
            token: None,
        }
    }

    fn model(name: &str) -> HubModel<'_> {
        HubModel::parse(name).expect("a name of the hub")
    }

    /// Puts empty files into the snapshot of a commit.
    fn put(cache: &Path, files: &[&str]) -> PathBuf {
        let snapshot = cache.join("models--org--name/snapshots").join(COMMIT);
        std::fs::create_dir_all(&snapshot).expect("made");
        for file in files {
            std::fs::write(snapshot.join(file), "").expect("written");
        }
        snapshot
    }

    fn point(cache: &Path, revision: &str, commit: &str) {
        let refs = cache.join("models--org--name/refs");
        std::fs::create_dir_all(&refs).expect("made");
        std::fs::write(refs.join(revision), commit).expect("written");
    }

    #[test]
    fn names_of_the_hub_have_an_owner_and_lead_out_of_no_folder() {
        let of = |repo: &str, revision, gguf| HubModel { repo: repo.to_owned(), revision, gguf };
        assert_eq!(model("HuggingFaceTB/SmolLM2-135M"), of("HuggingFaceTB/SmolLM2-135M", "main", None));
        assert_eq!(model("org/name@v1.0"), of("org/name", "v1.0", None));
        assert_eq!(model("org/name/small.Q4_1.gguf"), of("org/name", "main", Some("small.Q4_1.gguf")));
        assert_eq!(model("org/name@dev/sub/x.GGUF"), of("org/name", "dev", Some("sub/x.GGUF")));
        for name in [
            "",
            "name",
            "org/",
            "/name",
            "./name",
            "../name",
            "~/name",
            "a/../b.gguf",
            "a/b/../../c.gguf",
            "a/b/c",
            "a/b c",
            "a/b/",
            "a/.b",
            "a/b@",
        ] {
            assert_eq!(HubModel::parse(name), None, "{name}");
        }
        assert_eq!(HubModel::parse(&format!("org/{}", "x".repeat(97))), None);
    }

    #[test]
    fn a_snapshot_is_used_once_all_that_is_asked_for_is_in_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let (cache, hub) = (folder.path(), offline(folder.path()));
        let found = |name: &str, extent| hub.find(&model(name), extent);
        let snapshot = put(cache, &["config.json", "tokenizer.json"]);
        assert!(found("org/name", Extent::Description).is_err(), "no branch points at it");
        point(cache, "main", &format!("{COMMIT}\n"));
        assert!(found("org/name", Extent::Description).is_err(), "a file is missing");
        put(cache, &["tokenizer_config.json"]);
        assert_eq!(found("org/name", Extent::Description), Ok(snapshot.clone()));
        let problem = found("org/name", Extent::Whole).expect_err("there are no weights");
        assert!(problem.contains("not in the hub's cache") && problem.contains("--offline"), "{problem}");
        // As one file, or as many as the index lists.
        put(cache, &[WEIGHTS]);
        assert_eq!(found("org/name", Extent::Whole), Ok(snapshot.clone()));
        std::fs::remove_file(snapshot.join(WEIGHTS)).expect("removed");
        let index = r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}"#;
        std::fs::write(snapshot.join(INDEX), index).expect("written");
        put(cache, &["model-1.safetensors"]);
        assert!(found("org/name", Extent::Whole).is_err(), "a shard is missing");
        put(cache, &["model-2.safetensors"]);
        assert_eq!(found("org/name", Extent::Whole), Ok(snapshot.clone()));
        // By its commit, or another branch; one file alone.
        assert_eq!(found(&format!("org/name@{COMMIT}"), Extent::Whole), Ok(snapshot.clone()));
        assert!(found("org/name@dev", Extent::Whole).is_err());
        assert!(found("org/name/small.gguf", Extent::Whole).is_err());
        put(cache, &["small.gguf"]);
        assert_eq!(found("org/name/small.gguf", Extent::Whole), Ok(snapshot.join("small.gguf")));
    }

    #[test]
    fn adapters_need_no_tokenizer() {
        let folder = tempfile::tempdir().expect("a folder");
        let snapshot = put(folder.path(), &[ADAPTERS]);
        point(folder.path(), "main", COMMIT);
        let find = |extent| offline(folder.path()).find(&model("org/name"), extent);
        assert_eq!(find(Extent::Description), Ok(snapshot.clone()));
        assert!(find(Extent::Whole).is_err());
        put(folder.path(), &[ADAPTER_WEIGHTS]);
        assert_eq!(find(Extent::Whole), Ok(snapshot));
    }

    #[test]
    fn a_branch_or_an_index_that_leads_elsewhere_is_not_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let snapshot = put(folder.path(), &["config.json", "tokenizer.json", "tokenizer_config.json"]);
        point(folder.path(), "main", "../../../elsewhere");
        let find = |extent| offline(folder.path()).find(&model("org/name"), extent);
        assert!(find(Extent::Description).is_err());
        point(folder.path(), "main", COMMIT);
        std::fs::write(snapshot.join(INDEX), r#"{"weight_map": {"a": "../../refs/main"}}"#).expect("written");
        assert!(find(Extent::Description).is_ok() && find(Extent::Whole).is_err());
    }

    #[test]
    fn switches_are_read_as_the_python_package_reads_them() {
        assert!(["1", "true", "Yes", "ON"].into_iter().all(is_on) && !["0", "false", "no", "2"].into_iter().any(is_on));
    }
}
