//! On their way from a file of rows to a token cache, rows take memory by the handful, however many there are.
#![cfg(feature = "tokenizers")]

use std::fmt::Write as _;
use std::path::Path;

use adpo_data::{
    ChatTokenizer, DataError, EncodedRows, EncodedTriple, Encoder, EncodingOptions, Mask, OverLength, Preference, Row, RowFile, TokenCache,
    read_preferences, stream_jsonl, train_tokenizer, write_jsonl_with,
};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Bytes that `work` needed at most beyond those that were taken before.
fn peak<T>(work: impl FnOnce() -> Result<T, DataError>) -> Result<usize, DataError> {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    work()?;
    Ok(ALLOCATOR.peak_usage() - before)
}

fn rows(count: usize) -> String {
    (0..count).fold(String::new(), |mut text, i| {
        let long = format!("row {i} says what it says at some length; ").repeat(20);
        writeln!(text, r#"{{"prompt": "{long}", "chosen": "{long}yes", "rejected": "{long}no", "toxic": "{long}never"}}"#)
            .expect("a string");
        text
    })
}

/// From `rows.jsonl` over `triples.jsonl` to a token cache, as the pipeline's stages have it.
fn all_the_way(folder: &Path, tokenizer: &ChatTokenizer) -> Result<usize, DataError> {
    let triples = folder.join("triples.jsonl");
    write_jsonl_with(&triples, |file| RowFile::new(folder.join("rows.jsonl")).rows::<Preference>()?.try_for_each(|row| file.push(&row?)))?;
    let cache = TokenCache::<EncodedTriple>::open_or_make(folder, "triples", &folder, |cache| {
        let options = EncodingOptions { max_length: 4096, over_length: OverLength::Error, mask: Mask::Last, control: None };
        let mut encoder = Encoder::new(tokenizer, options);
        let mut rows = stream_jsonl::<Row<Preference>>(&triples)?;
        loop {
            let chunk = rows.by_ref().take(16).collect::<Result<Vec<_>, _>>()?;
            if chunk.is_empty() {
                return Ok::<_, DataError>(serde_json::Value::Null);
            }
            let encoded = encoder.in_parallel(&chunk, Encoder::preference)?;
            encoded.iter().flatten().try_for_each(|triple| cache.push(triple))?;
        }
    })?;
    Ok(EncodedRows::len(&cache))
}

// One test in this file: two would count each other's bytes. One thread: how many rows several have at a time is luck.
#[test]
fn ten_times_the_rows_take_no_more_than_some_bytes_for_each() -> Result<(), DataError> {
    rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread").install(few_and_many)
}

fn few_and_many() -> Result<(), DataError> {
    let tokenizer = train_tokenizer([rows(3)], 400)?;
    let (few, many) = (100, 1000);
    let folders = [few, many].map(|count| {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("rows.jsonl"), rows(count)).expect("writable");
        folder
    });
    // What is made once (threads, the tokenizer's cache of words) is made ahead of what is measured.
    let warm = tempfile::tempdir().expect("a folder");
    std::fs::write(warm.path().join("rows.jsonl"), rows(many)).expect("writable");
    assert_eq!(all_the_way(warm.path(), &tokenizer)?, many);

    let [of_few, of_many] = [peak(|| all_the_way(folders[0].path(), &tokenizer))?, peak(|| all_the_way(folders[1].path(), &tokenizer))?];
    let per_row = of_many.saturating_sub(of_few) / (many - few);
    println!("{per_row} bytes for each row more: {of_few} in all for {few}, {of_many} for {many}");
    assert!(per_row < 100, "{per_row} bytes for each row more: {of_few} in all for {few}, {of_many} for {many}");
    // The measure can tell: rows that are collected take as much as their text.
    let collected = peak(|| read_preferences(folders[1].path().join("rows.jsonl")))?;
    assert!(collected > many * 2000, "{collected}");
    Ok(())
}
