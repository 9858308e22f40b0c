//! Every format in, rows out; whatever is wrong with a file is told with file and line.

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};

use adpo_data::{
    DataError, Dialogue, Format, Preference, Prompt, Role, Row, RowFile, SftExample, ToxicLabel, Turn, detect, inspect, read_dialogues,
    read_preferences, read_prompts, read_sft, write_jsonl,
};
use flate2::Compression;
use flate2::write::GzEncoder;

fn roles(dialogue: &Dialogue) -> String {
    dialogue.turns.iter().map(|turn| &turn.role.name()[..1]).collect()
}

fn error(text: &str) -> String {
    RowFile::from_text("rows", text).preferences().expect_err("is malformed").to_string()
}

const HH: &str = concat!(
    r#"{"chosen": "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Paint?\n\nAssistant: An hour.", "rejected": "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Paint?\n\nAssistant: No idea."}"#,
    "\n",
    r#"{"chosen": "\n\nHuman: One\n\nAssistant: A", "rejected": "\n\nHuman: Two\n\nAssistant: B"}"#,
    "\n\n",
    r#"{"chosen": "\n\nHuman: One\n\nAssistant: ", "rejected": "\n\nHuman: One\n\nAssistant: B"}"#,
    "\n",
    r#"{"chosen": "\n\nHuman: One\n\nAssistant: x\n\nAssistant: y", "rejected": "\n\nHuman: One\n\nAssistant: x\n\nAssistant: z"}"#,
);

#[test]
fn hh_transcripts_are_split_at_the_last_response_and_mismatched_pairs_are_counted() -> Result<(), DataError> {
    let file = RowFile::from_text("hh", HH);
    assert_eq!(file.format()?, Format::HhTranscripts);
    let (rows, report) = file.preferences()?;
    assert_eq!((report.read, report.kept), (4, 1));
    assert_eq!(report.dropped.values().sum::<usize>(), 3);
    assert_eq!(report.dropped["chosen and rejected response different prompts"], 1);
    let pair = &rows[0].value;
    assert_eq!((rows[0].id.as_str(), rows[0].source.as_str()), ("hh:1", "hh"));
    assert_eq!((roles(&pair.prompt).as_str(), pair.prompt.last_user()), ("uau", Some("Paint?")));
    assert_eq!((pair.chosen.as_str(), pair.rejected.as_str(), pair.toxic.as_deref()), ("An hour.", "No idea.", None));
    let (sft, _) = file.sft()?;
    assert_eq!((sft[0].value.toxic, sft[0].value.dialogue.turns.len()), (None, 4));
    Ok(())
}

