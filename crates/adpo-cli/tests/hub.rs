//! Models of the hub, from a server on this machine that answers as the hub does with the files of a folder.
#![cfg(all(feature = "hub", unix))]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use common::{stderr, stdout, text};
use serde_json::json;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What a request asked for, and the token that came along.
type Asked = (String, Option<String>);

/// The hub with one model, `org/name`.
#[derive(Clone)]
struct Hub {
    port: u16,
    files: Arc<BTreeMap<String, Vec<u8>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    behaviour: Arc<Behaviour>,
}

/// Where this hub is another than the real one.
struct Behaviour {
    /// Who may read the model; everybody without one.
    token: Option<&'static str>,
    commit: &'static str,
    /// What comes before the digest in a file's ETag.
    etag: &'static str,
    /// Bytes of a file that are sent at most.
    cut: usize,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self { token: None, commit: COMMIT, etag: "", cut: usize::MAX }
    }
}

impl Hub {
    fn of(files: BTreeMap<String, Vec<u8>>, behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let hub = Self { port, files: Arc::new(files), asked: Arc::default(), behaviour: Arc::new(behaviour) };
        let serving = hub.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let hub = serving.clone();
                std::thread::spawn(move || hub.answer(&stream));
            }
        });
        hub
    }

    fn with(fixture: &str, behaviour: Behaviour) -> Self {
        Self::of(files(fixture), behaviour)
    }

    /// What was asked for since the last call.
    fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().expect("no test failed in it"))
    }

    /// One request for each connection.
    fn answer(&self, mut stream: &TcpStream) {
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
        let Some(path) = lines.next().and_then(|line| Some(line.split(' ').nth(1)?.to_owned())) else { return };
        let headers: BTreeMap<String, String> =
            lines.filter_map(|line| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()))).collect();
        let token = headers.get("authorization").and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned);
        self.asked.lock().expect("no test failed in it").push((path.clone(), token.clone()));
        let allowed = self.behaviour.token.is_none_or(|needed| token.as_deref() == Some(needed)) || path.starts_with("/cdn/");
        let range = headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
        let answer = if allowed { self.reply(&path, range) } else { head("401 Unauthorized", &[]).into_bytes() };
        let _ = stream.write_all(&answer);
    }

    fn reply(&self, path: &str, range: Option<(&str, &str)>) -> Vec<u8> {
        if path == "/api/models/org/name/revision/main" {
            let listed: Vec<_> = self.files.keys().map(|file| json!({"rfilename": file})).collect();
            let body = json!({"id": "org/name", "sha": self.behaviour.commit, "siblings": listed}).to_string();
            return (head("200 OK", &[("Content-Length", &body.len().to_string())]) + &body).into_bytes();
        }
        let resolved = path.strip_prefix(&format!("/org/name/resolve/{COMMIT}/"));
        let Some((file, bytes)) = resolved.or(path.strip_prefix("/cdn/")).and_then(|file| self.files.get_key_value(file)) else {
            return head("404 Not Found", &[]).into_bytes();
        };
        let etag = format!("\"{}{:064x}\"", self.behaviour.etag, bytes.len());
        let commit = [("X-Repo-Commit", self.behaviour.commit), ("X-Linked-Etag", &etag), ("ETag", &etag)];
        if resolved.is_some() && file.ends_with(".safetensors") {
            // Large files are elsewhere: on another host.
            let elsewhere = format!("http://localhost:{}/cdn/{file}", self.port);
            return head("302 Found", &[commit.as_slice(), &[("Location", &elsewhere)]].concat()).into_bytes();
        }
        let (first, last) = range.map_or((0_usize, bytes.len()), |(first, last)| {
            (first.parse::<usize>().expect("a number"), last.parse().map_or(bytes.len(), |last: usize| (last + 1).min(bytes.len())))
        });
        let sent = &bytes[first..last.min(first.saturating_add(self.behaviour.cut)).max(first)];
        let (length, of) = (sent.len().to_string(), format!("bytes {first}-{}/{}", last.saturating_sub(1), bytes.len()));
        let headers = [commit.as_slice(), &[("Content-Length", &length), ("Content-Range", &of)]].concat();
        [head("206 Partial Content", &headers).as_bytes(), sent].concat()
    }
}

