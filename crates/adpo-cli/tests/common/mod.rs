//! What the tests of the program share.
#![allow(dead_code, reason = "each test file uses a part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub(crate) fn adpo(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_adpo")).args(arguments).env_remove("ADPO_DATA").output().expect("adpo starts")
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A report without the clock's time in it.
pub(crate) fn timeless(output: &Output) -> String {
    stdout(output).lines().filter(|line| !line.contains("\"time\": ")).collect::<Vec<_>>().join("\n")
}

/// A whole run in seconds: the quickstart's stages on the two-layer fixture model, whose responses are noise. Of many some are short enough
/// not to be recognised as such.
pub(crate) fn write_recipe(folder: &Path) -> PathBuf {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/llama2-mha");
    let text = format!(
        r#"
name = "smoke"
seeds = [1]
base = {{ checkpoint = '{}' }}
encoding = {{ max_length = 200 }}
[sft]
sources = [{{ id = "embedded:dialogues", buckets = [0, 1], limit = 60, unmarked_toxic_share = 0.2 }}]
rehearsal = {{ samples = 1, draw = {{ max_new_tokens = 8 }} }}
train = {{ learning_rate = 1e-3, batch_size = 8, save_steps = 2, save_total_limit = 2 }}
[sample]
sources = [{{ id = "embedded:dialogues", buckets = [2], limit = 132 }}]
temperatures = [0.7, 0.7, 0.7, 0.7, 1.0, 1.0, 1.0, 1.0, 1.5, 1.5]
draw = {{ max_new_tokens = 2 }}
[annotate]
judge = "embedded"
rule = {{ margin = 0.0, toxic_threshold = 0.2 }}
[preference]
train = {{ learning_rate = 1e-3, batch_size = 4 }}
[[policies]]
name = "adpo"
objective.adpo = {{}}
[[policies]]
name = "both"
pairs = "rejected_and_toxic"
objective.dpo = {{ beta = 0.3 }}
[evaluate]
sources = [{{ id = "embedded:dialogues", buckets = [3], limit = 40 }}]
judge = "embedded"
draw = {{ max_new_tokens = 24 }}
"#,
        model.display()
    );
    let path = folder.join("smoke.toml");
    std::fs::write(&path, text).expect("the recipe is written");
    path
}

/// A model of two layers that knows a control token.
pub(crate) const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/llama2-mha");

/// The same model without its control token.
pub(crate) fn base(folder: &Path) -> PathBuf {
    let base = folder.join("base");
    let exported = adpo(&["export", FIXTURE, "--out", text(&base)]);
    assert!(exported.status.success(), "{}", stderr(&exported));
    base
}

/// The vocabulary in a model's configuration.
pub(crate) fn vocabulary(model: &Path) -> serde_json::Value {
    let config = std::fs::read_to_string(model.join("config.json")).expect("readable");
    serde_json::from_str::<serde_json::Value>(&config).expect("JSON")["vocab_size"].clone()
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

/// The recipe with other text in one place.
pub(crate) fn edited(path: &Path, from: &str, to: &str) {
    let recipe = std::fs::read_to_string(path).expect("readable");
    assert!(recipe.contains(from), "{from:?} is not in the recipe");
    std::fs::write(path, recipe.replace(from, to)).expect("writable");
}
