//! Fetching from the hub, file by file, into the cache.
//!
//! A redirect is followed here and not by the client, because the token goes to the hub's own address alone: large files lie with somebody
//! else, who is asked without it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use adpo_data::write_file;
use serde::Deserialize;
use ureq::http::{HeaderMap, Response, Uri};
use ureq::{Agent, Body};

use super::{
    ADAPTER_WEIGHTS, ADAPTERS, CONFIG, Extent, Hub, HubModel, INDEX, TOKENIZER, TOKENIZER_CONFIG, WEIGHTS, is_commit, is_part, shards,
};

/// What is read of a model besides its weights.
const DESCRIPTION: [&str; 7] =
    [CONFIG, TOKENIZER, TOKENIZER_CONFIG, "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", ADAPTERS];

/// Redirects of one request.
const MOST_REDIRECTS: usize = 10;
/// A model's description on the hub; none has a tenth of it.
const LONGEST_LISTING: u64 = 64 << 20;

/// Why something cannot be had.
enum Problem {
    /// What the hub answered instead.
    Status(u16),
    /// It cannot be reached.
    Transport(ureq::Error),
    /// The cache cannot be written.
    Cache(std::io::Error),
    /// It is no hub.
    Strange(String),
}

impl From<std::io::Error> for Problem {
    fn from(error: std::io::Error) -> Self {
        Self::Cache(error)
    }
}

/// What the hub says of a model at a revision.
#[derive(Deserialize)]
struct Listing {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// What the hub says of a file.
struct Metadata {
    commit: String,
    etag: String,
    /// Where the answer itself says nothing of it.
    size: Option<u64>,
}

impl Hub {
    /// Fetches what is not there yet. All of it is of one commit, at which the revision points in the cache once everything is there.
    pub(super) fn fetch(&self, model: &HubModel<'_>, extent: Extent) -> Result<PathBuf, String> {
        let listing = self.listing(model).map_err(|problem| self.told(model, &problem))?;
        let commit = listing.sha;
        if !is_commit(&commit) {
            return Err(self.strange("a commit's id"));
        }
        let folder = self.folder(model);
        let snapshot = folder.join("snapshots").join(&commit);
        let listed: Vec<String> = listing.siblings.into_iter().map(|file| file.rfilename).collect();
        Files { hub: self, model, commit: &commit, folder: &folder, snapshot: &snapshot, listed }.fetch(extent)?;
        if model.revision != commit {
            let refs = folder.join("refs");
            let written =
                std::fs::create_dir_all(&refs).and_then(|()| write_file(refs.join(model.revision), &commit).map_err(std::io::Error::other));
            written.map_err(|error| self.told(model, &Problem::Cache(error)))?;
        }
        Ok(model.gguf.map_or(snapshot.clone(), |file| snapshot.join(file)))
    }

    fn listing(&self, model: &HubModel<'_>) -> Result<Listing, Problem> {
        let url = format!("{}/api/models/{}/revision/{}", self.endpoint, model.repo, model.revision);
        let (_, mut answer) = self.get(&url)?;
        let body = answer.body_mut().with_config().limit(LONGEST_LISTING).read_to_vec().map_err(Problem::Transport)?;
        serde_json::from_slice(&body).map_err(|_| Problem::Strange("description of a model".to_owned()))
    }