fn head(status: &str, headers: &[(&str, &str)]) -> String {
    let mut lines = vec![format!("HTTP/1.1 {status}")];
    lines.extend(headers.iter().map(|(name, value)| format!("{name}: {value}")));
    if headers.iter().all(|(name, _)| *name != "Content-Length") {
        lines.push("Content-Length: 0".to_owned());
    }
    lines.push("Connection: close".to_owned());
    lines.join("\r\n") + "\r\n\r\n"
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

fn files(name: &str) -> BTreeMap<String, Vec<u8>> {
    let read = |entry: std::fs::DirEntry| (entry.file_name().into_string().expect("UTF-8"), std::fs::read(entry.path()).expect("is there"));
    std::fs::read_dir(fixture(name)).expect("is there").map(|entry| read(entry.expect("is there"))).collect()
}

fn adpo(folder: &Path, hub: &Hub, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_adpo"))
        .args(arguments)
        .current_dir(folder)
        .env("HF_HOME", folder.join("hf"))
        .env("HF_ENDPOINT", format!("http://127.0.0.1:{}/", hub.port))
        .env_remove("HF_HUB_CACHE")
        .env_remove("HF_HUB_OFFLINE")
        .env_remove("HF_TOKEN")
        .env_remove("ADPO_DATA")
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("adpo starts");
    // It may be gone before it has read everything.
    let _ = child.stdin.take().expect("is a pipe").write_all(b"Hello there.\n");
    child.wait_with_output().expect("adpo ends")
}

fn chat<'a>(model: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["chat", model, "--temperature", "0", "--max-new-tokens", "12"], more].concat()
}

fn response(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    stdout(output)
}

fn problem(output: &Output) -> String {
    assert!(!output.status.success(), "{}", stdout(output));
    stderr(output)
}

#[test]
fn a_model_is_fetched_once_and_says_what_its_folder_says() {
    for name in ["llama2-mha", "llama3-gqa-tied-sharded-bf16"] {
        let (folder, hub) = (tempfile::tempdir().expect("a folder"), Hub::with(name, Behaviour::default()));
        let folder = folder.path();
        let from_hub = |more: &[&str]| response(&adpo(folder, &hub, &chat("org/name", more), &[]));
        let first = from_hub(&[]);
        assert_eq!(first, response(&adpo(folder, &hub, &chat(text(&fixture(name)), &[]), &[])));
        let asked = hub.asked();
        assert!(asked.iter().all(|(path, token)| token.is_none() && !path.contains("expected")), "only what is read: {asked:?}");
        // Then it is in the cache, where nobody is asked again.
        assert_eq!([from_hub(&[]), from_hub(&["--offline"])], [first.clone(), first.clone()]);
        assert_eq!(hub.asked(), []);
        // The cache is the one of the Python package.
        let cache = folder.join("hf/hub/models--org--name");
        assert_eq!(std::fs::read_to_string(cache.join("refs/main")).expect("a branch"), COMMIT);
        assert_eq!(std::fs::read_dir(cache.join("refs")).expect("branches").count(), 1);
        let config = cache.join("snapshots").join(COMMIT).join("config.json");
        assert_eq!(std::fs::read(&config).expect("is there"), files(name)["config.json"]);
        let blob = std::fs::read_link(&config).expect("a link");
        assert!(blob.starts_with("../../blobs") && blob.file_name().is_some_and(|name| name.len() == 64), "{}", blob.display());
        // By its commit it is the same.
        assert_eq!(response(&adpo(folder, &hub, &chat(&format!("org/name@{COMMIT}"), &["--offline"]), &[])), first);
    }
}

