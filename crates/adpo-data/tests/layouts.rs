//! The layouts that people bring: each read as what it means, or refused with the way to convert it.

use std::fmt::Write as _;

use adpo_data::{DataError, Dialogue, Format, RowFile, inspect};
use proptest::prelude::*;

/// What a row was read as, a line per turn.
fn shown(dialogue: &Dialogue) -> String {
    let lines = dialogue.turns.iter().map(|turn| format!("  {}: {}", turn.role.name(), turn.content.replace('\n', "\\n")));
    lines.collect::<Vec<_>>().join("\n")
}

/// The format, and the rows as preferences, or as dialogues where they are none.
fn read(file: &RowFile) -> Result<String, DataError> {
    let mut lines = vec![file.format()?.name().to_owned()];
    let report = if let Ok((rows, report)) = file.preferences() {
        for row in rows {
            let pair = &row.value;
            lines.extend([row.id.clone(), shown(&pair.prompt)]);
            lines.push(format!("  + {:?} - {:?} toxic {:?}", pair.chosen, pair.rejected, pair.toxic));
        }
        report
    } else {
        let (rows, report) = file.dialogues()?;
        lines.extend(rows.iter().flat_map(|row| [row.id.clone(), shown(&row.value)]));
        report
    };
    lines.extend(report.dropped.iter().map(|(reason, rows)| format!("dropped {rows}: {reason}")));
    Ok(lines.join("\n") + "\n")
}

fn told(text: &str) -> String {
    read(&RowFile::from_text("rows", text)).unwrap_or_else(|error| format!("error: {error}\n"))
}

#[test]
fn layouts_that_people_bring_are_read() -> Result<(), DataError> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/layouts");
    let mut files: Vec<_> = std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(files.len() >= 12, "{files:?}");
    let mut seen = String::new();
    for path in files {
        let _ = writeln!(seen, "== {}", path.file_name().expect("a name").to_string_lossy());
        seen.push_str(&read(&RowFile::new(&path))?);
        inspect(&path, false)?;
    }
    insta::assert_snapshot!(seen);
    Ok(())
}

#[test]
fn what_means_something_else_is_refused_with_the_fix() {
    let mut seen = String::new();
    for text in [
        r#"{"prompt": "hi", "chosen": "a"}"#,
        r#"{"text": "Human: hi"}"#,
        r#"{"prompt": "Paint?", "completion": "An hour.", "label": true}"#,
        r#"{"prompt": "Paint?", "chosen": "An hour.", "rejected": "No.", "images": ["a.png"]}"#,
        r#"{"messages": [{"role": "user", "content": "hi", "name": "Ann"}]}"#,
        r#"{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "a", "weight": 0}]}"#,
        r#"{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}]}"#,
        r#"{"system": "Be kind.", "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]}"#,
        r#"{"prompt": null, "chosen": "So.", "rejected": "No."}"#,
        r#"{"prompt": "How \ud83d?", "chosen": "So.", "rejected": "No."}"#,
        r#"{"prompt": "How?", "chosen": NaN, "rejected": "No."}"#,
        r#"{"prompt": "Tea?", "chosen": [{"role": "user", "content": "Paint?"}, {"role": "assistant", "content": "a"}], "rejected": [{"role": "user", "content": "Paint?"}, {"role": "assistant", "content": "b"}]}"#,
        r#"{"conversations": [{"from": "human", "value": "hi"}, {"from": "function_call", "value": "f()"}]}"#,
        r#"{"prompt": "[{'role': 'user', 'content': 'hi'}]"}"#,
        r#"{"prompt": "Below is a task.\n\n### Instruction:\nSoup?\n\n### Response:\n"}"#,
        concat!(
            r#"{"prompt": "Soup?", "chosen": "a", "rejected": "b"}"#,
            "\n",
            r#"{"prompt": "<|im_start|>user\nSoup?<|im_end|>\n<|im_start|>assistant\n", "chosen": "a", "rejected": "b"}"#,
            "\n",
            r#"{"prompt": "<|im_start|>user\nTea?<|im_end|>\n<|im_start|>assistant\n", "chosen": "a", "rejected": "b"}"#
        ),
        r#"{"prompt": "Soup?", "chosen": "Yes.</s>", "rejected": "No.</s>"}"#,
        "[{\"prompt\": \"a\"},\n {\"prompt\": 3}]",
        "[{\"prompt\": \"a\"},\n {\"prompt\": \"b\"}",
        "[{\"prompt\": \"a\"}\n {\"prompt\": \"b\"}]",
        "[{\"prompt\": \"a\"}] {}",
        "[1, 2]",
    ] {
        let _ = write!(seen, "{text}\n→ {}\n", told(text));
    }
    insta::assert_snapshot!(seen);
}

