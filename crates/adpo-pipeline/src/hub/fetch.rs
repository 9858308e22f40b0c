//! Fetching from the hub, file by file, into the cache.

use std::path::PathBuf;

use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

use super::{
    ADAPTER_WEIGHTS, ADAPTERS, CONFIG, Extent, Hub, HubModel, INDEX, TOKENIZER, TOKENIZER_CONFIG, WEIGHTS, is_commit, is_part, shards,
};

/// What is read of a model besides its weights.
const DESCRIPTION: [&str; 6] = [CONFIG, TOKENIZER, TOKENIZER_CONFIG, "special_tokens_map.json", "chat_template.jinja", ADAPTERS];

impl Hub {
    /// Fetches what is not there yet. All of it is of one commit, at which the revision points in the cache once everything is there.
    pub(super) fn fetch(&self, model: &HubModel<'_>, extent: Extent) -> Result<PathBuf, String> {
        let cache = Cache::new(self.cache.clone());
        let api = ApiBuilder::from_cache(cache.clone())
            .with_endpoint(self.endpoint.clone())
            .with_token(self.token.clone())
            .with_user_agent("adpo", env!("CARGO_PKG_VERSION"))
            .build()
            .map_err(|problem| self.told(model, &problem))?;
        let at = |revision: &str| Repo::with_revision(model.repo.clone(), RepoType::Model, revision.to_owned());
        let info = api.repo(at(model.revision)).info().map_err(|problem| self.told(model, &problem))?;
        let commit = info.sha;
        if !is_commit(&commit) {
            return Err(self.strange("a commit's id"));
        }
        let snapshot = cache.repo(at(&commit)).pointer_path(&commit);
        let listed: Vec<String> = info.siblings.into_iter().map(|file| file.rfilename).collect();
        let files = Files { hub: self, model, repo: api.repo(at(&commit)), api: &api, commit: &commit, snapshot: &snapshot, listed };
        files.fetch(extent)?;
        let refs = |error: std::io::Error| format!("the hub's cache ({}) cannot be written: {error}", self.cache.display());
        if model.revision != commit {
            cache.repo(at(model.revision)).create_ref(&commit).map_err(refs)?;
            // The crate leaves one for the commit itself, which no listing of the cache need show.
            std::fs::remove_file(self.folder(model).join("refs").join(&commit)).ok();
        }
        Ok(model.gguf.map_or(snapshot.clone(), |file| snapshot.join(file)))
    }

    /// An error of the crate, and what to do about it.
    fn told(&self, model: &HubModel<'_>, problem: &ApiError) -> String {
        let Self { endpoint, cache, .. } = self;
        let repo = &model.repo;
        match problem {
            ApiError::RequestError(error) => match **error {
                ureq::Error::StatusCode(401 | 403) => format!(
                    "{endpoint} has no such model for you: check the name; where it is private or gated, ask for access at {endpoint}/{repo} \
                     and set HF_TOKEN to a token of yours"
                ),
                ureq::Error::StatusCode(404) => format!("{endpoint} has no model {repo} with the revision {}", model.revision),
                _ => format!("{endpoint} cannot be asked ({error}); try again, or set HF_ENDPOINT to a mirror that this machine reaches"),
            },
            ApiError::LockAcquisition(file) => format!("another program is fetching it ({} is locked); wait for it", file.display()),
            ApiError::IoError(error) => format!("the hub's cache ({}) cannot be written: {error}", cache.display()),
            other => format!("{endpoint} does not answer as a hub does ({other}); check HF_ENDPOINT"),
        }
    }

    fn strange(&self, what: &str) -> String {
        format!("{} gives what is no {what}; check HF_ENDPOINT", self.endpoint)
    }
}

/// The files of a model at a commit.
struct Files<'a> {
    hub: &'a Hub,
    model: &'a HubModel<'a>,
    api: &'a hf_hub::api::sync::Api,
    repo: ApiRepo,
    commit: &'a str,
    /// Where they are in the cache.
    snapshot: &'a std::path::Path,
    /// Their names on the hub.
    listed: Vec<String>,
}

impl Files<'_> {
    fn has(&self, file: &str) -> bool {
        self.listed.iter().any(|listed| listed == file)
    }

    fn fetch(&self, extent: Extent) -> Result<(), String> {
        if let Some(file) = self.model.gguf {
            return if self.has(file) { self.file(file) } else { Err(self.lacks(file)) };
        }
        if !self.has(ADAPTERS)
            && let Some(absent) = [CONFIG, TOKENIZER].into_iter().find(|file| !self.has(file))
        {
            return Err(self.lacks(absent));
        }
        DESCRIPTION.into_iter().filter(|file| self.has(file)).try_for_each(|file| self.file(file))?;
        if extent == Extent::Description {
            return Ok(());
        }
        let weights = if self.has(ADAPTERS) { ADAPTER_WEIGHTS } else { WEIGHTS };
        if self.has(weights) || !self.has(INDEX) {
            return if self.has(weights) { self.file(weights) } else { Err(self.lacks(weights)) };
        }
        self.file(INDEX)?;
        let shards = shards(self.snapshot).ok_or_else(|| format!("its {INDEX} on the hub lists no files of weights"))?;
        shards.iter().try_for_each(|shard| self.file(shard))
    }

    fn file(&self, file: &str) -> Result<(), String> {
        let path = self.snapshot.join(file);
        if path.exists() {
            return Ok(());
        }
        let told = |problem: ApiError| format!("{file}: {}", self.hub.told(self.model, &problem));
        // The crate makes paths of both.
        let metadata = self.api.metadata(&self.repo.url(file)).map_err(told)?;
        if metadata.commit_hash() != self.commit || !is_part(metadata.etag()) {
            return Err(self.hub.strange(&format!("commit or ETag of {file} that fits")));
        }
        let blob = self.repo.download(file).and_then(|path| Ok(path.canonicalize()?)).map_err(told)?;
        // A download that went on where an earlier one had ended may have gone on with something else.
        let size = std::fs::metadata(&blob).map_err(|error| told(error.into()))?.len();
        if size != metadata.size() as u64 {
            std::fs::remove_file(&blob).ok();
            std::fs::remove_file(&path).ok();
            return Err(format!("{file} came with {size} bytes instead of {}; try again", metadata.size()));
        }
        Ok(())
    }

    /// A file that is needed and not there, and what may be meant instead.
    fn lacks(&self, file: &str) -> String {
        let gguf: Vec<&str> = self.listed.iter().map(String::as_str).filter(|file| file.to_ascii_lowercase().ends_with(".gguf")).collect();
        let instead = match gguf.as_slice() {
            [] if self.has("pytorch_model.bin") => "its weights are pickles; convert them to safetensors".to_owned(),
            [] => "take a model in the format of transformers, with safetensors and a tokenizer.json".to_owned(),
            files => format!("name one of its GGUF files: {}", files.join(", ")),
        };
        format!("it has no {file} on the hub; {instead}")
    }
}
