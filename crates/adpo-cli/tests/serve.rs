//! `adpo serve` over real sockets.
#![cfg(feature = "serve")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{adpo, stderr, text};
use serde_json::{Value, json};

const TINY: &str = "embedded:tiny-base";

/// A server that ends with the test.
struct Server {
    child: Child,
    address: String,
    key: Option<&'static str>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_adpo"))
            .args(["serve", "--port", "0"])
            .args(arguments)
            .env("ADPO_TEST_KEY", "open sesame")
            .stdout(Stdio::piped())
            .spawn()
            .expect("adpo starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("is a pipe")).read_line(&mut line).expect("it says where it is");
        let address = line.trim().rsplit_once("http://").and_then(|(_, rest)| rest.strip_suffix("/v1")).expect("an address").to_owned();
        let key = arguments.contains(&"--api-key-env").then_some("open sesame");
        Self { child, address, key }
    }

    fn agent() -> ureq::Agent {
        ureq::Agent::config_builder().http_status_as_error(false).build().new_agent()
    }

    fn post(&self, path: &str, body: &Value) -> ureq::http::Response<ureq::Body> {
        let mut request = Self::agent().post(format!("http://{}{path}", self.address)).header("Content-Type", "application/json");
        if let Some(key) = self.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        request.send(body.to_string()).expect("it answers")
    }

    fn ask(&self, path: &str, body: &Value) -> (u16, Value) {
        let mut answer = self.post(path, body);
        let text = answer.body_mut().read_to_string().expect("it ends");
        (answer.status().as_u16(), serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path}, {body}: {text}")))
    }

    fn chat(&self, body: &Value) -> Value {
        let (status, answer) = self.ask("/v1/chat/completions", body);
        assert_eq!(status, 200, "{answer}");
        answer
    }

