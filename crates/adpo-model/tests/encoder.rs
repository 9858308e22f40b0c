//! The sentence encoder held to transformers: a small random BERT, and MiniLM where it is at hand.

use std::path::{Path, PathBuf};

use adpo_model::Bert;
use burn::tensor::Device;
use serde::Deserialize;

/// What transformers computed of one text.
#[derive(Deserialize)]
struct Expected {
    ids: Vec<u32>,
    /// `[ids, hidden]`.
    hidden: Vec<Vec<f32>>,
    /// Of the middle layer and of the last.
    embedding: Vec<f32>,
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tiny-bert")
}

fn expected(path: &Path) -> Vec<Expected> {
    serde_json::from_str(&std::fs::read_to_string(path).expect("readable")).expect("the values that make.py writes")
}

/// The largest difference between two lists of one length.
fn difference<'a>(found: impl IntoIterator<Item = &'a f32>, expected: impl IntoIterator<Item = &'a f32>) -> f32 {
    let (found, expected): (Vec<&f32>, Vec<&f32>) = (found.into_iter().collect(), expected.into_iter().collect());
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (*a - b).abs()).fold(0.0, f32::max)
}

/// The middle layer and the last.
fn layers(model: &Bert) -> [usize; 2] {
    let last = model.config().num_hidden_layers;
    [last / 2, last]
}

/// The largest difference of hidden states and embeddings from those in the folder's `expected.json`.
fn worst(folder: &Path) -> f32 {
    let model = Bert::load(folder, &Device::flex()).expect("the encoder loads");
    let rows = expected(&folder.join("expected.json"));
    let ids: Vec<Vec<u32>> = rows.iter().map(|row| row.ids.clone()).collect();
    let mut worst = 0.0_f32;
    for (row, embedding) in rows.iter().zip(model.embed(&ids, &layers(&model))) {
        let hidden: Vec<f32> = model.hidden(&[&row.ids]).into_data().iter().collect();
        worst = worst.max(difference(&hidden, row.hidden.iter().flatten())).max(difference(&embedding, &row.embedding));
    }
    worst
}

#[test]
fn a_small_encoder_has_the_hidden_states_and_embeddings_of_transformers() {
    let worst = worst(&fixture());
    assert!(worst < 1e-5, "{worst}");
}

#[test]
fn minilm_has_the_hidden_states_and_embeddings_of_transformers() {
    let Some(folder) = std::env::var_os("ADPO_MINILM").map(PathBuf::from) else {
        println!("skipped: ADPO_MINILM names no folder with MiniLM and what tests/fixtures/tiny-bert/expect.py wrote of it");
        return;
    };
    let worst = worst(&folder);
    println!("largest difference: {worst}");
    assert!(worst < 1e-5, "{worst}");
}

#[test]
fn an_embedding_does_not_depend_on_the_texts_beside_it() {
    let folder = fixture();
    let model = Bert::load(&folder, &Device::flex()).expect("the encoder loads");
    let ids: Vec<Vec<u32>> = expected(&folder.join("expected.json")).into_iter().map(|row| row.ids).collect();
    let many: Vec<Vec<u32>> = ids.iter().cycle().take(600).cloned().collect();
    let layers = layers(&model);
    let together = model.embed(&many, &layers);
    for (ids, embedding) in ids.iter().zip(&together) {
        assert!(difference(embedding, &model.embed(std::slice::from_ref(ids), &layers)[0]) < 1e-6);
    }
}

/// A copy of the fixture with another configuration.
fn configured(from: &str, to: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(fixture().join(name), folder.path().join(name)).expect("copied");
    }
    let path = folder.path().join("config.json");
    let text = std::fs::read_to_string(&path).expect("readable");
    assert!(text.contains(from), "{from}");
    std::fs::write(path, text.replace(from, to)).expect("written");
    folder
}

#[test]
fn a_folder_that_is_no_such_encoder_is_refused_by_file_and_field() {
    let cases = [
        ("\"model_type\": \"bert\"", "\"model_type\": \"roberta\"", "`model_type` is \"roberta\"; only \"bert\""),
        ("\"hidden_act\": \"gelu\"", "\"hidden_act\": \"relu\"", "`hidden_act` is \"relu\""),
        ("\"num_attention_heads\": 4", "\"num_attention_heads\": 5", "`num_attention_heads` is 5; it must divide"),
        ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", "`encoder.layer.2.attention.self.query.weight` is missing"),
        ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1", "`encoder.layer.1.output.dense.weight` is unexpected"),
        ("\"intermediate_size\": 48", "\"intermediate_size\": 64", "`encoder.layer.0.intermediate.dense.weight` is [48, 32], not [64, 32]"),
    ];
    for (from, to, told) in cases {
        let folder = configured(from, to);
        let error = Bert::load(folder.path(), &Device::flex()).expect_err(to).to_string();
        assert!(error.contains(told), "{error}");
    }
}
