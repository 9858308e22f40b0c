//! One request to one endpoint, and what its failure means.

use std::time::{Duration, SystemTime};

use serde_json::Value;
use ureq::Agent;
use ureq::http::{HeaderMap, HeaderValue, Uri};

use crate::error::EvalError;

/// Why a request has no response yet.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Failure {
    /// Another attempt may succeed.
    Transient(String),
    /// The endpoint is alive, but asks for a pause.
    Busy { error: String, wait: Option<Duration> },
    /// No endpoint will answer this request.
    Request(String),
    /// This endpoint will answer no request.
    Endpoint(String),
}

/// Where requests go, and with which key.
pub(super) struct Target {
    pub(super) url: String,
    agent: Agent,
    /// Never shown: not in errors, not in debug output.
    key: Option<Key>,
}

struct Key {
    header: HeaderValue,
    secret: String,
}

/// No verdict and no completion is longer; an HTTP body that is longer comes from something else.
const LONGEST_BODY: u64 = 16 << 20;
/// Characters of an endpoint's own error message that are told.
const EXCERPT: usize = 200;

impl Target {
    /// Checks `url` and reads the key from the environment variable `key_env`.
    pub(super) fn new(url: &str, key_env: Option<&str>, timeout: Duration) -> Result<Self, EvalError> {
        let problem = |problem: &str| EvalError::Endpoint { url: url.to_owned(), problem: problem.to_owned() };
        let uri: Uri = url.parse().map_err(|_| problem("is not a URL; expected http://host:port/path"))?;
        let authority = uri.authority().ok_or_else(|| problem("names no host; expected http://host:port/path"))?;
        if authority.as_str().contains('@') {
            let hidden = "http://…@…".to_owned();
            let problem = "URLs are shown in reports: give the key in an environment variable (`api_key_env`)".to_owned();
            return Err(EvalError::Endpoint { url: hidden, problem });
        }
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") if cfg!(feature = "https") => {}
            Some("https") => return Err(problem("needs TLS, which is not in this build; build with `--features https`")),
            _ => return Err(problem("has no scheme that is known; expected http://host:port/path")),
        }
        let config = Agent::config_builder()
            // Statuses are told apart below. A redirected POST would lose its body.
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(timeout))
            .user_agent(concat!("adpo/", env!("CARGO_PKG_VERSION")));
        let local = matches!(authority.host(), "localhost" | "127.0.0.1" | "[::1]");
        let config = if local { config.proxy(None) } else { config };
        Ok(Self { url: url.to_owned(), agent: Agent::new_with_config(config.build()), key: key_env.map(Key::from_env).transpose()? })
    }

    /// Posts JSON and returns the body of a successful response.
    pub(super) fn post(&self, body: &str) -> Result<String, Failure> {
        let mut request = self.agent.post(&self.url).header("content-type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("authorization", key.header.clone());
        }
        let mut response = request.send(body).map_err(|e| Failure::Transient(self.told(&e.to_string())))?;
        let status = response.status().as_u16();
        let wait = retry_after(response.headers());
        let text = response.body_mut().with_config().limit(LONGEST_BODY).read_to_string();
        if response.status().is_success() {
            let text = text.map_err(|e| Failure::Transient(self.told(&format!("the response broke off: {e}"))))?;
            return Ok(self.key.as_ref().map_or_else(|| text.clone(), |key| key.struck_from_body(&text)));
        }
        let error = self.told(&format!("HTTP {status}{}", text.ok().and_then(|text| message(&text)).unwrap_or_default()));
        Err(match status {
            429 => Failure::Busy { error, wait },
            503 if wait.is_some() => Failure::Busy { error, wait },
            408 | 500.. => Failure::Transient(error),
            300..=399 | 401 | 403..=405 => Failure::Endpoint(error),
            _ => Failure::Request(error),
        })
    }

    /// An error with its place and without the key, should a server have echoed it, or a part of it. What is told is cut afterwards: a
    /// cut key would no longer be known as one.
    fn told(&self, error: &str) -> String {
        let error = match &self.key {
            Some(key) => key.struck_from(error, SHORTEST_IN_ERRORS),
            None => error.to_owned(),
        };
        let cut: String = error.chars().take(EXCERPT).collect();
        format!("{}: {cut}", self.url)
    }
}

/// Parts of a key that are struck from an error: servers show its ends to say which one they mean.
const SHORTEST_IN_ERRORS: usize = 4;
/// Parts of a key that are struck from what a model says, where a word of a key may be a word.
const SHORTEST_IN_TEXT: usize = 8;

impl Key {
    fn from_env(name: &str) -> Result<Self, EvalError> {
        let problem = |problem: &str| EvalError::ApiKey { variable: name.to_owned(), problem: problem.to_owned() };
        let secret = std::env::var(name).map_err(|_| problem("is not set"))?.trim().to_owned();
        if secret.is_empty() {
            return Err(problem("is empty"));
        }
        let mut header =
            HeaderValue::from_str(&format!("Bearer {secret}")).map_err(|_| problem("holds characters that no header may have"))?;
        header.set_sensitive(true);
        Ok(Self { header, secret })
    }

    /// A text with `[key]` for the key and for every part of it that has at least so many characters.
    fn struck_from(&self, text: &str, least: usize) -> String {
        let fold = |text: &str| -> Vec<char> { text.chars().map(|c| c.to_ascii_lowercase()).collect() };
        let (secret, chars) = (fold(&self.secret), text.chars().collect::<Vec<_>>());
        let folded = fold(text);
        let least = least.min(secret.len());
        let (mut out, mut at) = (String::with_capacity(text.len()), 0);
        while at < chars.len() {
            let common = |from: usize| secret[from..].iter().zip(&folded[at..]).take_while(|(a, b)| a == b).count();
            let longest = (0..secret.len()).map(common).max().unwrap_or(0);
            if longest >= least {
                out.push_str("[key]");
                at += longest;
            } else {
                out.push(chars[at]);
                at += 1;
            }
        }
        out
    }

