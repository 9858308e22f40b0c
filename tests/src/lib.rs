//! What the end-to-end tests share: the fixture model, its encoded triples, a comparison within tolerances.
#![warn(missing_docs)]

use std::path::PathBuf;

use adpo_data::{ChatTokenizer, ControlToken, EncodedTriple, Encoder, EncodingOptions, Mask, OverLength};
use adpo_model::Llama;
use burn::tensor::Device;

/// A file or folder of reference values.
pub fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// The two-layer multi-head model that all reference runs start from.
///
/// # Panics
/// If the fixtures are damaged.
pub fn fixture_model(device: &Device) -> Llama {
    Llama::load(&fixture("llama2-mha"), device).expect("the fixture model loads")
}

/// The fixture's tokenizer, whose `[TOXIC]` is one id already.
///
/// # Panics
/// If the fixtures are damaged.
pub fn fixture_tokenizer() -> (ChatTokenizer, ControlToken) {
    let tokenizer = ChatTokenizer::from_folder(fixture("llama2-mha")).expect("the fixture tokenizer loads");
    tokenizer.with_control_token("[TOXIC]").expect("[TOXIC] is one token")
}

/// The 48 triples of the reference runs, encoded, in file order.
///
/// # Panics
/// If the fixtures are damaged or a triple does not encode.
pub fn fixture_triples() -> Vec<EncodedTriple> {
    let (tokenizer, control) = fixture_tokenizer();
    let (rows, _) = adpo_data::read_preferences(fixture("triples.jsonl")).expect("the triples are readable");
    let options = EncodingOptions { max_length: 512, over_length: OverLength::Error, mask: Mask::Last, control: Some(control) };
    let mut encoder = Encoder::new(&tokenizer, options);
    rows.iter().map(|row| encoder.preference(row).expect("encodes").expect("is kept")).collect()
}

/// Whether two numbers agree within `relative`, or within `absolute`: either suffices.
pub fn close(found: f64, expected: f64, relative: f64, absolute: f64) -> bool {
    let difference = (found - expected).abs();
    difference <= absolute || difference <= relative * expected.abs()
}
