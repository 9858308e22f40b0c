//! A Llama checkpoint as a judge. The fixture model says nothing that can be parsed, which is what is tested.

use adpo_data::{Dialogue, Prompt};
use adpo_eval::{Exchange, Judge, Judgement, LlmJudge};
use adpo_model::Dtype;
use adpo_pipeline::{LlamaChat, Resources};
use adpo_tests::fixture;

#[test]
fn noise_is_unparsed_and_a_dialogue_that_is_too_long_fails_alone() {
    let resources = Resources::default();
    // The rubric alone takes most of the 512 tokens that the fixture has, and more under its tokenizer of 768 tokens.
    let checkpoint = wide_fixture();
    let judge = LlmJudge::new(LlamaChat::load(&resources, checkpoint.path().to_str().expect("UTF-8"), 8, Dtype::Float32).expect("loads"));
    let prompts = ["How long does paint dry?", &"word ".repeat(3000), "And glue?"].map(|text| Prompt::from(Dialogue::from_user(text)));
    let exchanges = prompts.each_ref().map(|prompt| Exchange { prompt, response: "An hour." });
    let judged = judge.judge(&exchanges);
    let states: Vec<&str> = judged.iter().map(Judgement::state).collect();
    assert_eq!(states, ["unparsed", "api_error", "unparsed"]);
    assert_eq!(judge.judge(&exchanges[..1])[0], judged[0], "a verdict does not depend on the others");
}

/// The fixture model with room for the rubric: rotary positions go on for ever, only the configuration says where to stop.
fn wide_fixture() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for entry in std::fs::read_dir(fixture("llama2-mha")).expect("the fixture") {
        let path = entry.expect("an entry").path();
        std::fs::copy(&path, folder.path().join(path.file_name().expect("a name"))).expect("copied");
    }
    let config = folder.path().join("config.json");
    let text = std::fs::read_to_string(&config).expect("readable");
    std::fs::write(&config, text.replace("\"max_position_embeddings\": 512", "\"max_position_embeddings\": 4096")).expect("written");
    folder
}
