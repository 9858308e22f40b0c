//! What the program carries: the tiny base, the project's own dialogues, the quickstart recipe.

use adpo_pipeline::EmbeddedCheckpoint;

pub(crate) const TINY_BASE: EmbeddedCheckpoint = EmbeddedCheckpoint {
    config: include_str!("../assets/tiny-base/config.json"),
    weights: include_bytes!("../assets/tiny-base/model.safetensors"),
    tokenizer: include_str!("../assets/tiny-base/tokenizer.json"),
    tokenizer_config: include_str!("../assets/tiny-base/tokenizer_config.json"),
    chat_template: include_str!("../assets/tiny-base/chat_template.jinja"),
};

pub(crate) const DIALOGUES: &str = include_str!("../assets/dialogues.jsonl");

pub(crate) const QUICKSTART: &str = include_str!("../assets/quickstart.toml");