#[test]
fn a_plan_needs_no_weights_and_a_run_fetches_them_once() {
    let (folder, hub) = (tempfile::tempdir().expect("a folder"), Hub::with("llama2-mha", Behaviour::default()));
    let folder = folder.path();
    let rows = (0..4).map(|i| json!({"prompt": "Which number?", "chosen": i.to_string(), "rejected": "None."}).to_string() + "\n");
    std::fs::write(folder.join("pairs.jsonl"), rows.collect::<String>()).expect("written");
    let recipe = "name = 'own'\nseeds = [1]\nbase = { checkpoint = 'org/name' }\nencoding = { max_length = 60 }\n[preference]\n\
        sources = [{ id = 'pairs.jsonl', buckets = [0, 1, 2, 3, 5] }]\ntrain = { learning_rate = 1e-3, batch_size = 2 }\n[[policies]]\nname = 'dpo'\nobjective.dpo = {}\n";
    std::fs::write(folder.join("own.toml"), recipe).expect("written");
    let weights = |asked: &[Asked]| asked.iter().filter(|(path, _)| path.contains("safetensors")).count();
    let planned = adpo(folder, &hub, &["plan", "own.toml", "--data-dir", "."], &[]);
    assert!(response(&planned).contains("FLOPs"), "{}", stdout(&planned));
    let asked = hub.asked();
    assert!(!asked.is_empty() && weights(&asked) == 0, "{asked:?}");
    response(&adpo(folder, &hub, &["run", "own.toml", "--data-dir", "."], &[]));
    let asked = hub.asked();
    // What it is like, its size, and the file: each time the hub says where it is.
    assert!((1..=6).contains(&weights(&asked)) && asked.iter().all(|(path, _)| !path.ends_with("tokenizer.json")), "{asked:?}");
    response(&adpo(folder, &hub, &["export", "org/name", "--out", "exported"], &[]));
    assert_eq!(hub.asked(), []);
}

#[test]
fn a_gguf_file_of_the_hub_is_fetched_by_its_name() {
    let (folder, hub) = (tempfile::tempdir().expect("a folder"), Hub::with("tiny-gguf", Behaviour::default()));
    let folder = folder.path();
    let local = fixture("tiny-gguf/tiny.gguf");
    let from_hub = response(&adpo(folder, &hub, &chat("org/name/tiny.gguf", &[]), &[]));
    assert_eq!(from_hub, response(&adpo(folder, &hub, &chat(text(&local), &[]), &[])));
    let told = problem(&adpo(folder, &hub, &chat("org/name", &[]), &[]));
    assert!(told.contains("it has no config.json on the hub; name one of its GGUF files: tiny.gguf"), "{told}");
    let told = problem(&adpo(folder, &hub, &chat("org/name/other.gguf", &[]), &[]));
    assert!(told.contains("it has no other.gguf on the hub; name one of its GGUF files: tiny.gguf"), "{told}");
}

#[test]
fn the_token_opens_a_closed_model_and_goes_to_no_other_host() {
    let closed = || Hub::with("llama2-mha", Behaviour { token: Some("hf_secret"), ..Behaviour::default() });
    let (folder, hub) = (tempfile::tempdir().expect("a folder"), closed());
    let told = problem(&adpo(folder.path(), &hub, &chat("org/name", &[]), &[]));
    assert!(told.contains("private or gated") && told.contains("HF_TOKEN"), "{told}");
    hub.asked();
    response(&adpo(folder.path(), &hub, &chat("org/name", &[]), &[("HF_TOKEN", "hf_secret")]));
    let asked = hub.asked();
    assert!(asked.iter().any(|(path, _)| path.starts_with("/cdn/")), "the weights are elsewhere");
    for (path, token) in &asked {
        assert_eq!(token.as_deref(), (!path.starts_with("/cdn/")).then_some("hf_secret"), "{path}");
    }
    // As `hf auth login` keeps it.
    let (folder, hub) = (tempfile::tempdir().expect("a folder"), closed());
    std::fs::create_dir(folder.path().join("hf")).expect("made");
    std::fs::write(folder.path().join("hf/token"), "hf_secret\n").expect("written");
    response(&adpo(folder.path(), &hub, &chat("org/name", &[]), &[]));
}