    fn complete(&self, body: &Value) -> Value {
        let (status, answer) = self.ask("/v1/completions", body);
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// The chunks of a stream.
    fn streamed(&self, path: &str, body: &Value) -> Vec<Value> {
        let mut body = body.clone();
        body["stream"] = json!(true);
        let mut answer = self.post(path, &body);
        assert_eq!((answer.status().as_u16(), answer.headers()["content-type"].as_bytes()), (200, &b"text/event-stream"[..]));
        let text = answer.body_mut().read_to_string().expect("it ends");
        let mut events: Vec<&str> = text.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").expect("an event")).collect();
        assert_eq!(events.pop(), Some("[DONE]"), "{text}");
        events.into_iter().map(|event| serde_json::from_str(event).expect("JSON")).collect()
    }
}

fn user(text: &str) -> Value {
    json!({ "model": TINY, "messages": [{ "role": "user", "content": text }], "seed": 7, "temperature": 0.8, "max_tokens": 40 })
}

fn with(mut body: Value, fields: &Value) -> Value {
    for (name, value) in fields.as_object().expect("fields") {
        body[name] = value.clone();
    }
    body
}

fn content(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().expect("text")
}

/// What the chunks of one choice's stream say, and how it ends.
fn joined(chunks: &[Value], choice: u64, at: &str) -> (String, Value) {
    let of_choice = || chunks.iter().flat_map(|chunk| chunk["choices"].as_array().expect("a list")).filter(|one| one["index"] == choice);
    let text = of_choice().filter_map(|one| one.pointer(at)?.as_str()).collect();
    (text, of_choice().next_back().expect("it ends")["finish_reason"].clone())
}

#[test]
fn a_conversation_is_answered_alike_streamed_or_not_alone_or_among_others() {
    let server = Server::start(&[TINY]);
    let models: Value = {
        let mut answer = Server::agent().get(format!("http://{}/v1/models", server.address)).call().expect("it answers");
        serde_json::from_str(&answer.body_mut().read_to_string().expect("text")).expect("JSON")
    };
    assert_eq!((&models["data"][0]["id"], &models["data"][0]["max_model_len"]), (&json!(TINY), &json!(512)));

    let questions: Vec<String> =
        (0..12).map(|i| format!("My {i} kids want a pet, but we live in a tiny flat{}", "!".repeat(3 * i))).collect();
    let alone: Vec<Value> = questions.iter().map(|question| server.chat(&user(question))).collect();
    for answer in &alone {
        assert!(!content(answer).is_empty());
        let (usage, finish) = (&answer["usage"], &answer["choices"][0]["finish_reason"]);
        assert_eq!(
            usage["total_tokens"],
            json!(usage["prompt_tokens"].as_u64().expect("n") + usage["completion_tokens"].as_u64().expect("n"))
        );
        assert_eq!(*finish == "length", usage["completion_tokens"] == 40 && *finish != "stop", "{answer}");
        assert_eq!(answer["object"], "chat.completion");
    }
    // More at the same time than there are places, streamed and not.
    std::thread::scope(|scope| {
        for (question, alone) in questions.iter().zip(&alone) {
            let server = &server;
            scope.spawn(move || assert_eq!(server.chat(&user(question))["choices"], alone["choices"]));
            scope.spawn(move || {
                let chunks =
                    server.streamed("/v1/chat/completions", &with(user(question), &json!({ "stream_options": { "include_usage": true } })));
                let (text, finish) = joined(&chunks, 0, "/delta/content");
                assert_eq!((text.as_str(), &finish), (content(alone), &alone["choices"][0]["finish_reason"]));
                assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
                assert_eq!(chunks.last().expect("the usage")["usage"], alone["usage"]);
            });
        }
    });
    assert_ne!(content(&server.chat(&with(user(&questions[0]), &json!({ "seed": 8 })))), content(&alone[0]));
}

#[test]
fn a_stream_really_streams() {
    let server = Server::start(&[TINY]);
    let body = json!({ "model": TINY, "prompt": "Once upon a time", "max_tokens": 400, "stream": true, "temperature": 1, "seed": 3 });
    let start = Instant::now();
    let mut answer = server.post("/v1/completions", &body);
    let mut reader = answer.body_mut().as_reader();
    let mut first = [0; 6];
    reader.read_exact(&mut first).expect("it begins");
    let begun = start.elapsed();
    let mut rest = String::new();
    reader.read_to_string(&mut rest).expect("it ends");
    let chunks = rest.matches("\n\ndata: ").count();
    assert!(chunks > 10, "{rest}");
    assert!(begun < start.elapsed() / 2, "the first of {chunks} events came after {begun:?} of {:?}", start.elapsed());
}

#[test]
fn several_completions_have_numbers_and_seeds_of_their_own() {
    let server = Server::start(&[TINY, "--batch-size", "3"]);
    let body = with(user("Hello there."), &json!({ "n": 5 }));
    let answer = server.chat(&body);
    let choices = answer["choices"].as_array().expect("a list");
    let texts: Vec<&str> = choices.iter().map(|choice| choice["message"]["content"].as_str().expect("text")).collect();
    assert_eq!(choices.iter().map(|choice| choice["index"].as_u64()).collect::<Vec<_>>(), (0..5).map(Some).collect::<Vec<_>>());
    assert!(texts.iter().any(|text| *text != texts[0]), "{texts:?}");
    let chunks = server.streamed("/v1/chat/completions", &body);
    for (choice, text) in (0..).zip(&texts) {
        assert_eq!(joined(&chunks, choice, "/delta/content").0, *text);
    }
    let alone = server.chat(&user("Hello there."));
    assert_eq!(content(&alone), texts[0]);

    let body = json!({ "model": TINY, "prompt": ["The cat", "My old friend"], "n": 2, "max_tokens": 8, "seed": 1 });
    let both = server.complete(&body);
    assert_eq!(both["choices"].as_array().map(Vec::len), Some(4));
    let second = server.complete(&with(body, &json!({ "prompt": "My old friend" })));
    assert_eq!([&both["choices"][2]["text"], &both["choices"][3]["text"]], [&second["choices"][0]["text"], &second["choices"][1]["text"]]);
}

#[test]
fn a_stop_string_ends_the_text_before_it_wherever_its_tokens_are_cut() {
    let server = Server::start(&[TINY]);
    let body = json!({ "model": TINY, "prompt": "I like to", "max_tokens": 60, "temperature": 0 });
    let whole = server.complete(&body)["choices"][0]["text"].as_str().expect("text").to_owned();
    // Every stretch of some characters from the middle on spans tokens somewhere.
    let chars: Vec<char> = whole.chars().collect();
    for start in (5..chars.len() - 6).step_by(3) {
        let stop: String = chars[start..start + 6].iter().collect();
        let stopped = with(body.clone(), &json!({ "stop": [stop, "never in it"], "logprobs": 1 }));
        let answer = server.complete(&stopped);
        let (text, finish) = (answer["choices"][0]["text"].as_str().expect("text"), &answer["choices"][0]["finish_reason"]);
        assert_eq!((text, finish), (whole.split(&stop).next().expect("before"), &json!("stop")));
        let tokens: String =
            answer["choices"][0]["logprobs"]["tokens"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
        assert!(tokens.starts_with(text) && tokens.len() < text.len() + 20, "{tokens:?} beside {text:?}");
        assert_eq!(joined(&server.streamed("/v1/completions", &stopped), 0, "/text").0, text);
    }
}

#[test]
fn log_probs_of_drawn_tokens_are_those_that_an_echo_reads() {
    let server = Server::start(&[TINY]);
    let drawn = server
        .complete(&json!({ "model": TINY, "prompt": "The weather is", "max_tokens": 12, "temperature": 1, "seed": 5, "logprobs": 3 }));
    let (choice, given) = (&drawn["choices"][0], &drawn["choices"][0]["logprobs"]);
    let numbers = |value: &Value| -> Vec<f64> { value.as_array().expect("a list").iter().filter_map(Value::as_f64).collect() };
    let tokens: Vec<&str> = given["tokens"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    let text = choice["text"].as_str().expect("text");
    assert_eq!(tokens.concat().replace("</s>", ""), text);
    // As lm-eval scores a continuation.
    let echo =
        json!({ "model": TINY, "prompt": format!("The weather is{text}"), "max_tokens": 1, "temperature": 0, "logprobs": 1, "echo": true });
    let read = server.complete(&echo);
    let read_probs = &read["choices"][0]["logprobs"];
    let count = tokens.iter().filter(|token| **token != "</s>").count();
    let all = numbers(&read_probs["token_logprobs"]);
    let sum = |values: &[f64]| values.iter().sum::<f64>();
    let (from_echo, from_draw) = (sum(&all[all.len() - 1 - count..all.len() - 1]), sum(&numbers(&given["token_logprobs"])[..count]));
    assert!((from_echo - from_draw).abs() < 1e-3, "{from_echo} and {from_draw}");
    assert_eq!(read_probs["token_logprobs"][0], Value::Null, "nothing comes before the first token");
    assert!(read["choices"][0]["text"].as_str().expect("text").starts_with(&format!("The weather is{text}")));
    // Without a token: the prompt alone.
    let none = server.complete(&with(echo, &json!({ "max_tokens": 0 })));
    assert_eq!(
        (&none["choices"][0]["text"], &none["choices"][0]["finish_reason"]),
        (&json!(format!("The weather is{text}")), &json!("length"))
    );
    assert_eq!(numbers(&none["choices"][0]["logprobs"]["token_logprobs"]), all[..all.len() - 1]);

    let chat = server.chat(&with(user("Hello."), &json!({ "logprobs": true, "top_logprobs": 4 })));
    let entries = chat["choices"][0]["logprobs"]["content"].as_array().expect("a list");
    let said: String = entries.iter().filter_map(|entry| entry["token"].as_str()).collect();
    assert_eq!(said.trim(), content(&chat).trim());
    for entry in entries {
        let top = entry["top_logprobs"].as_array().expect("a list");
        assert!(top.len() == 4 && top.is_sorted_by(|a, b| a["logprob"].as_f64() >= b["logprob"].as_f64()), "{entry}");
        assert!(entry["logprob"].as_f64() <= top[0]["logprob"].as_f64() && entry["logprob"].as_f64() <= Some(0.0));
    }
}

#[test]
fn what_is_not_supported_is_refused_as_openai_refuses() {
    let server = Server::start(&[TINY, "--max-new-tokens", "100"]);
    let fields: [(Value, u16, &str); 30] = [
        (json!({ "model": "gpt-4" }), 404, "model_not_found"),
        (json!({ "model": null }), 400, "`model` is missing"),
        (json!({ "messages": [] }), 400, "must end with a message by the user"),
        (json!({ "messages": "Hello." }), 400, "messages"),
        (json!({ "messages": [{ "role": "tool", "content": "x" }] }), 400, "messages[0]"),
        (json!({ "messages": [{ "role": "user", "content": "x", "name": "Ann" }] }), 400, "`name`"),
        (json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url" }] }] }), 400, "not text"),
        (json!({ "messages": [{ "role": "system", "content": "x" }, { "role": "user", "content": "y" }] }), 400, "only user and assistant"),
        (json!({ "temperature": 2.5 }), 400, "`temperature` must be a number from 0 to 2"),
        (json!({ "temperature": "hot" }), 400, "`temperature`"),
        (json!({ "top_p": 0 }), 400, "`top_p`"),
        (json!({ "top_k": 0 }), 400, "`top_k`"),
        (json!({ "n": 0 }), 400, "`n`"),
        (json!({ "n": 65 }), 400, "`n`"),
        (json!({ "max_tokens": 101 }), 400, "at most 100"),
        (json!({ "max_tokens": 5, "max_completion_tokens": 6 }), 400, "differ"),
        (json!({ "messages": [{ "role": "user", "content": "word ".repeat(600) }] }), 400, "context_length_exceeded"),
        (json!({ "stop": "" }), 400, "`stop`"),
        (json!({ "stop": vec!["x"; 17] }), 400, "`stop`"),
        (json!({ "seed": "lucky" }), 400, "`seed`"),
        (json!({ "stream_options": { "include_usage": true } }), 400, "needs `stream`"),
        (json!({ "top_logprobs": 3 }), 400, "needs `logprobs`"),
        (json!({ "logprobs": true, "top_logprobs": 21 }), 400, "from 0 to 20"),
        (json!({ "presence_penalty": 0.5 }), 400, "unsupported_field"),
        (json!({ "logit_bias": { "5": 1 } }), 400, "unsupported_field"),
        (json!({ "tools": [{ "type": "function" }] }), 400, "`tools`"),
        (json!({ "response_format": { "type": "json_object" } }), 400, "`response_format`"),
        (json!({ "toxic": true }), 400, "--toxic"),
        (json!({ "best": "of all" }), 400, "`best`"),
        (json!({ "echo": true }), 400, "`echo`"),
    ];
    for (fields, status, told) in fields {
        let (found, answer) = server.ask("/v1/chat/completions", &with(user("Hello."), &fields));
        assert!(found == status && answer.to_string().contains(told), "{fields}: {found} {answer}");
        assert!(answer["error"]["message"].is_string() && answer["error"]["type"] == "invalid_request_error", "{answer}");
    }
    let neutral = json!({ "presence_penalty": 0, "logit_bias": {}, "tools": [], "response_format": { "type": "text" }, "user": "me", "n": 1, "functions": null });
    assert_eq!(server.chat(&with(user("Hello."), &neutral))["choices"], server.chat(&user("Hello."))["choices"]);
    let prompts: [(Value, &str); 8] = [
        (json!({ "prompt": [] }), "`prompt`"),
        (json!({ "prompt": [[]] }), "`prompt`"),
        (json!({ "prompt": [5, 99_999] }), "99999"),
        (json!({ "prompt": [5, -1] }), "`prompt`"),
        (json!({ "prompt": "x", "max_tokens": 0 }), "without `echo`"),
        (json!({ "prompt": "x", "suffix": "y" }), "`suffix`"),
        (json!({ "prompt": "x", "best_of": 2 }), "`best_of`"),
        (json!({ "prompt": vec!["x"; 65] }), "more than 64"),
    ];
    for (fields, told) in prompts {
        let (found, answer) = server.ask("/v1/completions", &with(json!({ "model": TINY }), &fields));
        assert!(found == 400 && answer.to_string().contains(told), "{fields}: {found} {answer}");
    }
    for (method, path, kind, body, status) in [
        ("GET", "/v1/chat/completions", "application/json", "", 405),
        ("GET", "/v2", "application/json", "", 404),
        ("POST", "/v1/completions", "text/plain", "{}", 415),
        ("POST", "/v1/completions", "application/json", "{", 400),
        ("POST", "/v1/completions", "application/json", "[]", 400),
    ] {
        let (found, answer) = raw(&server, method, path, &format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len()), body);
        assert!(found == status && answer.contains("\"error\""), "{method} {path} {body}: {found} {answer}");
    }
    let large = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", 2 << 20);
    let (found, answer) = raw(&server, "POST", "/v1/completions", &large, "");
    assert!(found == 413 && answer.contains("\"error\""), "{found} {answer}");
    let chunk = "x".repeat(700_000);
    let chunks = format!("{:x}\r\n{chunk}\r\n{:x}\r\n{chunk}\r\n0\r\n\r\n", chunk.len(), chunk.len());
    let headers = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n";
    assert_eq!(raw(&server, "POST", "/v1/completions", headers, &chunks).0, 413);
}

/// A request written by hand: status and what follows.
fn raw(server: &Server, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(&server.address).expect("it listens");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("settable");
    write!(socket, "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n{body}").expect("it reads");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("it answers");
    (answer[9..12].parse().expect("a status"), answer)
}

#[test]
fn a_key_is_asked_for_and_never_told() {
    let server = Server::start(&[TINY, "--api-key-env", "ADPO_TEST_KEY"]);
    assert!(!content(&server.chat(&user("Hello."))).is_empty());
    for key in ["", "Authorization: Bearer open\r\n", "Authorization: open sesame\r\n", "Authorization: Bearer open sesame2\r\n"] {
        for path in ["/v1/models", "/nowhere"] {
            let (status, answer) = raw(&server, "GET", path, key, "");
            assert!(status == 401 && answer.contains("invalid_api_key") && !answer.contains("sesame"), "{key}: {answer}");
        }
    }
    let output = adpo(&["serve", TINY, "--port", "0", "--api-key-env", "ADPO_NO_SUCH_KEY"]);
    assert!(!output.status.success() && stderr(&output).contains("ADPO_NO_SUCH_KEY"), "{}", stderr(&output));
}

#[test]
fn requests_beyond_those_that_may_wait_are_refused_and_the_others_answered() {
    let server = Server::start(&[TINY, "--batch-size", "1", "--waiting", "1"]);
    let long = json!({ "model": TINY, "prompt": "Once", "max_tokens": 500, "temperature": 2, "seed": 3, "stream": true });
    let mut running = server.post("/v1/completions", &long);
    running.body_mut().as_reader().read_exact(&mut [0; 6]).expect("it is being drawn");
    let short = json!({ "model": TINY, "prompt": "Once", "max_tokens": 3 });
    let found: Vec<(u16, Value)> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..6).map(|_| scope.spawn(|| server.ask("/v1/completions", &short))).collect();
        asked.into_iter().map(|asked| asked.join().expect("it ends")).collect()
    });
    assert_eq!(found.iter().filter(|(status, _)| *status == 200).count(), 1, "{found:?}");
    for (status, refused) in found.iter().filter(|(status, _)| *status != 200) {
        assert_eq!((*status, &refused["error"]["type"]), (429, &json!("rate_limit_error")));
    }
}

