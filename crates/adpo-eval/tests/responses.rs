//! Files of replies as strangers write them.

use std::io::Write;
use std::path::PathBuf;

use adpo_data::Role;
use adpo_eval::{Responses, read_responses};
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
fn replies_of_two_models_to_one_prompt_meet_without_ids() {
    let other = r#"{"prompt": [{"role": "user", "content": "Hello?"}], "response": "", "model": "b"}"#;
    let read = read(&[ONE, &format!("\u{feff}{other}\n\n{ONE}\n")]).expect("replies");
    let names: Vec<(&str, usize)> = read.systems.iter().map(|(name, replies)| (name.as_str(), replies.len())).collect();
    assert_eq!(names, [("a", 2), ("b", 1)]);
    let ids: Vec<&String> = read.systems.iter().flat_map(|(_, replies)| replies.iter().map(|reply| &reply.prompt_id)).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(read.files.len(), 2);
}

#[test]
fn a_dialogue_keeps_its_turns_and_another_one_gets_another_id() {
    let dialogue = r#"{"prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}], "response": "Hi.", "model": "a"}"#;
    let read = read(&[&format!("{ONE}\n{dialogue}")]).expect("replies");
    let replies = &read.systems[0].1;
    assert_eq!(replies[1].exchange.prompt.turns[0].role, Role::System);
    assert_ne!(replies[0].prompt_id, replies[1].prompt_id);
}

#[test]
fn gzip_is_read_whatever_the_name() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("replies.jsonl");
    let mut file = flate2::write::GzEncoder::new(std::fs::File::create(&path).expect("created"), flate2::Compression::fast());
    writeln!(file, "{ONE}").and_then(|()| file.finish().map(drop)).expect("written");
    assert_eq!(read_responses(&[path]).expect("replies").systems.len(), 1);
}

#[test]
fn what_one_line_says_of_a_prompt_holds_for_all_its_replies() {
    let marked = r#"{"prompt": "Hello?", "response": "Go.", "model": "b", "harmful": true, "category": "greeting"}"#;
    let read = read(&[ONE, marked]).expect("replies");
    let first = &read.systems[0].1[0];
    assert!(first.exchange.harmful);
    assert_eq!(first.category.as_deref(), Some("greeting"));
}

#[test]
fn foreign_keys_are_counted_and_ignored() {
    let line = r#"{"prompt": "Hello?", "response": "Hi.", "model": "a", "score": 3, "chosen": null, "category": null}"#;
    let read = read(&[&format!("{line}\n{line}\n{ONE}")]).expect("replies");
    assert_eq!(read.ignored_keys.into_iter().collect::<Vec<_>>(), [("chosen".to_owned(), 2), ("score".to_owned(), 2)]);
}

#[test]
fn every_bad_line_is_named_with_what_is_wrong_and_what_is_needed() {
    let cases = [
        ("[1]", "is no JSON object"),
        (r#"{"prompt": "Hello?", "response": "Hi", "model": "a""#, "is no JSON object"),
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
        assert!(message.contains("0.jsonl, line 2: ") && message.contains(problem), "{line}: {message}");
    }
}

#[test]
fn contradictions_between_files_are_found() {
    let with = |rest: &str| format!(r#"{{"prompt": "Hello?", "response": "Hi.", "model": "a", {rest}}}"#);
    let other = r#"{"prompt": "Bye?", "response": "Bye.", "model": "b", "prompt_id": "7"}"#;
    let message = read(&[&with(r#""prompt_id": "7""#), other]).expect_err("one id for two prompts");
    assert!(message.contains("1.jsonl, line 1: `prompt_id` \"7\" stood for another prompt"), "{message}");
    let message = read(&[&with(r#""harmful": true"#), &with(r#""harmful": false"#)]).expect_err("harmful or not");
    assert!(message.contains("field `harmful` is false and was true"), "{message}");
}

#[test]
fn files_that_are_missing_empty_or_binary_are_errors() {
    assert!(read_responses(&["no/such/file.jsonl"]).expect_err("missing").to_string().contains("no/such/file.jsonl"));
    assert!(read(&["\n\n"]).expect_err("empty").contains("no replies"));
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("binary");
    std::fs::write(&path, [0xff, 0xfe, b'\n']).expect("written");
    assert!(read_responses(std::slice::from_ref(&path)).expect_err("binary").to_string().contains("line 1: is not UTF-8"));
    std::fs::write(&path, [0x1f, 0x8b, 8, 0, 0]).expect("written");
    assert!(read_responses(&[path]).expect_err("cut off").to_string().contains("line 1"));
}
