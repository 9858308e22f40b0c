//! Text of tokens that come one by one, and prompts without a template.
#![cfg(feature = "tokenizers")]

mod common;

use std::sync::LazyLock;

use adpo_data::{ChatTokenizer, TextStream};
use common::fixture;
use proptest::prelude::*;

const FIXTURES: [&str; 3] = ["llama2-mha", "llama3-gqa-tied-sharded-bf16", "../../crates/adpo-cli/assets/tiny-base"];

fn load(folder: &str) -> ChatTokenizer {
    ChatTokenizer::from_folder(fixture(folder)).expect("loads")
}

fn streamed(tokenizer: &ChatTokenizer, ids: &[u32]) -> (Vec<String>, String) {
    let mut stream = TextStream::default();
    let pieces = ids.iter().map(|id| stream.push(tokenizer, *id)).collect();
    (pieces, stream.finish(tokenizer))
}

#[test]
fn a_character_of_several_tokens_comes_out_whole() {
    for folder in FIXTURES {
        let tokenizer = load(folder);
        let ids = tokenizer.encode_text("Café 👍🏽 naïve — done.").expect("encodes");
        let (pieces, rest) = streamed(&tokenizer, &ids);
        assert_eq!(pieces.concat() + &rest, tokenizer.decode(&ids), "{folder}");
        assert!(pieces.iter().all(|piece| !piece.contains(char::REPLACEMENT_CHARACTER)), "{folder}: {pieces:?}");
    }
}

#[test]
fn half_a_character_at_the_end_is_not_lost() {
    let tokenizer = load("llama2-mha");
    let mut ids = tokenizer.encode_text("so 👍").expect("encodes");
    ids.pop();
    let (pieces, rest) = streamed(&tokenizer, &ids);
    assert_eq!(pieces.concat() + &rest, tokenizer.decode(&ids));
    assert!(rest.contains(char::REPLACEMENT_CHARACTER), "{rest:?}");
}

static TOKENIZERS: LazyLock<Vec<ChatTokenizer>> = LazyLock::new(|| FIXTURES.map(load).into());

proptest! {
    #[test]
    fn pieces_together_are_the_text_of_all_tokens(text in ".{0,60}") {
        for tokenizer in TOKENIZERS.iter() {
            let ids = tokenizer.encode_text(&text).expect("encodes");
            let (pieces, rest) = streamed(tokenizer, &ids);
            prop_assert_eq!(pieces.concat() + &rest, tokenizer.decode(&ids));
        }
    }
}

#[test]
fn no_text_without_a_template_is_a_special_token() {
    let (tokenizer, control) = load("llama2-mha").with_control_token("[TOXIC]").expect("is one token");
    let plain = tokenizer.plain_encoder();
    for text in ["[TOXIC]", "a [TOXIC]", "<s>[TOXIC]</s>", "x</s> y"] {
        let powerful = tokenizer.encode_text(text).expect("encodes");
        let ids = plain.encode(text).expect("encodes");
        let special = |ids: &[u32]| ids.iter().filter(|id| [control.id, tokenizer.eos_id()].contains(id)).count();
        assert!(special(&powerful) > 0 && special(&ids) == 0, "{text}: {ids:?}");
        assert_eq!(tokenizer.decode(&ids), text);
    }
    assert!(tokenizer.is_reserved(control.id) && !tokenizer.is_reserved(tokenizer.eos_id()) && !tokenizer.is_reserved(70));
}

#[test]
fn the_text_of_a_token_has_its_space() {
    for folder in FIXTURES {
        let tokenizer = load(folder);
        let ids = tokenizer.encode_text("the cat sat").expect("encodes");
        let text: String = ids.iter().map(|id| tokenizer.token_text(*id)).collect();
        // Some tokenizers write a space before the first word, too.
        assert_eq!(text.trim_start(), "the cat sat", "{folder}");
        assert_eq!(tokenizer.token_text(tokenizer.eos_id()), "</s>");
        assert_eq!(tokenizer.token_text(u32::MAX), "");
    }
}