#[test]
fn a_column_without_content_changes_nothing() -> Result<(), DataError> {
    let text = r#"{"prompt": "How?", "chosen": "So.", "rejected": "No.", "images": [], "tools": null, "system": "", "score": NaN}"#;
    let (rows, report) = RowFile::from_text("rows", text).preferences()?;
    assert_eq!((rows.len(), rows[0].value.prompt.turns.len()), (1, 1));
    assert_eq!(report.ignored_columns.keys().collect::<Vec<_>>(), ["images", "score", "tools"]);
    Ok(())
}

#[test]
fn csv_errors_name_row_and_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rows.csv");
    for (text, told) in [
        ("prompt,completion\n\"a\nb\",c\nd\n", ":4: row 2: has 1 cells"),
        ("prompt,prompt\na,b\n", "two columns `prompt`"),
        ("prompt,chosen,rejected\na,b,c\n,b,c\n", ":3: row 2: field `prompt` is null"),
    ] {
        std::fs::write(&path, text).expect("writes");
        let message =
            read(&RowFile::new(&path).with_format(if text.contains("chosen") { Format::Preferences } else { Format::PromptCompletion }))
                .and_then(|_| RowFile::new(&path).preferences().map(|_| String::new()));
        let message = message.expect_err("is malformed").to_string();
        assert!(message.contains(told), "{told}: {message}");
    }
}

#[test]
fn the_register_s_examples_are_read_as_the_format_they_stand_for() -> Result<(), DataError> {
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/data.md")).expect("the docs");
    for format in Format::ALL {
        let file = RowFile::from_text("row", format.example());
        assert_eq!(file.format()?, format);
        assert_eq!(file.dialogues()?.1.kept, 1, "{}", format.name());
        assert_eq!(serde_json::to_value(format).expect("is JSON"), format.name());
        let documented = format!("### `{}`\n\n```json\n{}\n```\n", format.name(), format.example());
        assert!(docs.contains(&documented), "docs/data.md lacks\n{documented}");
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_bytes_panic(which in 0..Format::ALL.len(), cuts in prop::collection::vec((0usize..400, any::<u8>()), 0..6), array: bool) {
        let example = Format::ALL[which].example();
        let mut bytes = if array { format!("[{example}, {example}]") } else { format!("{example}\n{example}") }.into_bytes();
        for (at, byte) in cuts {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["rows.jsonl", "rows.csv"] {
            let path = folder.path().join(name);
            std::fs::write(&path, &bytes).expect("writes");
            let file = RowFile::new(&path);
            let _ = (file.preferences().is_ok(), file.dialogues().is_ok(), file.sft().is_ok(), file.prompts().is_ok());
        }
    }
}

#[test]
fn instructions_in_a_column_of_any_usual_name_are_the_system_turn() -> Result<(), DataError> {
    for name in ["system", "system_prompt", "system_message"] {
        let text = format!(r#"{{"prompt": "How?", "chosen": "So.", "rejected": "No.", "{name}": "Answer in French only."}}"#);
        let (rows, report) = RowFile::from_text("rows", text).preferences()?;
        let turn = &rows[0].value.prompt.turns[0];
        assert_eq!((turn.role, turn.content.as_str()), (adpo_data::Role::System, "Answer in French only."), "{name}");
        assert!(report.ignored_columns.is_empty());
    }
    let both = r#"{"prompt": "How?", "chosen": "So.", "rejected": "No.", "system": "Be kind.", "system_prompt": "Be brief."}"#;
    let error = RowFile::from_text("rows", both).preferences().expect_err("which one?").to_string();
    assert!(error.contains("`system_prompt`"), "{error}");
    Ok(())
}
