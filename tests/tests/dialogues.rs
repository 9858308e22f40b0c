//! The project's own dialogues are what the README says they are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use adpo_data::{RowFile, bucket};
use adpo_pipeline::Recipe;

/// The buckets whose requests the quickstart evaluates.
fn held_out() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/adpo-cli/assets/quickstart.toml");
    Recipe::from_file(&path)
        .expect("the recipe parses")
        .evaluate
        .expect("it evaluates")
        .sources
        .iter()
        .flat_map(|source| source.buckets.clone())
        .collect()
}

fn requests() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/adpo-cli/assets/dialogues.jsonl");
    let (rows, report) = RowFile::new(path).prompts().expect("the dialogues are readable");
    assert!(report.dropped.is_empty());
    rows.into_iter().map(|row| row.value.dialogue.split_key().to_owned()).collect()
}

fn five_grams(text: &str) -> BTreeSet<String> {
    let words: Vec<String> =
        text.to_lowercase().split(|c: char| !c.is_alphanumeric() && c != '\'').filter(|w| !w.is_empty()).map(str::to_owned).collect();
    words.windows(5).map(|gram| gram.join(" ")).collect()
}

#[test]
fn there_are_enough_dialogues_and_requests_and_none_is_written_twice() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/adpo-cli/assets/dialogues.jsonl");
    let (dialogues, _) = RowFile::new(path).sft().expect("the dialogues are readable");
    let texts: BTreeSet<String> = dialogues.iter().map(|row| format!("{:?}", row.value.dialogue).to_lowercase()).collect();
    assert!(dialogues.len() >= 600 && texts.len() == dialogues.len(), "{} dialogues, {} distinct", dialogues.len(), texts.len());
    let requests = requests();
    let distinct: BTreeSet<String> = requests.iter().map(|r| r.to_lowercase()).collect();
    assert!(distinct.len() >= 400 && distinct.len() == requests.len());
}

#[test]
fn no_held_out_request_shares_five_words_in_a_row_with_training() {
    let mut owners: BTreeMap<String, (bool, String)> = BTreeMap::new();
    let buckets = held_out();
    let mut held_out = 0;
    for request in requests() {
        let own = buckets.contains(&bucket(&request));
        held_out += usize::from(own);
        for gram in five_grams(&request) {
            if let Some((other, text)) = owners.get(&gram) {
                assert_eq!(*other, own, "`{gram}` is in `{text}` and in `{request}`");
            }
            owners.insert(gram, (own, request.clone()));
        }
    }
    assert!(held_out >= 200, "{held_out} held-out requests");
}