    /// The same of the texts in a JSON body; one without the key stays as it came, numbers and all.
    fn struck_from_body(&self, body: &str) -> String {
        let Ok(mut json) = serde_json::from_str::<Value>(body) else { return self.struck_from(body, SHORTEST_IN_TEXT) };
        let mut found = false;
        self.strike(&mut json, &mut found);
        if found { json.to_string() } else { body.to_owned() }
    }

    fn strike(&self, value: &mut Value, found: &mut bool) {
        match value {
            Value::String(text) => {
                let struck = self.struck_from(text, SHORTEST_IN_TEXT);
                *found |= struck != *text;
                *text = struck;
            }
            Value::Array(values) => values.iter_mut().for_each(|value| self.strike(value, found)),
            Value::Object(fields) => fields.values_mut().for_each(|value| self.strike(value, found)),
            _ => {}
        }
    }
}

/// RFC 9110, section 10.2.3: seconds or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("retry-after")?.to_str().ok()?.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(value).ok().map(|date| date.duration_since(SystemTime::now()).unwrap_or_default()),
    }
}

/// The message in an OpenAI-like error (`{"error": {"message": …}}`, `{"error": …}`, `{"message": …}`). Nothing else of a
/// body is told: it may repeat the text that was sent.
fn message(body: &str) -> Option<String> {
    let body: Value = serde_json::from_str(body).ok()?;
    let message = [&body["error"]["message"], &body["error"], &body["message"]].into_iter().find_map(|value| value.as_str())?;
    let line: Vec<&str> = message.split_whitespace().collect();
    Some(format!(": {}", line.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_after_is_seconds_or_a_date() {
        let wait = |value: &str| retry_after(&HeaderMap::from_iter([(ureq::http::header::RETRY_AFTER, value.parse().expect("a value"))]));
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("soon"), None);
        assert_eq!(wait("-1"), None);
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        let later = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        assert!(wait(&later).is_some_and(|wait| (90..=100).contains(&wait.as_secs())));
    }

    #[test]
    fn a_key_is_struck_whole_and_in_part_wherever_a_server_repeats_it() {
        let secret = "sk-4f9Zq81LmN02vXyT7bKe5RdA";
        let key = Key { header: HeaderValue::from_static("x"), secret: secret.to_owned() };
        let target = Target { url: "http://host/v1".into(), agent: Agent::new_with_defaults(), key: Some(key) };
        let parts = |text: &str, least: usize| (0..=secret.len() - least).any(|from| text.contains(&secret[from..from + least]));
        for place in 150..230 {
            let told = target.told(&format!("HTTP 401: {}{secret} is wrong", "x".repeat(place)));
            assert!(!parts(&told, 4) && told.chars().count() <= EXCERPT + 20, "{told}");
        }
        let masked = format!("Incorrect API key provided: {}***{}.", &secret[..5], &secret[23..]);
        assert!(!parts(&target.told(&masked), 4), "{}", target.told(&masked));
        assert!(!target.told(&secret.to_uppercase()).contains("4F9ZQ"));
        assert!(target.told("HTTP 401: the key is wrong").ends_with(": HTTP 401: the key is wrong"));
        let key = target.key.as_ref().expect("there is one");
        let body = format!(r#"{{"choices": [{{"message": {{"content": "It is {secret}, or {}"}}}}], "x": 0.1}}"#, &secret[3..15]);
        let struck = key.struck_from_body(&body);
        assert!(!parts(&struck, 8) && struck.contains("It is [key], or [key]"), "{struck}");
        // Written in another way, it is the same key.
        let escaped = secret.chars().fold(String::new(), |text, c| text + &format!("\\u{:04x}", u32::from(c)));
        assert!(key.struck_from_body(&format!(r#"{{"content": "{escaped}"}}"#)).contains("[key]"));
        let plain = r#"{"score": 0.30000000000000004,  "label": "toxic"}"#;
        assert_eq!(key.struck_from_body(plain), plain);
        assert!(!parts(&key.struck_from_body(&format!("<html>{secret}")), 8));
    }

    #[test]
    fn a_url_that_cannot_be_asked_is_refused_with_the_fix() {
        let refused = |url: &str| Target::new(url, None, Duration::from_secs(1)).err().expect(url).to_string();
        assert!(refused("localhost:8000/v1").contains("http://"));
        assert!(refused("ftp://host/v1").contains("http://"));
        assert!(refused("/v1").contains("no host"));
        let message = refused("http://user:hunter2@host/v1");
        assert!(message.contains("api_key_env") && !message.contains("hunter2"), "{message}");
    }

    #[cfg(not(feature = "https"))]
    #[test]
    fn https_without_tls_names_the_feature() {
        let error = Target::new("https://host/v1", None, Duration::from_secs(1)).err().expect("no TLS").to_string();
        assert!(error.contains("--features https"), "{error}");
    }

    #[test]
    fn a_missing_key_is_told_by_the_name_of_its_variable() {
        let error = Target::new("http://host/v1", Some("ADPO_NO_SUCH_KEY"), Duration::from_secs(1)).err().expect("no key").to_string();
        assert!(error.contains("ADPO_NO_SUCH_KEY"), "{error}");
    }
}
