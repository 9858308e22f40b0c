//! Parquet files as pyarrow writes them are read like JSONL with the same rows; damaged ones are errors.
#![cfg(feature = "parquet")]

#[path = "../../../fuzz/src/mutate.rs"]
#[allow(unreachable_pub, reason = "the library of fuzz/ has it as well")]
mod mutate;
#[path = "../../../fuzz/src/parquet.rs"]
#[allow(unreachable_pub, reason = "the library of fuzz/ has it as well")]
mod parquet;
#[path = "../../../fuzz/src/target.rs"]
#[allow(unreachable_pub, reason = "the library of fuzz/ has it as well")]
mod target;

use std::path::{Path, PathBuf};

use adpo_data::{DataError, Format, Preference, ReadReport, Row, RowFile, detect, inspect};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parquet").join(name)
}

fn preferences(name: &str) -> Result<(Vec<Row<Preference>>, ReadReport), DataError> {
    RowFile::new(file(name)).with_source("triples").preferences()
}

#[test]
fn every_codec_and_page_layout_gives_the_rows_that_jsonl_gives() -> Result<(), DataError> {
    let expected = preferences("triples.jsonl")?;
    assert_eq!((expected.0.len(), expected.1.ignored_columns["rating"]), (20, 20));
    assert_eq!((expected.0[0].id.as_str(), expected.0[19].id.as_str()), ("workshop:1", "hallway:20"));
    for name in ["none", "snappy", "gzip", "zstd", "lz4", "pages-v2", "checksums"] {
        let name = format!("triples-{name}.parquet");
        assert_eq!(detect(file(&name))?, Format::Preferences);
        assert_eq!(preferences(&name)?, expected, "{name}");
    }
    Ok(())
}

#[test]
fn nested_messages_labels_and_columns_of_other_types_are_no_trouble() -> Result<(), DataError> {
    let (expected, known) = RowFile::new(file("messages.jsonl")).with_source("m").sft()?;
    let (rows, report) = RowFile::new(file("messages.parquet")).with_source("m").sft()?;
    assert_eq!(rows, expected);
    assert_eq!(rows[0].value.dialogue.turns.len(), 2);
    let others = report.ignored_columns.keys().filter(|column| !known.ignored_columns.contains_key(*column));
    assert_eq!(others.collect::<Vec<_>>(), ["audio", "embedding", "image", "price", "tags", "when"]);
    let (rows, _) = RowFile::new(file("binary-text.parquet")).preferences()?;
    assert_eq!(rows[2].value.chosen, "chosen 2", "text that is not marked as text is text all the same");
    assert_eq!(inspect(file("messages.parquet"), false)?.report.kept, 6);
    Ok(())
}

#[test]
fn errors_name_file_and_row() {
    let message = |name: &str| RowFile::new(file(name)).prompts().expect_err("is no good").to_string();
    let missing = message("row-17-has-no-prompt.parquet");
    assert!(missing.contains("row-17-has-no-prompt.parquet, row 17: field `prompt` is null"), "{missing}");
    assert!(message("empty.parquet").contains("empty.parquet: has no rows"));
    let codec = message("triples-brotli.parquet");
    assert!(codec.contains("triples-brotli.parquet, row 1: ") && codec.contains("brotli"), "{codec}");
}

/// Reads `bytes` as a Parquet file; whatever it is, an error names the file.
fn read(folder: &Path, bytes: &[u8]) -> Result<usize, String> {
    let path = folder.join("rows.parquet");
    std::fs::write(&path, bytes).expect("writable");
    match RowFile::new(&path).preferences() {
        Ok((rows, _)) => Ok(rows.len()),
        Err(error) => {
            let message = error.to_string();
            assert!(message.contains("rows.parquet"), "{message}");
            Err(message)
        }
    }
}

#[test]
fn a_file_that_is_cut_off_is_an_error_wherever_the_cut_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = std::fs::read(file("triples-snappy.parquet")).expect("readable");
    assert_eq!(read(folder.path(), &whole), Ok(20));
    for length in 4..whole.len() {
        let message = read(folder.path(), &whole[..length]).expect_err("has lost its end");
        assert!(message.contains("fetch it again"), "{message}");
    }
}

#[test]
fn no_damaged_byte_makes_a_panic() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["triples-none.parquet", "triples-zstd.parquet", "triples-pages-v2.parquet", "messages.parquet"] {
        let whole = std::fs::read(file(name)).expect("readable");
        // All bytes with all three of these take a minute, and went well too.
        let places = (4..whole.len()).step_by(5);
        let tried = places.len();
        let errors = places.zip([0x01, 0x80, 0xff].into_iter().cycle()).filter(|(at, flip)| {
            let mut damaged = whole.clone();
            damaged[*at] ^= flip;
            read(folder.path(), &damaged).is_err()
        });
        let errors = errors.count();
        assert!(errors > tried / 4, "{name}: damage is noticed, {errors} times of {tried}");
    }
}

#[test]
fn damage_is_noticed_wherever_a_file_has_checksums_over_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut bytes = std::fs::read(file("triples-checksums.parquet")).expect("readable");
    let text = bytes.windows(4).position(|window| window == b"wall").expect("there is text in it");
    bytes[text] ^= 0x02;
    let message = read(folder.path(), &bytes).expect_err("its checksum is another");
    assert!(message.contains("damaged"), "{message}");
}

#[test]
fn a_file_changed_in_any_way_is_read_or_refused() {
    let seeds = (parquet::TARGET.seeds)();
    let mut random = mutate::Random(1);
    assert!(seeds.iter().all(|seed| (parquet::TARGET.run)(seed)));
    let read = (0..2000).filter(|_| (parquet::TARGET.run)(&mutate::mutated(&seeds, &mut random))).count();
    assert!((1..1999).contains(&read), "{}: some are read and some are not: {read}", parquet::TARGET.name);
}