    /// Asks for a URL and gives the headers of the hub's own answer, and the answer that its redirects end with.
    fn get(&self, url: &str) -> Result<(HeaderMap, Response<Body>), Problem> {
        let agent: Agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_recv_response(Some(Duration::from_mins(2)))
            .user_agent(concat!("adpo/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        let mut url: Uri = url.parse().map_err(|_| Problem::Strange("URL".to_owned()))?;
        let mut first: Option<HeaderMap> = None;
        for _ in 0..=MOST_REDIRECTS {
            let mut request = agent.get(&url);
            if let Some(token) = self.token.as_ref().filter(|_| self.is_own(&url)) {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let answer = request.call().map_err(Problem::Transport)?;
            let status = answer.status();
            // What a file is, is said where it is asked for, and not where it lies.
            let told = first.get_or_insert_with(|| answer.headers().clone());
            if status.is_success() {
                return Ok((told.clone(), answer));
            }
            if !status.is_redirection() {
                return Err(Problem::Status(status.as_u16()));
            }
            let location = answer.headers().get("location").and_then(|location| location.to_str().ok());
            let next = location.and_then(|location| next(&url, location)).ok_or_else(|| Problem::Strange("redirect".to_owned()))?;
            // A model that has another name now.
            if self.is_own(&next) {
                first = None;
            }
            url = next;
        }
        Err(Problem::Strange("redirect that ends".to_owned()))
    }

    /// Whether a URL is the hub's own: scheme, host and port.
    fn is_own(&self, url: &Uri) -> bool {
        self.endpoint.parse().is_ok_and(|own: Uri| own.scheme() == url.scheme() && own.authority() == url.authority())
    }

    /// A problem, and what to do about it.
    fn told(&self, model: &HubModel<'_>, problem: &Problem) -> String {
        let Self { endpoint, cache, .. } = self;
        let repo = &model.repo;
        match problem {
            Problem::Status(401 | 403) => format!(
                "{endpoint} has no such model for you: check the name; where it is private or gated, ask for access at {endpoint}/{repo} and \
                 set HF_TOKEN to a token of yours"
            ),
            Problem::Status(404) => format!("{endpoint} has no model {repo} with the revision {}", model.revision),
            Problem::Status(status) => {
                format!("{endpoint} cannot be asked (HTTP {status}); try again, or set HF_ENDPOINT to a mirror that this machine reaches")
            }
            Problem::Transport(error) => {
                format!("{endpoint} cannot be asked ({error}); try again, or set HF_ENDPOINT to a mirror that this machine reaches")
            }
            Problem::Cache(error) => format!("the hub's cache ({}) cannot be written: {error}", cache.display()),
            Problem::Strange(what) => self.strange(what),
        }
    }

    fn strange(&self, what: &str) -> String {
        format!("{} gives what is no {what}; check HF_ENDPOINT", self.endpoint)
    }
}

/// Where a redirect leads: a whole URL, or a path on the same host.
fn next(from: &Uri, location: &str) -> Option<Uri> {
    let whole = match (location.strip_prefix("//"), location.starts_with('/')) {
        (Some(rest), _) => format!("{}://{rest}", from.scheme_str()?),
        (None, true) => format!("{}://{}{location}", from.scheme_str()?, from.authority()?),
        (None, false) => location.to_owned(),
    };
    let url: Uri = whole.parse().ok()?;
    // Nothing that was asked for over TLS comes without it.
    let known = matches!((from.scheme_str(), url.scheme_str()), (_, Some("https")) | (Some("http"), Some("http")));
    (known && url.authority().is_some()).then_some(url)
}

impl Metadata {
    fn new(headers: &HeaderMap) -> Option<Self> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let etag = text("x-linked-etag").or_else(|| text("etag"))?;
        Some(Self {
            commit: text("x-repo-commit")?,
            etag: etag.trim_start_matches("W/").trim_matches('"').to_owned(),
            size: text("x-linked-size").and_then(|size| size.parse().ok()),
        })
    }
}

/// The size of a file, by the answer that brings it.
fn size(headers: &HeaderMap) -> Option<u64> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    text("content-range").and_then(|range| range.rsplit_once('/')?.1.parse().ok()).or_else(|| text("content-length")?.parse().ok())
}

/// The files of a model at a commit.
struct Files<'a> {
    hub: &'a Hub,
    model: &'a HubModel<'a>,
    commit: &'a str,
    /// The model's folder in the cache.
    folder: &'a Path,
    /// Where the files are in it.
    snapshot: &'a Path,
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

    /// Fetches a file: its bytes to `blobs/<ETag>`, where they appear as a whole, and in the snapshot a link to them.
    fn file(&self, file: &str) -> Result<(), String> {
        let path = self.snapshot.join(file);
        if path.exists() {
            return Ok(());
        }
        let told = |problem: Problem| format!("{file}: {}", self.hub.told(self.model, &problem));
        let url = format!("{}/{}/resolve/{}/{file}", self.hub.endpoint, self.model.repo, self.commit);
        let (headers, answer) = self.hub.get(&url).map_err(told)?;
        // A path is made of the ETag.
        let metadata = Metadata::new(&headers).filter(|found| found.commit == self.commit && is_part(&found.etag));
        let Some(metadata) = metadata else { return Err(self.hub.strange(&format!("commit or ETag of {file} that fits"))) };
        let expected = metadata.size.or_else(|| size(answer.headers()));
        let blob = self.folder.join("blobs").join(&metadata.etag);
        let came = save(answer.into_body().into_reader(), &blob, expected).map_err(told)?;
        if let Some(expected) = expected.filter(|expected| *expected != came) {
            return Err(format!("{file} came with {came} bytes instead of {expected}; try again"));
        }
        link(&path, file, &metadata.etag, &blob).map_err(|error| told(error.into()))
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

/// Writes what comes, and gives its bytes; only as many as were expected become a file.
fn save(body: impl Read, blob: &Path, expected: Option<u64>) -> Result<u64, Problem> {
    let folder = blob.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut beside = tempfile::Builder::new().suffix(".incomplete").tempfile_in(folder)?;
    // One byte more tells of a body without end.
    let most = expected.map_or(u64::MAX, |expected| expected.saturating_add(1));
    let mut came = 0;
    let mut body = body.take(most);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            // A connection that ends early: the count tells.
            Err(_) if expected.is_some() => break,
            Err(error) => return Err(Problem::Transport(error.into())),
        };
        std::io::Write::write_all(&mut beside, &buffer[..read])?;
        came += read as u64;
    }
    if expected.is_none_or(|expected| expected == came) {
        beside.as_file().sync_all()?;
        beside.persist(blob).map_err(|error| error.error)?;
    }
    Ok(came)
}

/// The name of a file in its snapshot.
fn link(path: &Path, file: &str, etag: &str, blob: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    #[cfg(unix)]
    let linked = {
        let up = "../".repeat(2 + file.matches('/').count());
        let _ = blob;
        std::os::unix::fs::symlink(format!("{up}blobs/{etag}"), path)
    };
    #[cfg(not(unix))]
    let linked = {
        let _ = (file, etag);
        std::fs::copy(blob, path).map(drop)
    };
    match linked {
        // Another program was as fast.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    }
}
