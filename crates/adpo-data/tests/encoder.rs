//! The tokenizer of a sentence encoder, held to transformers.

use std::path::{Path, PathBuf};

use adpo_data::SentenceTokenizer;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tiny-bert")
}

#[test]
fn texts_have_the_ids_of_transformers_cut_where_the_encoder_ends() {
    let tokenizer = SentenceTokenizer::from_folder(fixture(), 24).expect("the tokenizer loads");
    let expected = std::fs::read_to_string(fixture().join("expected.json")).expect("readable");
    let rows: Vec<serde_json::Value> = serde_json::from_str(&expected).expect("the values that make.py writes");
    let mut lengths = Vec::new();
    for row in &rows {
        let ids = tokenizer.encode(row["text"].as_str().expect("a text")).expect("encodes");
        assert_eq!(serde_json::json!(ids), row["ids"], "{}", row["text"]);
        lengths.push(ids.len());
    }
    assert!(lengths.contains(&2) && lengths.contains(&24), "an empty text and one that is cut: {lengths:?}");
}

#[test]
fn a_missing_file_half_of_one_and_no_room_for_a_text_are_errors_with_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let error = |folder: &Path, longest| SentenceTokenizer::from_folder(folder, longest).err().expect("an error").to_string();
    let path = folder.path().join("tokenizer.json");
    assert!(error(folder.path(), 24).contains("tokenizer.json: is not there"));
    let text = std::fs::read_to_string(fixture().join("tokenizer.json")).expect("readable");
    std::fs::write(&path, &text[..text.len() / 2]).expect("written");
    assert!(error(folder.path(), 24).contains("fetch the file again"));
    let told = error(&fixture(), 2);
    assert!(told.contains("tokenizer.json: frames a text with 2 special tokens, and the encoder reads 2 ids"), "{told}");
}
