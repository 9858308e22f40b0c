//! Judges over HTTP against a server that misbehaves: which state each failure becomes, and how often who is asked.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::server::{Act, Request, Server, completion, ok, says, status};
use adpo_data::{Dialogue, Prompt};
use adpo_eval::{
    ChatEndpoint, EndpointOptions, Exchange, Judge, Judgement, LlmJudge, PairOutcome, RequestLimits, ResponsePair, compare_pairs,
};
use serde_json::json;

const FINE: &str = r#"{"reason": "fine", "toxicity": 1, "evasiveness": 3, "coherence": 5}"#;

/// Impatient, one request at a time.
pub(crate) fn limits() -> RequestLimits {
    RequestLimits { concurrency: 1, timeout_s: 2.0, attempts: 3, backoff_s: 0.01, max_wait_s: 2.0, retire_after: 100 }
}

fn judge_of(servers: &[&Server], limits: RequestLimits, cache: Option<&Path>) -> LlmJudge<ChatEndpoint> {
    let urls = servers.iter().map(|server| server.url("/v1")).collect();
    let options = EndpointOptions { limits, ..EndpointOptions::new(urls, "test-model") };
    LlmJudge::new(ChatEndpoint::open(&options, cache).expect("the options are fine"))
}

static PROMPT: LazyLock<Prompt> = LazyLock::new(|| Dialogue::from_user("How are you?").into());
static RESPONSES: LazyLock<Vec<String>> = LazyLock::new(|| (0..60).map(|i| format!("response number {i}.")).collect());

fn exchanges(n: usize) -> Vec<Exchange<'static>> {
    RESPONSES[..n].iter().map(|response| Exchange { prompt: &PROMPT, response }).collect()
}

fn states(judgements: &[Judgement]) -> Vec<&'static str> {
    judgements.iter().map(Judgement::state).collect()
}

fn counts(judgements: &[Judgement]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for state in states(judgements) {
        *counts.entry(state).or_default() += 1;
    }
    counts
}

/// A server that does one thing to the first request and answers the others.
fn first(act: impl Fn() -> Act + Send + Sync + 'static) -> Server {
    Server::start(move |request| if request.number == 0 { act() } else { says(FINE) })
}

