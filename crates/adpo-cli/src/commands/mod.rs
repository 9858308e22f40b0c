pub(crate) mod bench;
pub(crate) mod data;
pub(crate) mod evaluate;
pub(crate) mod export;
pub(crate) mod pretrain;
pub(crate) mod sample;
pub(crate) mod stage;

use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use adpo_pipeline::Resources;

use crate::assets;

/// Prints a result. A reader that has seen enough (`| head`) is no error.
fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout().lock(), "{}", text.trim_end()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

fn resources(data_dir: Option<PathBuf>, show_harmful: bool) -> Resources {
    Resources {
        tiny_base: Some(assets::TINY_BASE),
        dialogues: Some(assets::DIALOGUES),
        data_dir,
        device: adpo_pipeline::default_device(),
        show_harmful,
    }
}
