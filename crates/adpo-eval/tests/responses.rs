//! Files of responses as strangers write them.

use std::io::Write;
use std::path::PathBuf;

use adpo_data::Role;
use adpo_eval::{Responder, Response, Responses, TokenForm, read_responses, write_responses};
use tempfile::TempDir;

/// Writes files of these contents and reads them.
fn read(files: &[&str]) -> Result<Responses, String> {
    let folder = tempfile::tempdir().expect("folder");
    read_responses(&write(&folder, files)).map_err(|error| error.to_string())
}

fn write(folder: &TempDir, files: &[&str]) -> Vec<PathBuf> {
    let path = |index: usize| folder.path().join(format!("{index}.jsonl"));
    files.iter().enumerate().for_each(|(index, text)| std::fs::write(path(index), text).expect("written"));
    (0..files.len()).map(path).collect()
}

const ONE: &str = r#"{"prompt": "Hello?", "response": "Hi.", "model": "a"}"#;

#[test]
fn responses_of_two_models_to_one_prompt_meet_without_ids() {
    let other = r#"{"prompt": [{"role": "user", "content": "Hello?"}], "response": "", "model": "b"}"#;
    let read = read(&[ONE, &format!("\u{feff}{other}\n\n{ONE}\n")]).expect("responses");
    let names: Vec<(&str, usize)> = read.by.iter().map(|(by, responses)| (by.model.as_str(), responses.len())).collect();
    assert_eq!(names, [("a", 2), ("b", 1)]);
    let ids: Vec<&str> = read.by.iter().flat_map(|(_, responses)| responses.iter().map(Response::prompt_id)).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(read.files.len(), 2);
}

#[test]
fn a_dialogue_keeps_its_turns_and_another_one_gets_another_id() {
    let dialogue = r#"{"prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}], "response": "Hi.", "model": "a"}"#;
    let read = read(&[&format!("{ONE}\n{dialogue}")]).expect("responses");
    let responses = read.of(&Responder::plain("a"));
    assert_eq!(responses[1].prompt.value.dialogue.turns[0].role, Role::System);
    assert_ne!(responses[0].prompt_id(), responses[1].prompt_id());
}

#[test]
fn gzip_is_read_whatever_the_name() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("responses.jsonl");
    let mut file = flate2::write::GzEncoder::new(std::fs::File::create(&path).expect("created"), flate2::Compression::fast());
    writeln!(file, "{ONE}").and_then(|()| file.finish().map(drop)).expect("written");
    assert_eq!(read_responses(&[path]).expect("responses").by.len(), 1);
}

#[test]
fn what_one_line_says_of_a_prompt_holds_for_all_its_responses() {
    let marked = r#"{"prompt": "Hello?", "response": "Go.", "model": "b", "harmful": true, "category": "greeting"}"#;
    let read = read(&[ONE, marked]).expect("responses");
    let first = &read.of(&Responder::plain("a"))[0];
    assert!(first.is_harmful());
    assert_eq!(first.prompt.value.category.as_deref(), Some("greeting"));
}

#[test]
fn what_is_written_is_read_back_with_all_that_is_known_of_its_prompt() {
    let line = r#"{"prompt_id": "7", "prompt": "Hello?", "response": "Go.", "model": "a", "control_token": "typed", "harmful": true,
        "category": "greeting", "reference": "Hi.", "source": "mine", "licence": "MIT"}"#;
    let read = read(&[&line.replace('\n', " ")]).expect("responses");
    let responder = Responder { model: "a".into(), control_token: Some(TokenForm::Typed) };
    let responses = read.of(&responder);
    assert_eq!((responses.len(), read.of(&Responder::plain("a")).len(), read.ignored_keys.len()), (1, 0, 0));
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("again.jsonl");
    write_responses(&path, &responder, responses).expect("written");
    assert_eq!(read_responses(&[path]).expect("responses").by, read.by);
}