/// The number in the response that a request asks about.
fn number(request: &Request) -> usize {
    let prompt = request.prompt();
    let (_, rest) = prompt.split_once("response number ").expect("the response is in the prompt");
    rest.split('.').next().and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn a_well_behaved_endpoint_is_asked_once_in_the_form_that_openai_defines() {
    let server = Server::start(|_| says(FINE));
    let judged = judge_of(&[&server], limits(), None).judge(&exchanges(1));
    let scores = judged[0].scores().expect("scores");
    assert_eq!((scores.toxicity, scores.evasiveness, scores.coherence), (0.0, 0.5, 1.0));
    let [request] = server.requests().try_into().expect("one request");
    assert_eq!(request.path, "/v1/chat/completions");
    assert_eq!(
        (&request.body["model"], &request.body["temperature"], &request.body["max_tokens"]),
        (&json!("test-model"), &json!(0.0), &json!(512))
    );
    assert!(request.prompt().contains("How are you?") && request.prompt().contains("response number 0."));
    assert_eq!(request.authorization, None);
}

#[test]
fn a_429_is_waited_out_as_long_as_the_server_asks() {
    let server = first(|| Act::ChatCompletion { status: 429, header: "Retry-After: 1", body: "{}".to_owned() });
    let start = Instant::now();
    let judged = judge_of(&[&server], limits(), None).judge(&exchanges(2));
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!((states(&judged), server.count()), (vec!["scored"; 2], 3));
}

#[test]
fn an_endpoint_that_asks_for_more_patience_than_there_is_is_given_up() {
    let server = Server::start(|_| Act::ChatCompletion { status: 429, header: "Retry-After: 3600", body: "{}".to_owned() });
    let judge = judge_of(&[&server], limits(), None);
    assert_eq!((states(&judge.judge(&exchanges(3))), server.count()), (vec!["api_error"; 3], 1));
    assert!(judge.unavailable().is_some_and(|reason| reason.contains("3600 s")));
}

#[test]
fn what_may_pass_is_tried_again() {
    let failures: [(&str, fn() -> Act); 8] = [
        ("500", || status(500, json!({"error": {"message": "out of memory"}}))),
        ("503", || status(503, "")),
        ("cut off", || Act::CutOff(completion(FINE).to_string())),
        ("hang up", || Act::HangUp),
        ("nonsense", || ok("<html>It works!</html>")),
        ("wrong schema", || ok(json!({"choices": [{"text": FINE}]}))),
        ("no choices", || ok(json!({"choices": []}))),
        ("slow", || Act::After(Duration::from_millis(600), Box::new(says(FINE)))),
    ];
    for (name, failure) in failures {
        let server = first(failure);
        let limits = RequestLimits { timeout_s: 0.3, ..limits() };
        let judged = judge_of(&[&server], limits, None).judge(&exchanges(1));
        assert_eq!((states(&judged), server.count()), (vec!["scored"], 2), "{name}");
    }
}

#[test]
fn attempts_are_bounded_and_end_in_an_api_error_that_tells_the_last_failure() {
    let failures: [(&str, fn() -> Act); 4] = [
        ("out of memory", || status(500, json!({"error": {"message": "out of memory"}}))),
        ("timeout", || Act::After(Duration::from_millis(500), Box::new(says(FINE)))),
        ("no chat completion", || ok("<html>")),
        ("429", || status(429, "")),
    ];
    for (told, failure) in failures {
        let server = Server::start(move |_| failure());
        let limits = RequestLimits { timeout_s: 0.1, ..limits() };
        let judged = judge_of(&[&server], limits, None).judge(&exchanges(1));
        let [Judgement::ApiError { error }] = judged.as_slice() else { panic!("{judged:?}") };
        assert!(error.contains("3 attempts") && error.contains(told), "{error}");
        assert_eq!(server.count(), 3, "{told}");
    }
}

#[test]
fn a_request_that_no_endpoint_takes_is_not_repeated_and_harms_no_other() {
    let server = Server::start(|request| if number(request) == 1 { status(400, json!({"message": "too long"})) } else { says(FINE) });
    let judged = judge_of(&[&server], limits(), None).judge(&exchanges(3));
    assert_eq!((states(&judged), server.count()), (vec!["scored", "api_error", "scored"], 3));
}

#[test]
fn a_redirect_is_not_followed_with_what_was_to_be_judged() {
    let elsewhere = Server::start(|_| says(FINE));
    let header: &'static str = format!("Location: {}", elsewhere.url("/v1/chat/completions")).leak();
    let server = Server::start(move |_| Act::ChatCompletion { status: 307, header, body: String::new() });
    let judge = judge_of(&[&server], limits(), None);
    assert_eq!((states(&judge.judge(&exchanges(2))), server.count(), elsewhere.count()), (vec!["api_error"; 2], 1, 0));
}

#[test]
fn responses_that_are_no_verdict_are_states_and_are_not_repeated() {
    let server = Server::start(|request| match number(request) {
        0 => says("I'm sorry, but I can't assist with that."),
        1 => ok(json!({"choices": [{"message": {"content": null, "refusal": "No."}}]})),
        2 => says("I would say toxicity 3, evasiveness 2, coherence 4."),
        3 => says(""),
        _ => says(&format!("Here you are:\n```json\n{FINE}\n```")),
    });
    let judged = judge_of(&[&server], limits(), None).judge(&exchanges(5));
    assert_eq!((states(&judged), server.count()), (vec!["refused", "refused", "unparsed", "unparsed", "scored"], 5));
}

#[test]
fn the_key_goes_into_its_header_and_never_into_an_error() {
    // Cargo sets this variable for every test it runs.
    let (variable, secret) = ("CARGO_PKG_NAME", env!("CARGO_PKG_NAME"));
    let server = Server::start(move |request| {
        let seen = request.authorization.clone().unwrap_or_default();
        status(401, json!({"error": {"message": format!("key `{seen}` is not known")}}))
    });
    let options = EndpointOptions {
        api_key_env: Some(variable.to_owned()),
        limits: limits(),
        ..EndpointOptions::new(vec![server.url("/v1")], "test-model")
    };
    let judge = LlmJudge::new(ChatEndpoint::open(&options, None).expect("the variable is set"));
    let judged = judge.judge(&exchanges(4));
    // A key that one request cannot use, no request can.
    assert_eq!((states(&judged), server.count()), (vec!["api_error"; 4], 1));
    assert_eq!(server.requests()[0].authorization, Some(format!("Bearer {secret}")));
    let told = format!("{judged:?} {:?} {:?} {}", judge.warnings(), judge.unavailable(), judge.name());
    assert!(told.contains("`Bearer [key]` is not known") && !told.contains(secret), "{told}");
}

#[test]
fn one_of_two_endpoints_dies_midway_and_the_other_does_its_work() {
    let dying = Server::start(|request| if request.number < 5 { says(FINE) } else { Act::HangUp });
    let living = Server::start(|_| Act::After(Duration::from_millis(2), Box::new(says(FINE))));
    let limits = RequestLimits { concurrency: 2, attempts: 2, retire_after: 3, ..limits() };
    let judge = judge_of(&[&dying, &living], limits, None);
    assert_eq!(counts(&judge.judge(&exchanges(60))), BTreeMap::from([("scored", 60)]));
    // Five responses, three failures until it is given up, and what was under way on its other thread meanwhile.
    assert!((8..=10).contains(&dying.count()), "{}", dying.count());
    assert_eq!(living.count(), 55);
    assert!(judge.unavailable().is_none());
    assert!(judge.warnings()[0].contains("3 failures in a row"), "{:?}", judge.warnings());
    // It stays given up.
    let before = dying.count();
    judge.judge(&exchanges(4));
    assert_eq!(dying.count(), before);
}

#[test]
fn three_endpoints_of_which_one_is_killed_midway_judge_as_one_alone_would() {
    let serve = || {
        Server::start(|request| {
            let grade = 1 + number(request) % 5;
            let verdict = json!({"reason": "graded", "toxicity": grade, "evasiveness": 6 - grade, "coherence": grade});
            Act::After(Duration::from_millis(5), Box::new(says(&verdict.to_string())))
        })
    };
    let alone = judge_of(&[&serve()], limits(), None).judge(&exchanges(60));

    let (killed, others) = (serve(), [serve(), serve()]);
    let limits = RequestLimits { concurrency: 2, retire_after: 3, ..limits() };
    let judge = judge_of(&[&killed, &others[0], &others[1]], limits, None);
    let together = std::thread::scope(|scope| {
        let judging = scope.spawn(|| judge.judge(&exchanges(60)));
        while killed.count() < 8 && !judging.is_finished() {
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(killed);
        judging.join().expect("judging does not panic")
    });

    assert_eq!(format!("{together:?}"), format!("{alone:?}"));
    assert!(judge.unavailable().is_none() && judge.warnings()[0].contains("3 failures in a row"), "{:?}", judge.warnings());
    for server in &others {
        // Both were kept full, and took over what the third left.
        assert!(server.most_in_flight() == 2 && server.count() > 20, "{} at once of {}", server.most_in_flight(), server.count());
    }
}

#[test]
fn an_endpoint_that_was_never_there_costs_nothing_but_its_share() {
    let gone = Server::start(|_| says(FINE));
    let url = gone.url("/v1");
    drop(gone);
    let living = Server::start(|_| says(FINE));
    let options = EndpointOptions {
        limits: RequestLimits { retire_after: 2, ..limits() },
        ..EndpointOptions::new(vec![url, living.url("/v1/")], "m")
    };
    let judge = LlmJudge::new(ChatEndpoint::open(&options, None).expect("the options are fine"));
    assert_eq!((counts(&judge.judge(&exchanges(20))), living.count()), (BTreeMap::from([("scored", 20)]), 20));
}

#[test]
fn when_all_endpoints_die_the_rest_are_api_errors_and_never_scores() {
    let dies_after = |n| Server::start(move |request| if request.number < n { says(FINE) } else { status(500, "") });
    let (one, other) = (dies_after(4), dies_after(7));
    let limits = RequestLimits { concurrency: 2, attempts: 10, retire_after: 3, ..limits() };
    let judge = judge_of(&[&one, &other], limits, None);
    let judged = judge.judge(&exchanges(50));
    assert_eq!(counts(&judged), BTreeMap::from([("scored", 11), ("api_error", 39)]));
    assert!(one.count() <= 9 && other.count() <= 12, "{} {}", one.count(), other.count());
    assert!(judge.unavailable().is_some());
    // Nobody is asked any more.
    let before = one.count() + other.count();
    assert_eq!(counts(&judge.judge(&exchanges(5))), BTreeMap::from([("api_error", 5)]));
    assert_eq!(one.count() + other.count(), before);
}

#[test]
fn judgements_are_in_order_and_the_same_whatever_the_concurrency() {
    let behaviour = |request: &Request| {
        let n = number(request);
        let verdict = format!(r#"{{"reason": "{n}", "toxicity": {}, "evasiveness": 1, "coherence": 5}}"#, 1 + n % 5);
        Act::After(Duration::from_millis((n as u64 * 7) % 11), Box::new(says(&verdict)))
    };
    let (one, other) = (Server::start(behaviour), Server::start(behaviour));
    let judged =
        |servers: &[&Server], concurrency| judge_of(servers, RequestLimits { concurrency, ..limits() }, None).judge(&exchanges(60));
    let alone = judged(&[&one], 1);
    assert_eq!(one.most_in_flight(), 1);
    let together = judged(&[&one, &other], 4);
    assert_eq!(alone, together);
    let toxicity: Vec<f64> = alone.iter().filter_map(Judgement::scores).map(|scores| scores.toxicity).collect();
    assert_eq!(toxicity, (0..60).map(|n| f64::from(n % 5) / 4.0).collect::<Vec<_>>());
    // Both are kept busy, and neither gets more than it may.
    assert!((2..=4).contains(&other.most_in_flight()) && one.most_in_flight() <= 4);
    assert!(one.count() > 60 + 10 && other.count() > 10);
}

#[test]
fn equal_requests_are_asked_once() {
    let server = Server::start(|_| says(FINE));
    let judged = judge_of(&[&server], limits(), None).judge(&[exchanges(2), exchanges(2)].concat());
    assert_eq!((states(&judged), server.count()), (vec!["scored"; 4], 2));
}

#[test]
fn a_run_that_was_cut_short_asks_only_for_what_is_missing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cache = folder.path().join("cache/judge.jsonl");
    let dying = Server::start(|request| match request.number {
        3 => says("no verdict"),
        0..6 => says(FINE),
        _ => status(500, ""),
    });
    let limits = RequestLimits { retire_after: 2, ..limits() };
    let cut_short = judge_of(&[&dying], limits.clone(), Some(&cache)).judge(&exchanges(10));
    assert_eq!(counts(&cut_short), BTreeMap::from([("scored", 5), ("unparsed", 1), ("api_error", 4)]));

    // Another address, the same model: what was answered is known, verdict or not, and errors are asked again.
    let living = Server::start(|_| says(FINE));
    let resumed = judge_of(&[&living], limits.clone(), Some(&cache)).judge(&exchanges(10));
    assert_eq!((counts(&resumed), living.count()), (BTreeMap::from([("scored", 9), ("unparsed", 1)]), 4));
    assert_eq!(resumed[..6], cut_short[..6]);

    // Nothing is left to ask, not even of an endpoint that is gone.
    let url = living.url("/v1");
    drop(living);
    let options = EndpointOptions { limits, ..EndpointOptions::new(vec![url], "test-model") };
    let again = LlmJudge::new(ChatEndpoint::open(&options, Some(&cache)).expect("the options are fine"));
    assert_eq!(again.judge(&exchanges(10)), resumed);

    // A damaged line is told, and costs one request.
    let text = std::fs::read_to_string(&cache).expect("the cache is there");
    std::fs::write(&cache, text.replacen("\"response\"", "\"anwser\"", 1)).expect("it can be written");
    let living = Server::start(|_| says(FINE));
    let damaged = judge_of(&[&living], RequestLimits::default(), Some(&cache));
    assert!(damaged.warnings()[0].contains("1 damaged line"), "{:?}", damaged.warnings());
    assert_eq!((damaged.judge(&exchanges(10)).len(), living.count()), (10, 1));
}

#[test]
fn another_model_is_asked_itself() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cache = folder.path().join("judge.jsonl");
    let server = Server::start(|_| says(FINE));
    judge_of(&[&server], limits(), Some(&cache)).judge(&exchanges(2));
    let options = EndpointOptions { limits: limits(), ..EndpointOptions::new(vec![server.url("/v1")], "another-model") };
    let other = LlmJudge::new(ChatEndpoint::open(&options, Some(&cache)).expect("the options are fine"));
    assert_ne!(other.fingerprint(), judge_of(&[&server], limits(), None).fingerprint());
    other.judge(&exchanges(2));
    assert_eq!(server.count(), 4);
}

#[test]
fn a_judge_that_always_takes_the_first_response_shows_its_bias_and_gives_no_verdict() {
    let first = Server::start(|_| says(r#"{"reason": "it came first", "better": "A"}"#));
    let fair = Server::start(|request| {
        let prompt = request.prompt();
        let better = if prompt.find("good") < prompt.find("bad") { "A" } else { "B" };
        says(&json!({"reason": "it is good", "better": better}).to_string())
    });
    let prompts: Vec<Prompt> = (0..12).map(|i| Dialogue::from_user(format!("Hi {i}.")).into()).collect();
    let pairs: Vec<ResponsePair<'_>> = prompts.iter().map(|prompt| ResponsePair { prompt, first: "bad", second: "good" }).collect();
    let compare = |server: &Server| {
        let options = EndpointOptions { limits: limits(), ..EndpointOptions::new(vec![server.url("/v1")], "m") };
        compare_pairs(&ChatEndpoint::open(&options, None).expect("the options are fine"), &pairs)
    };
    let biased = compare(&first);
    assert_eq!(biased.counts, BTreeMap::from([(PairOutcome::Inconsistent, 12)]));
    assert_eq!((biased.position.flipped.estimate, biased.position.first_place), (1.0, 12));
    assert!(biased.position.favours_first_place.low > 0.5);
    let unbiased = compare(&fair);
    assert_eq!(unbiased.counts, BTreeMap::from([(PairOutcome::Second, 12)]));
    assert_eq!((unbiased.position.flipped.estimate, fair.count()), (0.0, 24));
}
