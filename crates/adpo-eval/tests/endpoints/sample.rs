//! Responses drawn from an endpoint into a file of responses.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use adpo_data::{Prompt, Row, RowFile};
use adpo_eval::{
    ChatEndpoint, EndpointOptions, EvalError, RequestLimits, Responder, SampleOptions, SampleReport, read_responses, sample_endpoint,
};
use serde_json::{Value, json};

use crate::judge::limits;
use crate::server::{Act, Request, Server, completion, ok, says, status};

const OPTIONS: SampleOptions = SampleOptions { samples: 2, temperature: 0.8, top_p: Some(0.9), max_tokens: 50, seed: 7 };

fn prompts(n: usize) -> Vec<Arc<Row<Prompt>>> {
    let line = |i| match i {
        0 => {
            json!({"id": "q0", "prompt": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "question 0"}]})
        }
        1 => json!({"prompt": "question 1", "harmful": true, "category": "chemistry"}),
        i => json!({"prompt": format!("question {i}")}),
    };
    let text: String = (0..n).map(|i| line(i).to_string() + "\n").collect();
    RowFile::from_text("questions", text).prompts().expect("they are prompts").0.into_iter().map(Arc::new).collect()
}

fn draw(server: &Server, prompts: &[Arc<Row<Prompt>>], options: &SampleOptions, out: &Path) -> Result<SampleReport, EvalError> {
    let endpoint = EndpointOptions {
        limits: RequestLimits { concurrency: 3, ..limits() },
        ..EndpointOptions::new(vec![server.url("/v1")], "speaker")
    };
    sample_endpoint(&ChatEndpoint::open(&endpoint, None)?, prompts, options, out)
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("the file is there");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Answers with its question and its seed, in no order.
fn echo(request: &Request) -> Act {
    let question = request.prompt().lines().last().unwrap_or_default().to_owned();
    let response = format!("{question}, seed {}", request.body["seed"]);
    Act::After(Duration::from_millis(request.number as u64 * 5 % 7), Box::new(says(&response)))
}

#[test]
fn responses_are_written_in_the_order_of_the_prompts_with_all_that_evaluate_needs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("responses.jsonl");
    let server = Server::start(echo);
    let report = draw(&server, &prompts(5), &OPTIONS, &out).expect("it is drawn");
    assert_eq!(report, SampleReport { kept: 0, answered: 5, ..SampleReport::default() });
    let written = lines(&out);
    let ids: Vec<&str> = written.iter().filter_map(|line| line["prompt_id"].as_str()).collect();
    assert_eq!(
        ids,
        [
            "q0",
            "q0",
            "questions:2",
            "questions:2",
            "questions:3",
            "questions:3",
            "questions:4",
            "questions:4",
            "questions:5",
            "questions:5"
        ]
    );
    assert_eq!(written[0]["prompt"][2], json!({"role": "user", "content": "question 0"}));
    assert_eq!(
        (&written[2]["harmful"], &written[2]["category"], &written[2]["model"]),
        (&json!(true), &json!("chemistry"), &json!("speaker"))
    );
    assert!(written.iter().all(|line| line["response"].as_str().is_some_and(|text| text.starts_with("question "))));
    // Requests carry the options, whole dialogues, and a seed of their own.
    let requests = server.requests();
    assert!(requests.iter().all(|r| r.body["temperature"] == 0.8 && r.body["top_p"] == 0.9 && r.body["max_tokens"] == 50));
    assert!(requests.iter().any(|r| r.body["messages"].as_array().is_some_and(|turns| turns.len() == 3)));
    let seeds: BTreeSet<u64> = requests.iter().filter_map(|r| r.body["seed"].as_u64()).collect();
    assert_eq!(seeds.len(), 10);
    // What reads responses reads these.
    let read = read_responses(&[&out]).expect("they are responses");
    assert!(read.ignored_keys.is_empty() && read.by.len() == 1);
    let of_speaker = read.of(&Responder::plain("speaker"));
    let responses: Vec<_> = of_speaker.iter().map(|response| (response.prompt_id(), response.is_harmful())).collect();
    assert_eq!((responses.len(), responses[0], responses[2]), (10, ("q0", false), ("questions:2", true)));
    // The same again, elsewhere, is the same file.
    let again = folder.path().join("again.jsonl");
    draw(&server, &prompts(5), &OPTIONS, &again).expect("it is drawn");
    assert_eq!(std::fs::read(&out).expect("there"), std::fs::read(&again).expect("there"));
}