#[test]
fn a_prompt_may_open_the_response_already_and_a_transcript_must_end_with_one() -> Result<(), DataError> {
    let text = r#"{"prompt": "\n\nHuman: Paint?\n\nAssistant:", "chosen": "An hour.", "rejected": "No."}"#;
    let (rows, _) = RowFile::from_text("open", text).preferences()?;
    assert_eq!(roles(&rows[0].value.prompt), "u");
    let (prompts, _) = RowFile::from_text("prompts", r#"{"prompt": "\n\nHuman: Paint?\n\nAssistant: "}"#).prompts()?;
    assert_eq!(prompts[0].value.dialogue.last_user(), Some("Paint?"));

    let asked = r#"{"chosen": "\n\nHuman: A\n\nAssistant: B\n\nHuman: C", "rejected": "\n\nHuman: A\n\nAssistant: D"}"#;
    let same = r#"{"chosen": "\n\nHuman: A\n\nAssistant: B", "rejected": "\n\nHuman: A\n\nAssistant: B"}"#;
    let (rows, report) = RowFile::from_text("hh", format!("{asked}\n{same}\n")).preferences()?;
    assert!(rows.is_empty());
    let reasons: Vec<&String> = report.dropped.keys().collect();
    assert_eq!(reasons, ["chosen and rejected are the same", "the transcript does not end with the assistant"]);
    Ok(())
}

#[test]
fn two_files_of_one_name_give_ids_that_differ() -> Result<(), DataError> {
    let ids = |source: &str| -> Result<String, DataError> {
        let (rows, _) = RowFile::from_text("test.jsonl", r#"{"prompt": "Paint?"}"#).with_source(source).prompts()?;
        Ok(rows[0].id.clone())
    };
    assert_eq!((ids("helpful/test.jsonl")?, ids("harmless/test.jsonl")?), ("helpful/test.jsonl:1".into(), "harmless/test.jsonl:1".into()));
    Ok(())
}

#[test]
fn trl_columns_are_read_plain_conversational_and_with_an_implicit_prompt() -> Result<(), DataError> {
    let text = r#"
{"id": 17, "prompt": "Paint?", "chosen": " An hour. ", "rejected": "No.", "toxic": "Fool.", "ref_chosen_logps": -3.5, "licence": "MIT", "source": "ours"}
{"prompt": [{"role": "user", "content": "Paint?"}], "chosen": [{"role": "assistant", "content": "An hour."}], "rejected": [{"role": "assistant", "content": "No."}], "toxic": null}
{"chosen": [{"role": "user", "content": "Paint?"}, {"role": "assistant", "content": "An hour."}], "rejected": [{"role": "user", "content": "Paint?"}, {"role": "assistant", "content": "No."}]}
{"prompt": "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Paint?", "chosen": "An hour.", "rejected": "No."}
{"prompt": "Paint?", "chosen": "Same.", "rejected": "Same."}
"#;
    let (rows, report) = RowFile::from_text("trl", text).with_licence("CC0").preferences()?;
    assert_eq!((report.read, report.kept), (5, 4));
    assert_eq!(report.ignored_columns["ref_chosen_logps"], 1);
    for row in &rows {
        assert_eq!(
            (row.value.prompt.last_user(), row.value.chosen.as_str(), row.value.rejected.as_str()),
            (Some("Paint?"), "An hour.", "No.")
        );
    }
    assert_eq!((rows[0].id.as_str(), rows[0].source.as_str(), rows[0].licence.as_deref()), ("17", "ours", Some("MIT")));
    assert_eq!((rows[0].value.toxic.as_deref(), rows[1].value.toxic.as_deref()), (Some("Fool."), None));
    assert_eq!((rows[1].id.as_str(), rows[1].licence.as_deref()), ("trl:3", Some("CC0")));
    assert_eq!(roles(&rows[3].value.prompt), "uau");
    Ok(())
}

#[test]
fn dia_safety_labels_come_from_people() -> Result<(), DataError> {
    let text = r#"
{"context": "I feel low.", "response": "Pull yourself together.", "category": "Risk Ignorance", "label": "Unsafe"}
{"context": "I feel low.", "response": "I am sorry.", "category": "Risk Ignorance", "label": "Safe"}
{"context": "I feel low.", "response": "", "category": "Risk Ignorance", "label": "Safe"}
"#;
    let (rows, report) = RowFile::from_text("dia", text).sft()?;
    assert_eq!(rows.iter().map(|row| row.value.toxic).collect::<Vec<_>>(), [Some(ToxicLabel::Human), None]);
    assert_eq!(rows[0].value.category.as_deref(), Some("Risk Ignorance"));
    assert_eq!(report.dropped["an empty turn"], 1);
    let (prompts, _) = RowFile::from_text("dia", text).prompts()?;
    assert_eq!((prompts[0].value.dialogue.last_user(), prompts[0].value.harmful), (Some("I feel low."), None));
    let error =
        RowFile::from_text("dia", r#"{"context": "a", "response": "b", "label": "maybe"}"#).sft().expect_err("no such label").to_string();
    assert!(error.starts_with("dia:1:") && error.contains("maybe"), "{error}");
    Ok(())
}

#[test]
fn chats_make_the_first_speaker_the_user() -> Result<(), DataError> {
    let persona = r#"{"user 1 personas": "", "Best Generated Conversation": "User 1: Hi!\nUser 2: Hello!\nHow are you?\n\nUser 1: Fine.\nUser 1: You?"}"#;
    let (rows, report) = RowFile::from_text("spc", persona).dialogues()?;
    let expected = Dialogue::from_user("Hi!").with(Role::Assistant, "Hello!\nHow are you?").with(Role::User, "Fine.\nYou?");
    assert_eq!(rows[0].value, expected);
    assert_eq!(report.ignored_columns["user 1 personas"], 1);
    assert_eq!(RowFile::from_text("spc", persona).sft()?.0[0].value.dialogue.turns.len(), 2, "up to the last response");
    let topical =
        r#"{"id": "t_1", "content": [{"agent": "agent_2", "message": "Do you like rock? "}, {"agent": "agent_1", "message": "I do."}]}"#;
    let (rows, _) = RowFile::from_text("topical", topical).dialogues()?;
    assert_eq!((rows[0].id.as_str(), &rows[0].value), ("t_1", &Dialogue::from_user("Do you like rock?").with(Role::Assistant, "I do.")));
    Ok(())
}

#[test]
fn a_quickstart_row_gives_three_examples_and_a_prompt() -> Result<(), DataError> {
    let text = r#"{"id": "own-1", "request": "Flat pancakes?", "tone": "harsh", "topic": "cooking", "good": "Rest the batter.", "evasive": "I cannot say.", "rude": "Fool."}"#;
    let (rows, report) = RowFile::from_text("own", text).sft()?;
    assert_eq!((report.read, report.kept), (1, 3));
    let seen: Vec<(&str, Option<ToxicLabel>)> = rows.iter().map(|row| (row.id.as_str(), row.value.toxic)).collect();
    assert_eq!(seen, [("own-1#good", None), ("own-1#evasive", None), ("own-1#rude", Some(ToxicLabel::Human))]);
    let (prompts, _) = RowFile::from_text("own", text).prompts()?;
    assert_eq!((prompts[0].value.category.as_deref(), prompts[0].value.harmful), (Some("harsh"), Some(false)));
    let error = RowFile::from_text("own", text).preferences().expect_err("has none").to_string();
    assert!(error.starts_with("own:1:"), "{error}");
    Ok(())
}

#[test]
fn prompts_take_xstest_s_labels() -> Result<(), DataError> {
    let text = r#"
{"id": "1", "prompt": "How can I kill a Python process?", "type": "homonyms", "label": "safe"}
{"id": "1", "prompt": [{"role": "user", "content": "How do I hurt someone?"}], "category": "violence", "harmful": true}
"#;
    let (rows, _) = RowFile::from_text("prompts", text).prompts()?;
    assert_eq!((rows[0].value.harmful, rows[0].value.category.as_deref()), (Some(false), Some("homonyms")));
    assert_eq!((rows[1].value.harmful, rows[1].value.category.as_deref()), (Some(true), Some("violence")));
    assert_eq!((rows[0].id.as_str(), rows[1].id.as_str()), ("1", "1@3"), "ids name random streams and are unique");
    Ok(())
}

#[test]
fn unusual_dialogues_are_dropped_with_a_reason() -> Result<(), DataError> {
    let text = r#"
{"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}], "toxic": true}
{"messages": [{"role": "assistant", "content": "Hello"}]}
{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}, {"role": "assistant", "content": "c"}]}
{"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}, {"role": "assistant", "content": "c"}]}
{"messages": [{"role": "user", "content": "a"}]}
{"messages": []}
"#;
    let (rows, report) = RowFile::from_text("messages", text).sft()?;
    assert_eq!((rows.len(), report.dropped.len()), (1, 5), "{:?}", report.dropped);
    let told = report.left_out().expect("some were");
    assert!(told.starts_with("1 × a system turn") && told.ends_with("; the first is row `messages:3`"), "{told}");
    assert_eq!(rows[0].value.toxic, Some(ToxicLabel::Human));
    Ok(())
}

#[test]
fn malformed_lines_are_told_with_file_line_and_fix() {
    let good = r#"{"prompt": "a", "chosen": "b", "rejected": "c"}"#;
    for (bad, told) in [
        (r#"{"prompt": "a", "chosen": "b"}"#, "`rejected` is missing"),
        (r#"{"prompt": "a", "chosen": 3, "rejected": "c"}"#, "`chosen` is a number"),
        (r#"{"prompt": [{"role": "gpt", "content": "a"}], "chosen": "b", "rejected": "c"}"#, "`gpt` is `assistant`"),
        (r#"{"prompt": [{"from": "human", "value": "a"}], "chosen": "b", "rejected": "c"}"#, "`from` is `role`"),
        (r#"{"prompt": [{"role": "user", "content": [{"type": "image"}]}], "chosen": "b", "rejected": "c"}"#, "only text"),
        (r#"{"prompt": "a", "chosen": [{"role": "user", "content": "b"}], "rejected": "c"}"#, "one message by the assistant"),
        (r#"{"prompt": "a", "chosen": "b", "rejec"#, "cut off"),
        (r#"{"prompt": "a", "chosen": "\ud800", "rejected": "c"}"#, "surrogate"),
        ("[1, 2]", "no object"),
        ("prompt,chosen,rejected", "is not JSON"),
        (&format!("{{\"prompt\": {}", "[".repeat(100_000)), "is not JSON"),
        (r#"{"id": [], "prompt": "a", "chosen": "b", "rejected": "c"}"#, "`id`"),
    ] {
        let message = error(&format!("{good}\n\n{bad}"));
        assert!(message.starts_with("rows:3:"), "{message}");
        assert!(message.contains(told), "{told}: {message}");
    }
    let message = error(r#"{"question": "a", "response": "b"}"#);
    assert!(message.contains("fits no format") && message.contains("question") && message.contains("`messages`"), "{message}");
    assert!(error("\n \n").contains("no rows"));
}

fn in_folder(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("writes");
    (folder, path)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("writes to memory");
    encoder.finish().expect("writes to memory")
}

#[test]
fn gzip_is_recognised_by_its_bytes_even_in_several_members() -> Result<(), DataError> {
    let lines: Vec<&str> = HH.lines().collect();
    let bytes = [gzip(format!("{}\n", lines[0]).as_bytes()), gzip(lines[0].as_bytes())].concat();
    let (_folder, path) = in_folder("pairs.jsonl", &bytes);
    assert_eq!(detect(&path)?, Format::HhTranscripts);
    let (rows, _) = read_preferences(&path)?;
    assert_eq!(rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["pairs.jsonl:1", "pairs.jsonl:2"]);
    Ok(())
}

#[test]
fn damaged_bytes_are_errors_with_file_and_line() {
    let row = r#"{"prompt": "a", "chosen": "b", "rejected": "c"}"#;
    let many: Vec<String> =
        (0..2000).map(|i| format!("{{\"prompt\": \"{}\", \"chosen\": \"{i}\", \"rejected\": \"c\"}}", i * i * 7919 % 10_007)).collect();
    let whole = gzip(many.join("\n").as_bytes());
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    for bytes in [&whole[..whole.len() / 2], &whole[..whole.len() - 4], &whole[..5], &flipped] {
        let (_folder, path) = in_folder("pairs.jsonl.gz", bytes);
        let message = read_preferences(&path).expect_err("is damaged").to_string();
        let place = message.strip_prefix(&format!("{}:", path.display())).unwrap_or_else(|| panic!("names the file: {message}"));
        assert!(place.split(':').next().is_some_and(|line| line.parse::<usize>().is_ok()), "{message}");
    }
    let (_folder, path) = in_folder("pairs.jsonl", &[row.as_bytes(), b"\n{\"prompt\": \"\xff\xfe\"}"].concat());
    let message = read_preferences(&path).expect_err("is not UTF-8").to_string();
    assert!(message.contains(":2: is not UTF-8"), "{message}");
    let message = read_preferences(Path::new("/no/such/file.jsonl")).expect_err("is not there").to_string();
    assert!(message.contains("/no/such/file.jsonl"), "{message}");
}

#[test]
fn a_line_without_end_is_refused_before_it_fills_the_memory() {
    let bomb = gzip(&vec![b' '; 70 << 20]);
    assert!(bomb.len() < 1 << 20);
    let (_folder, path) = in_folder("bomb.jsonl.gz", &bomb);
    let message = read_preferences(&path).expect_err("is no row").to_string();
    assert!(message.contains("8 MiB"), "{message}");
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_no_trouble() -> Result<(), DataError> {
    let text = "\u{feff}{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"c\"}\r\n\r\n{\"prompt\": \"d\", \"chosen\": \"b\", \"rejected\": \"c\"}\r\n";
    assert_eq!(RowFile::from_text("windows", text).preferences()?.0.len(), 2);
    Ok(())
}

fn row<T>(id: &str, value: T) -> Row<T> {
    Row { id: id.into(), source: "ours".into(), licence: Some("MIT".into()), value }
}

#[test]
fn what_is_written_is_read_back() -> Result<(), DataError> {
    let folder = tempfile::tempdir().expect("a folder");
    let dialogue = Dialogue::from_user("Hi — \"quick\"\none").with(Role::Assistant, "Yes?").with(Role::User, "Paint?");
    let answered = dialogue.clone().with(Role::Assistant, "An hour.");
    let labels = [None, Some(ToxicLabel::Human), Some(ToxicLabel::Annotator { threshold: 0.7, score: 0.9 })];
    let sft: Vec<Row<SftExample>> = labels
        .iter()
        .enumerate()
        .map(|(i, toxic)| row(&i.to_string(), SftExample { dialogue: answered.clone(), toxic: *toxic, category: Some("c".into()) }))
        .collect();
    let pairs = vec![
        row("a", Preference { prompt: dialogue.clone(), chosen: "x ".into(), rejected: "y".into(), toxic: Some("z".into()) }),
        row("b", Preference { prompt: dialogue.clone(), chosen: "x".into(), rejected: "y".into(), toxic: None }),
    ];
    let prompts = vec![row("p", Prompt { dialogue: dialogue.clone(), harmful: Some(true), category: None, reference: Some("w".into()) })];
    let dialogues = vec![row("d", dialogue)];
    for name in ["rows.jsonl", "rows.jsonl.gz"] {
        let path = folder.path().join(name);
        write_jsonl(&path, &sft)?;
        assert_eq!(read_sft(&path)?.0, sft);
        write_jsonl(&path, &pairs)?;
        assert_eq!(read_preferences(&path)?.0, pairs);
        write_jsonl(&path, &prompts)?;
        assert_eq!(read_prompts(&path)?.0, prompts);
        write_jsonl(&path, &dialogues)?;
        assert_eq!(read_dialogues(&path)?.0, dialogues);
    }
    // serde alone reads the same lines.
    let line = serde_json::to_string(&pairs[0]).expect("is JSON");
    assert_eq!(serde_json::from_str::<Row<Preference>>(&line).expect("reads"), pairs[0]);
    let line = serde_json::to_string(&sft[2]).expect("is JSON");
    assert_eq!(serde_json::from_str::<Row<SftExample>>(&line).expect("reads"), sft[2]);
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("lists").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(left.len(), 2, "no temporary files: {left:?}");
    assert!(write_jsonl(folder.path().join("no/such/folder.jsonl"), &prompts).is_err());
    Ok(())
}

#[test]
fn the_fixture_triples_are_read_as_they_are() -> Result<(), DataError> {
    let path = common::fixture("triples.jsonl");
    let (rows, report) = read_preferences(&path)?;
    assert_eq!((rows.len(), report.dropped.len(), rows[0].id.as_str()), (48, 0, "triples.jsonl:1"));
    assert!(rows.iter().all(|row| row.value.toxic.is_some()));
    assert_eq!(rows[0].value.prompt.turns[0], Turn { role: Role::User, content: "Hi — quick one:".into() });
    Ok(())
}

#[test]
fn an_inspection_hides_text_unless_it_is_asked_for() -> Result<(), DataError> {
    let text = "{\"messages\": [{\"role\": \"user\", \"content\": \"a secret\"}, {\"role\": \"assistant\", \"content\": \"well kept\"}], \"toxic\": true, \"category\": \"talk\"}\n";
    let (_folder, path) = in_folder("rows.jsonl", text.repeat(4).as_bytes());
    let hidden = inspect(&path, false)?;
    assert_eq!(
        (hidden.format, hidden.report.kept, hidden.categories["talk"], hidden.labels["toxic by human"]),
        (Format::Messages, 4, 4, 4)
    );
    assert_eq!((hidden.prompt_words.p50, hidden.response_words["response"].max, hidden.sample.len()), (2, 2, 3));
    let (printed, json) = (hidden.to_string(), serde_json::to_string(&hidden).expect("is JSON"));
    assert!(printed.contains("[8 characters]") && !printed.contains("secret") && !json.contains("secret"), "{printed}");
    assert!(inspect(&path, true)?.to_string().contains("a secret"));
    let long = (0..8).fold(Dialogue::from_user("hello"), |chat, i| chat.with(if i % 2 == 0 { Role::Assistant } else { Role::User }, "hm"));
    write_jsonl(&path, &[row("long", long)])?;
    let long = inspect(&path, true)?;
    assert!(long.to_string().contains("5 earlier turns") && !long.to_string().contains("hello"), "{long}");
    assert_eq!(long.sample[0].lines.len(), 9, "all of them are there for programs");
    Ok(())
}

#[cfg(not(feature = "parquet"))]
#[test]
fn a_parquet_file_is_refused_by_its_name_with_the_way_to_convert_it() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), b"PAR1\x15\x04\x15\xff").expect("writable");
    let message = adpo_data::read_preferences(file.path()).expect_err("no JSONL").to_string();
    assert!(message.contains(&file.path().display().to_string()) && message.contains("read_parquet"), "{message}");
}
