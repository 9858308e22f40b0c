//! A model behind OpenAI's HTTP interface: `/v1/models`, `/v1/chat/completions`, `/v1/completions`.
//!
//! `http` speaks HTTP and turns requests away; `request` makes of a request's JSON what is to be drawn, and refuses what it does not know;
//! `engine` is the one thread that has the model: it draws a token for every running row, then lets waiting rows join; `answer` makes text
//! and JSON of the tokens. Streamed or not, an answer is the same deltas.

mod answer;
mod engine;
mod error;
mod http;
mod request;
mod stops;

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use adpo_data::PlainEncoder;
use adpo_model::Dtype;
use sha2::{Digest, Sha256};

use crate::PipelineError;
use crate::resources::Resources;
use crate::speaker::Speaker;

/// How a model is served.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// The interface's name or address.
    pub host: String,
    /// Its port; 0 takes any that is free.
    pub port: u16,
    /// What requests have to bring along.
    pub api_key: Option<ApiKey>,
    /// Whether a request may ask for the toxic mode.
    pub toxic: bool,
    /// The token that calls it up.
    pub control_token: String,
    /// The type that the model is loaded in and computes in.
    pub dtype: Dtype,
    /// Longest completion that a request may ask for.
    pub max_new_tokens: usize,
    /// Completions that are drawn together; each has its cache in memory.
    pub batch_size: usize,
    /// Requests that may wait for a place among them; those after are refused.
    pub waiting: usize,
    /// Decides, with a request's number, what is drawn for requests without a seed.
    pub seed: u64,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 8000,
            api_key: None,
            toxic: false,
            control_token: "[TOXIC]".to_owned(),
            dtype: Dtype::Float32,
            max_new_tokens: 1024,
            batch_size: 16,
            waiting: 64,
            seed: 0,
        }
    }
}

/// A key that requests are held against. Only its hash is kept: it cannot be printed, and comparing hashes tells nothing about the key.
#[derive(Clone)]
pub struct ApiKey([u8; 32]);

impl ApiKey {
    /// From its text.
    pub fn new(key: &str) -> Self {
        Self(Sha256::digest(key).into())
    }

    fn is(&self, key: &str) -> bool {
        let other: [u8; 32] = Sha256::digest(key).into();
        self.0.iter().zip(other).fold(0, |different, (a, b)| different | (a ^ b)) == 0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// What all requests share.
struct Server {
    speaker: Speaker,
    plain: PlainEncoder,
    options: ServeOptions,
    /// Seconds since 1970.
    started: u64,
    requests: AtomicU64,
}

/// Serves a model, by its name in a recipe, until the program ends. `ready` is told where.
///
/// # Errors
/// [`PipelineError`] if the model cannot be loaded, an option cannot work, or the address cannot be listened on.
pub fn serve(resources: &Resources, model: &str, options: ServeOptions, ready: impl FnOnce(SocketAddr)) -> Result<(), PipelineError> {
    if [options.max_new_tokens, options.batch_size, options.waiting].contains(&0) {
        return Err(PipelineError::Serve("max_new_tokens, batch_size and waiting must be at least 1".to_owned()));
    }
    // Before the weights, which may take minutes.
    let place = format!("{}:{}", options.host, options.port);
    let listener = TcpListener::bind((options.host.as_str(), options.port))
        .map_err(|error| PipelineError::Serve(format!("cannot listen on {place} ({error}); choose another --host or --port")))?;
    let speaker = Speaker::open(resources, model, options.dtype, &options.control_token)?;
    if options.toxic {
        speaker.check_toxic()?;
    }
    let jobs = engine::start(&speaker.checkpoint.model, options.batch_size, options.waiting);
    let (plain, started) = (speaker.checkpoint.tokenizer.plain_encoder(), answer::now());
    let server = Server { speaker, plain, options, started, requests: AtomicU64::new(0) };
    http::listen(listener, Arc::new(server), jobs, ready).map_err(|error| PipelineError::Serve(format!("{place}: {error}")))
}
