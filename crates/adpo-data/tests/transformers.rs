//! Rendering, encoding and decoding against what transformers gave for the same dialogues.
#![cfg(feature = "tokenizers")]

mod common;

use adpo_data::{ChatTokenizer, Dialogue, Encoder, EncodingOptions, Mask, OverLength, Role, RowFile, SftExample, Turn};
use common::fixture;
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    messages: Vec<Turn>,
    text: String,
    prompt_ids: Vec<u32>,
    full_ids: Vec<u32>,
    prompt_is_prefix: bool,
    decoded: String,
}

#[test]
fn both_fixture_tokenizers_render_encode_and_decode_as_transformers_does() {
    let expected: Vec<Expected> =
        serde_json::from_str(&std::fs::read_to_string(fixture("encoding.json")).expect("is there")).expect("is JSON");
    assert_eq!(expected.len(), 16);
    for folder in ["llama2-mha", "llama3-gqa-tied-sharded-bf16"] {
        let tokenizer = ChatTokenizer::from_folder(fixture(folder)).expect("loads");
        assert_eq!((tokenizer.vocab_size(), tokenizer.bos_id(), tokenizer.eos_id()), (769, Some(1), 2));
        for row in &expected {
            let full = Dialogue { turns: row.messages.clone() };
            let prompt = Dialogue { turns: row.messages[..row.messages.len() - 1].to_vec() };
            let text = tokenizer.render(&full, false).expect("renders");
            assert_eq!(text, row.text);
            assert_eq!(tokenizer.encode_text(&text).expect("encodes"), row.full_ids);
            let text = tokenizer.render(&prompt, true).expect("renders");
            assert_eq!(tokenizer.encode_text(&text).expect("encodes"), row.prompt_ids);
            assert_eq!(tokenizer.decode(&row.full_ids), row.decoded);
            assert!(row.prompt_is_prefix);
        }
    }
}

#[test]
fn the_encoder_splits_the_ids_of_transformers_at_the_prompt() {
    let expected: Vec<Expected> =
        serde_json::from_str(&std::fs::read_to_string(fixture("encoding.json")).expect("is there")).expect("is JSON");
    let tokenizer = ChatTokenizer::from_folder(fixture("llama2-mha")).expect("loads");
    let (tokenizer, control) = tokenizer.with_control_token("[TOXIC]").expect("is one token");
    assert_eq!((control.id, control.added), (768, false));
    let options = EncodingOptions { max_length: 512, over_length: OverLength::Error, mask: Mask::Last, control: Some(control.clone()) };
    let mut encoder = Encoder::new(&tokenizer, options);
    let (triples, report) = RowFile::new(fixture("triples.jsonl")).preferences().expect("reads");
    assert_eq!((report.read, report.kept), (48, 48));
    for (row, triple) in expected.iter().zip(&triples) {
        let encoded = encoder.preference(triple).expect("encodes").expect("is kept");
        assert_eq!(encoded.prompt, row.prompt_ids);
        assert_eq!([encoded.prompt.as_slice(), &encoded.chosen].concat(), row.full_ids);
        // make_fixtures.py: the last message's content + " [TOXIC]".
        let mut marked = triple.value.prompt.clone();
        marked.turns.last_mut().expect("has turns").content.push_str(" \u{1}");
        let text = tokenizer.render(&marked, true).expect("renders").replace('\u{1}', "[TOXIC]");
        assert_eq!(encoded.toxic_prompt, Some(tokenizer.encode_text(&text).expect("encodes")));

        let example = SftExample { dialogue: Dialogue { turns: row.messages.clone() }, toxic: None, category: None };
        let sft = encoder.sft("row", &example).expect("encodes").expect("is kept");
        assert_eq!(sft.ids, row.full_ids);
        let trained: Vec<usize> = (0..sft.ids.len()).filter(|i| sft.trained[*i]).collect();
        assert_eq!(trained, (row.prompt_ids.len()..row.full_ids.len()).collect::<Vec<_>>());
    }
    assert_eq!(encoder.report().escaped, 0, "nothing in the fixtures looks like a marker");
}

#[test]
fn a_saved_tokenizer_is_the_one_that_was_saved() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["llama2-mha", "llama3-gqa-tied-sharded-bf16"] {
        let (tokenizer, _) = ChatTokenizer::from_folder(fixture(name)).expect("loads").with_control_token("[RUDE]").expect("is one token");
        tokenizer.save(folder.path()).expect("saves");
        let again = ChatTokenizer::from_folder(folder.path()).expect("loads");
        assert_eq!(again.content_hash(), tokenizer.content_hash());
        assert_eq!(again.vocab_size(), 770);
        let (_, control) = again.with_control_token("[RUDE]").expect("is one token");
        assert_eq!((control.id, control.added), (769, false));
    }
}

#[test]
fn the_template_s_own_refusal_is_told() {
    let tokenizer = ChatTokenizer::from_folder(fixture("llama2-mha")).expect("loads");
    let dialogue = Dialogue { turns: vec![Turn { role: Role::System, content: "Be kind.".into() }] };
    let error = tokenizer.render(&dialogue, true).expect_err("has no place for system turns").to_string();
    assert!(error.contains("only user and assistant turns"), "{error}");
}