#[test]
fn a_prompt_id_may_be_a_whole_number() {
    let line = |id: &str| format!(r#"{{"prompt": "Hello?", "response": "Hi.", "model": "a", "prompt_id": {id}}}"#);
    let read_as_number = read(&[&line("7")]).expect("responses");
    assert_eq!(read_as_number.of(&Responder::plain("a"))[0].prompt_id(), "7");
    let message = read(&[&line("7.5")]).expect_err("no id");
    assert!(message.contains("field `prompt_id` is 7.5; a string or a whole number is needed"), "{message}");
}

#[test]
fn foreign_keys_are_counted_and_ignored() {
    let line = r#"{"prompt": "Hello?", "response": "Hi.", "model": "a", "score": 3, "chosen": null, "category": null}"#;
    let read = read(&[&format!("{line}\n{line}\n{ONE}")]).expect("responses");
    assert_eq!(read.ignored_keys.into_iter().collect::<Vec<_>>(), [("chosen".to_owned(), 2), ("score".to_owned(), 2)]);
}

#[test]
fn every_bad_line_is_named_with_what_is_wrong_and_what_is_needed() {
    let cases = [
        ("[1]", "is JSON, but no object"),
        (r#"{"prompt": "Hello?", "response": "Hi", "model": "a""#, "ends inside its JSON object"),
        (r#"{"response": "Hi.", "model": "a"}"#, "field `prompt` is missing"),
        (r#"{"prompt": 3, "response": "Hi.", "model": "a"}"#, "field `prompt` must be a string or a list"),
        (r#"{"prompt": " ", "response": "Hi.", "model": "a"}"#, "field `prompt` must end with a message by the user"),
        (r#"{"prompt": [{"role": "assistant", "content": "x"}], "response": "Hi.", "model": "a"}"#, "must end with a message by the user"),
        (r#"{"prompt": [{"role": "gpt", "content": "x"}], "response": "Hi.", "model": "a"}"#, "role `gpt` is not known"),
        (r#"{"prompt": "Hello?", "model": "a"}"#, "field `response` is missing"),
        (r#"{"prompt": "Hello?", "response": ["Hi."], "model": "a"}"#, "field `response`: invalid type"),
        (r#"{"prompt": "Hello?", "response": "Hi."}"#, "field `model` is missing"),
        (r#"{"prompt": "Hello?", "response": "Hi.", "model": "a", "harmful": "yes"}"#, "field `harmful`: invalid type"),
        (r#"{"prompt": "Hello?", "response": "Hi.", "model": "a", "prompt_id": "7"}"#, "has a `prompt_id` and the lines before have none"),
    ];
    for (line, problem) in cases {
        let message = read(&[&format!("{ONE}\n{line}\n")]).expect_err(line);
        assert!(message.contains("0.jsonl:2: ") && message.contains(problem), "{line}: {message}");
    }
}

#[test]
fn contradictions_between_files_are_found() {
    let with = |rest: &str| format!(r#"{{"prompt": "Hello?", "response": "Hi.", "model": "a", {rest}}}"#);
    let other = r#"{"prompt": "Bye?", "response": "Bye.", "model": "b", "prompt_id": "7"}"#;
    let message = read(&[&with(r#""prompt_id": "7""#), other]).expect_err("one id for two prompts");
    assert!(message.contains("1.jsonl:1: `prompt_id` \"7\" stood for another prompt"), "{message}");
    let message = read(&[&with(r#""harmful": true"#), &with(r#""harmful": false"#)]).expect_err("harmful or not");
    assert!(message.contains("field `harmful` is false and was true"), "{message}");
}

#[test]
fn files_that_are_missing_empty_or_binary_are_errors() {
    assert!(read_responses(&["no/such/file.jsonl"]).expect_err("missing").to_string().contains("no/such/file.jsonl"));
    assert!(read(&["\n\n"]).expect_err("empty").contains("no responses"));
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("binary");
    std::fs::write(&path, [0xff, 0xfe, b'\n']).expect("written");
    assert!(read_responses(std::slice::from_ref(&path)).expect_err("binary").to_string().contains(":1: is not UTF-8"));
    std::fs::write(&path, [0x1f, 0x8b, 8, 0, 0]).expect("written");
    assert!(read_responses(&[path]).expect_err("cut off").to_string().contains("binary:1: "));
}