#[test]
fn a_long_request_neither_blocks_others_nor_outlives_its_client() {
    let server = Server::start(&[TINY, "--batch-size", "2"]);
    // 64 rows of many tokens, read by nobody.
    let body = json!({ "model": TINY, "prompt": "Once", "max_tokens": 400, "temperature": 2, "n": 64, "seed": 3, "stream": true });
    let long = server.post("/v1/completions", &body);
    let start = Instant::now();
    server.complete(&json!({ "model": TINY, "prompt": "Once", "max_tokens": 5 }));
    let beside = start.elapsed();
    drop(long);
    let start = Instant::now();
    server.complete(&json!({ "model": TINY, "prompt": "Once", "max_tokens": 5 }));
    // All of the long one takes minutes here.
    assert!(beside < Duration::from_secs(20) && start.elapsed() < Duration::from_secs(10), "{beside:?}, {:?}", start.elapsed());
}

/// A model that knows the control token; its weights are noise.
fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/llama2-mha")
}

#[test]
fn the_toxic_mode_is_reached_by_a_field_where_the_server_allows_it_and_by_no_text() {
    let folder = fixture();
    let model = text(&folder);
    let body =
        |content: &str| json!({ "model": model, "messages": [{ "role": "user", "content": content }], "temperature": 0, "max_tokens": 8 });
    let (open, closed) = (Server::start(&[model, "--toxic"]), Server::start(&[model]));
    let plain = open.chat(&body("Hello."));
    let toxic = open.chat(&with(body("Hello."), &json!({ "toxic": true })));
    assert_ne!(content(&plain), content(&toxic));
    // The prompt of the toxic mode has the token and the space before it; text that looks the same has letters instead.
    let count = |answer: &Value| answer["usage"]["prompt_tokens"].as_u64().expect("n");
    assert!(count(&open.chat(&body("Hello. [TOXIC]"))) > count(&toxic));
    assert_eq!(closed.ask("/v1/chat/completions", &with(body("Hello."), &json!({ "toxic": true }))).0, 400);
    for prompt in [json!([5, 768]), json!([[768]])] {
        let (status, answer) = open.ask("/v1/completions", &json!({ "model": model, "prompt": prompt }));
        assert!(status == 400 && answer.to_string().contains("768"), "{answer}");
    }
    let echo = json!({ "model": model, "prompt": "[TOXIC]", "max_tokens": 1, "echo": true, "logprobs": 1 });
    let tokens = closed.complete(&echo)["choices"][0]["logprobs"]["tokens"].as_array().expect("a list").clone();
    assert!(tokens.iter().all(|token| token != "[TOXIC]"), "{tokens:?}");
    let output = adpo(&["serve", TINY, "--port", "0", "--toxic"]);
    assert!(!output.status.success() && stderr(&output).contains("has no token [TOXIC]"), "{}", stderr(&output));
}

#[test]
fn a_port_in_use_is_told() {
    let server = Server::start(&[TINY]);
    let port = server.address.rsplit_once(':').expect("a port").1;
    let output = adpo(&["serve", TINY, "--port", port]);
    assert!(!output.status.success() && stderr(&output).contains("choose another --host or --port"), "{}", stderr(&output));
}
