//! A token cache gives back what was put in, is made once, and never passes off something else as that.

use std::path::{Path, PathBuf};

use adpo_data::{DataError, EncodedRows, EncodedTriple, TokenCache};
use serde_json::json;

fn triples(count: u32) -> Vec<EncodedTriple> {
    let triple = |i: u32| EncodedTriple {
        row: format!("row:{i}"),
        prompt: (0..5 + i % 7).map(|j| i * 131 + j).collect(),
        chosen: vec![i, 2],
        rejected: vec![70_000 + i, 300, 2],
        toxic: (i % 3 > 0).then(|| vec![i; 4]),
        toxic_prompt: (i % 2 > 0).then(Vec::new),
    };
    (0..count).map(triple).collect()
}

fn open(folder: &Path, key: &str, rows: &[EncodedTriple]) -> Result<TokenCache<EncodedTriple>, DataError> {
    TokenCache::open_or_make(folder, "triples", &key, |cache| {
        rows.iter().try_for_each(|row| cache.push(row))?;
        Ok(json!({"rows": rows.len()}))
    })
}

fn files(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).expect("readable").map(|entry| entry.expect("readable").path()).collect()
}

#[test]
fn rows_come_back_one_by_one_as_they_were() -> Result<(), DataError> {
    let folder = tempfile::tempdir().expect("a folder");
    for rows in [triples(0), triples(20)] {
        let cache = open(folder.path(), &rows.len().to_string(), &rows)?;
        assert_eq!((EncodedRows::len(&cache), cache.is_empty()), (rows.len(), rows.is_empty()));
        for (i, row) in rows.iter().enumerate().rev() {
            assert_eq!(cache.row(i)?.as_ref(), row);
        }
        assert_eq!(cache.digest()?, rows.digest()?, "the same rows have the same hash in memory");
        assert_eq!(cache.report(), &json!({"rows": rows.len()}));
    }
    assert_ne!(triples(20).digest()?, triples(19).digest()?);
    Ok(())
}

#[test]
fn a_cache_is_made_once_for_each_key() -> Result<(), DataError> {
    let folder = tempfile::tempdir().expect("a folder");
    open(folder.path(), "one", &triples(3))?;
    // What is there is not made again, or these rows would be in it.
    assert_eq!(EncodedRows::len(&open(folder.path(), "one", &triples(9))?), 3);
    assert_eq!(EncodedRows::len(&open(folder.path(), "two", &triples(9))?), 9);
    assert_eq!(files(folder.path()).len(), 2);
    Ok(())
}

#[test]
fn a_file_with_any_byte_changed_missing_or_too_many_is_an_error_that_names_it_and_the_cure() -> Result<(), DataError> {
    let folder = tempfile::tempdir().expect("a folder");
    open(folder.path(), "key", &triples(4))?;
    let path = files(folder.path()).remove(0);
    let whole = std::fs::read(&path).expect("readable");
    let mut variants: Vec<Vec<u8>> = (0..whole.len()).map(|n| whole[..n].to_vec()).collect();
    variants.extend((0..whole.len()).map(|i| whole.iter().enumerate().map(|(j, byte)| byte ^ u8::from(i == j)).collect()));
    variants.push([whole.as_slice(), b"\n"].concat());
    variants.push(b"{\"prompt\": \"of another kind\"}\n".repeat(20));
    for variant in variants {
        std::fs::write(&path, &variant).expect("writable");
        let message = open(folder.path(), "key", &triples(4)).expect_err("it is damaged").to_string();
        assert!(message.contains(&path.display().to_string()) && message.contains("delete the file"), "{message}");
    }
    std::fs::remove_file(&path).expect("removed");
    assert_eq!(EncodedRows::len(&open(folder.path(), "key", &triples(4))?), 4, "the cure works");
    Ok(())
}

#[test]
fn the_cache_of_another_key_under_this_ones_name_is_an_error() -> Result<(), DataError> {
    let folder = tempfile::tempdir().expect("a folder");
    open(folder.path(), "one", &triples(3))?;
    let one = files(folder.path()).remove(0);
    open(folder.path(), "two", &triples(3))?;
    let two = files(folder.path()).into_iter().find(|path| *path != one).expect("two files");
    std::fs::rename(two, one).expect("renamed");
    let message = open(folder.path(), "one", &triples(3)).expect_err("another key").to_string();
    assert!(message.contains("another key"), "{message}");
    Ok(())
}

#[test]
fn a_maker_that_fails_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let failing = TokenCache::open_or_make(folder.path(), "triples", &"key", |cache| {
        cache.push(&triples(1)[0])?;
        Err::<serde_json::Value, _>(DataError::Row { row: "row:1".into(), problem: "is too long".into() })
    });
    assert!(matches!(failing, Err(DataError::Row { .. })));
    assert_eq!(files(folder.path()), Vec::<PathBuf>::new());
}

#[test]
fn writers_that_meet_do_each_other_no_harm() {
    let (folder, rows) = (tempfile::tempdir().expect("a folder"), triples(300));
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8).map(|_| scope.spawn(|| open(folder.path(), "key", &rows)?.digest())).collect();
        for writer in writers {
            assert_eq!(writer.join().expect("no panic").expect("it opens"), rows.digest().expect("a hash"));
        }
    });
    assert_eq!(files(folder.path()).len(), 1, "one file, and nothing unfinished");
}