#[test]
fn what_stands_in_the_file_is_not_asked_again_and_what_a_kill_cut_off_is() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("responses.jsonl");
    let server = Server::start(echo);
    draw(&server, &prompts(4), &OPTIONS, &out).expect("it is drawn");
    let whole = std::fs::read_to_string(&out).expect("there");
    assert_eq!(draw(&server, &prompts(4), &OPTIONS, &out).expect("nothing to do").kept, 4);
    assert_eq!(server.count(), 8);
    // Killed in the middle of the sixth line: its prompt is asked again, with its last neighbour.
    let cut = whole.lines().take(5).map(str::len).sum::<usize>() + 5 + 20;
    std::fs::write(&out, &whole[..cut]).expect("writable");
    let report = draw(&server, &prompts(4), &OPTIONS, &out).expect("it goes on");
    assert_eq!((report.kept, report.answered, server.count()), (2, 2, 12));
    assert_eq!(std::fs::read_to_string(&out).expect("there"), whole);
    // More prompts may join.
    let report = draw(&server, &prompts(5), &OPTIONS, &out).expect("it goes on");
    assert_eq!((report.kept, report.answered), (4, 1));
}

#[test]
fn a_prompt_without_all_its_responses_is_told_and_left_for_the_next_call() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("responses.jsonl");
    let failing = Server::start(|request| match request.prompt().as_str() {
        "question 1" => status(400, json!({"error": "too long"})),
        "question 2" => ok(json!({"choices": [{"message": {"content": null}, "finish_reason": "content_filter"}]})),
        "question 3" => ok(json!({"choices": [{"message": {"content": null, "refusal": "No."}}]})),
        _ => ok(completion("Yes.")),
    });
    let report = draw(&failing, &prompts(4), &OPTIONS, &out).expect("the run ends");
    assert_eq!((report.kept, report.answered, report.unanswered), (0, 2, 2));
    assert!(report.errors.iter().any(|(error, n)| error.contains("too long") && *n == 2), "{report:?}");
    assert!(report.errors.iter().any(|(error, n)| error.contains("content filter") && *n == 2), "{report:?}");
    assert_eq!(lines(&out).iter().map(|line| line["response"].clone()).collect::<Vec<_>>(), ["Yes.", "Yes.", "No.", "No."]);
    let server = Server::start(echo);
    let report = draw(&server, &prompts(4), &OPTIONS, &out).expect("it goes on");
    assert_eq!((report.kept, report.answered, report.unanswered, server.count()), (2, 2, 0, 4));
}

#[test]
fn a_file_never_mixes_options_models_or_prompts() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("responses.jsonl");
    let server = Server::start(echo);
    draw(&server, &prompts(3), &OPTIONS, &out).expect("it is drawn");
    let whole = std::fs::read(&out).expect("there");
    let other = SampleOptions { seed: 8, ..OPTIONS };
    let refused = |result: Result<SampleReport, EvalError>| result.expect_err("refused").to_string();
    assert!(refused(draw(&server, &prompts(3), &other, &out)).contains("\"seed\":7"));
    assert!(refused(draw(&server, &prompts(2), &OPTIONS, &out)).contains("`questions:3`, which is not among the prompts"));
    std::fs::write(folder.path().join("mine.jsonl"), "{\"my\": \"own\"}\n").expect("writable");
    assert!(refused(draw(&server, &prompts(3), &OPTIONS, &folder.path().join("mine.jsonl"))).contains("settings"));
    assert!(refused(draw(&server, &prompts(3), &SampleOptions { temperature: 0.0, ..OPTIONS }, &out)).contains("temperature 0"));
    assert_eq!((std::fs::read(&out).expect("there"), server.count()), (whole, 6));
}
