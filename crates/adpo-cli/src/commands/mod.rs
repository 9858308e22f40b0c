pub(crate) mod bench;
pub(crate) mod data;
pub(crate) mod evaluators;
pub(crate) mod pretrain;
pub(crate) mod stage;

use std::path::PathBuf;

use adpo_pipeline::Resources;

use crate::assets;

fn resources(data_dir: Option<PathBuf>, show_harmful: bool) -> Resources {
    Resources {
        tiny_base: Some(assets::TINY_BASE),
        dialogues: Some(assets::DIALOGUES),
        data_dir,
        device: adpo_pipeline::default_device(),
        show_harmful,
    }
}