#[test]
fn offline_nothing_is_asked() {
    let (folder, hub) = (tempfile::tempdir().expect("a folder"), Hub::with("llama2-mha", Behaviour::default()));
    for (more, variables) in [(["--offline"].as_slice(), [].as_slice()), (&[], &[("HF_HUB_OFFLINE", "1")])] {
        let told = problem(&adpo(folder.path(), &hub, &chat("org/name", more), variables));
        assert!(told.contains("it is not in the hub's cache (") && told.contains("HF_HUB_OFFLINE"), "{told}");
    }
    assert_eq!(hub.asked(), []);
    response(&adpo(folder.path(), &hub, &chat("org/name", &[]), &[("HF_HUB_OFFLINE", "0")]));
}

#[test]
fn what_the_hub_does_not_have_is_said() {
    let (folder, hub) = (tempfile::tempdir().expect("a folder"), Hub::with("llama2-mha", Behaviour::default()));
    let told = problem(&adpo(folder.path(), &hub, &chat("org/other", &[]), &[]));
    assert!(told.contains("has no model org/other with the revision main"), "{told}");
    let told = problem(&adpo(folder.path(), &hub, &chat("org/name@dev", &[]), &[]));
    assert!(told.contains("has no model org/name with the revision dev"), "{told}");
    let mut pickled = files("llama2-mha");
    let weights = pickled.remove("model.safetensors").expect("weights");
    pickled.insert("pytorch_model.bin".into(), weights);
    let hub = Hub::of(pickled, Behaviour::default());
    let told = problem(&adpo(folder.path(), &hub, &chat("org/name", &[]), &[]));
    assert!(told.contains("it has no model.safetensors on the hub; its weights are pickles"), "{told}");
    let told = problem(&adpo(folder.path(), &hub, &chat("org/name", &[]), &[("HF_ENDPOINT", "http://127.0.0.1:9")]));
    assert!(told.contains("http://127.0.0.1:9 cannot be asked (") && told.contains("mirror"), "{told}");
}

#[test]
fn a_file_that_came_by_half_is_fetched_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let broken = Hub::with("llama2-mha", Behaviour { cut: 1000, ..Behaviour::default() });
    let told = problem(&adpo(folder.path(), &broken, &chat("org/name", &[]), &[]));
    assert!(told.contains("came with 1000 bytes instead of"), "{told}");
    let hub = Hub::with("llama2-mha", Behaviour::default());
    response(&adpo(folder.path(), &hub, &chat("org/name", &[]), &[]));
}

#[test]
fn no_answer_leads_out_of_the_cache() {
    for (commit, etag) in [("../../../../elsewhere", ""), (COMMIT, "../../../"), ("", ""), (COMMIT, ".")] {
        let folder = tempfile::tempdir().expect("a folder");
        let hub = Hub::with("llama2-mha", Behaviour { commit, etag, ..Behaviour::default() });
        let told = problem(&adpo(folder.path(), &hub, &chat("org/name", &[]), &[]));
        assert!(told.contains("check HF_ENDPOINT"), "{told}");
        let below: Vec<PathBuf> =
            std::fs::read_dir(folder.path()).expect("is there").map(|entry| entry.expect("is there").path()).collect();
        assert!(below.iter().all(|path| path.ends_with("hf")), "{below:?}");
    }
    // Nor an index of weights.
    let mut files = files("llama3-gqa-tied-sharded-bf16");
    files.insert("model.safetensors.index.json".into(), br#"{"weight_map": {"a": "../../x.safetensors"}}"#.to_vec());
    let folder = tempfile::tempdir().expect("a folder");
    let told = problem(&adpo(folder.path(), &Hub::of(files, Behaviour::default()), &chat("org/name", &[]), &[]));
    assert!(told.contains("lists no files of weights"), "{told}");
}
