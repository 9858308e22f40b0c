//! How endpoints are described in recipes and on command lines; read with or without the feature `http`.

use serde::{Deserialize, Serialize};

/// A chat model behind one or more OpenAI-compatible endpoints (vLLM, llama.cpp, Ray Serve, …).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointOptions {
    /// Base URLs, as OpenAI clients take them: `http://host:8000/v1`. All serve the same model.
    pub urls: Vec<String>,
    /// The model's name, as the endpoints know it.
    pub model: String,
    /// The environment variable that holds the API key; without it none is sent.
    pub api_key_env: Option<String>,
    /// Longest verdict in tokens.
    #[serde(default = "verdict_tokens")]
    pub max_tokens: usize,
    /// Patience and parallelism.
    #[serde(default)]
    pub limits: RequestLimits,
}

impl EndpointOptions {
    /// One endpoint or several, without a key, everything else at its default.
    pub fn new(urls: Vec<String>, model: impl Into<String>) -> Self {
        Self { urls, model: model.into(), api_key_env: None, max_tokens: verdict_tokens(), limits: RequestLimits::default() }
    }
}

/// A text classifier behind one or more endpoints: `{"inputs": …}` in, labels with scores out, as Hugging Face's
/// text-classification servers do it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierOptions {
    /// Full URLs; all serve the same model.
    pub urls: Vec<String>,
    /// The model's name, for reports and the cache; the endpoint is not told.
    pub model: String,
    /// The labels that mean toxic. The largest of their scores is the toxicity.
    pub toxic_labels: Vec<String>,
    /// From which score on a response counts as toxic.
    #[serde(default = "half")]
    pub threshold: f64,
    /// Sends the user's last turn as `text` and the response as `text_pair`, for models that take a context; otherwise
    /// the response alone.
    #[serde(default)]
    pub context: bool,
    /// The environment variable that holds the API key; without it none is sent.
    pub api_key_env: Option<String>,
    /// Patience and parallelism.
    #[serde(default)]
    pub limits: RequestLimits,
}

/// Patience and parallelism of requests to endpoints. None of it changes a response.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RequestLimits {
    /// Requests in flight, for each endpoint.
    pub concurrency: usize,
    /// Seconds until a request without a complete response counts as failed.
    pub timeout_s: f64,
    /// How often a request is sent at most.
    pub attempts: usize,
    /// Seconds before the second attempt; each further wait is twice as long, and all are shortened at random by up
    /// to a half.
    pub backoff_s: f64,
    /// The longest wait in seconds. An endpoint that asks for a longer one (`Retry-After`) is given up.
    pub max_wait_s: f64,
    /// After this many failures in a row an endpoint is given up, and the others do its work.
    pub retire_after: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self { concurrency: 8, timeout_s: 120.0, attempts: 5, backoff_s: 0.5, max_wait_s: 60.0, retire_after: 5 }
    }
}

fn verdict_tokens() -> usize {
    512
}

fn half() -> f64 {
    0.5
}
