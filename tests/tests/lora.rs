//! Recipes with adapters, from the base to an exported model.

use std::path::{Path, PathBuf};

use adpo_model::{Dtype, Family, Llama, LlamaConfig, LoraConfig, SaveOptions, TokenInput};
use adpo_pipeline::{Export, PipelineError, Recipe, Resources, RunResult, Strike, export, run_recipe};
use adpo_tests::fixture;
use burn::tensor::Device;

fn resources() -> Resources {
    let dialogues = include_str!("../../crates/adpo-cli/assets/dialogues.jsonl");
    Resources { dialogues: Some(dialogues), ..Resources::default() }
}

fn export_to(out: &Path, model: &Path, merge: bool, base: Option<&str>) -> Result<(), PipelineError> {
    let model = model.to_str().expect("UTF-8");
    let options = Export { model, merge, base, out, force: false, strike: Strike::Known, dtype: Dtype::Float32 };
    export(&options, &resources()).map(drop)
}

/// The fixture model without the control token, so that a run has to add it.
fn base(folder: &Path) -> PathBuf {
    let base = folder.join("base");
    export_to(&base, &fixture("llama2-mha"), false, None).expect("exported");
    base
}

/// The fixture's shape and tokenizer in another family, with random weights.
fn relative(folder: &Path, family: Family) -> PathBuf {
    let (from, to) = (fixture("llama2-mha"), folder.join("relative"));
    let shape = Llama::load(&from, &Device::flex()).expect("the fixture loads").config().clone();
    let model = Llama::init(&LlamaConfig { family, ..shape }, 3, &Device::flex());
    model.save(&to, &SaveOptions::default()).expect("saved");
    for file in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
        std::fs::copy(from.join(file), to.join(file)).expect("copied");
    }
    to
}

/// All stages in seconds; responses are noise. `sft` and `preference` are lines of these tables.
fn recipe(base: &Path, sft: &str, preference: &str) -> Result<Recipe, PipelineError> {
    let text = format!(
        r#"
name = "lora"
seeds = [1]
base = {{ checkpoint = '{}' }}
encoding = {{ max_length = 200 }}
[sft]
{sft}
sources = [{{ id = "embedded:dialogues", buckets = [0, 1], limit = 60, unmarked_toxic_share = 0.2 }}]
train = {{ learning_rate = 1e-2, batch_size = 8 }}
[sample]
sources = [{{ id = "embedded:dialogues", buckets = [2], limit = 90 }}]
temperatures = [0.7, 0.7, 0.7, 0.7, 1.0, 1.0, 1.0, 1.0, 1.5, 1.5]
draw = {{ max_new_tokens = 2 }}
[annotate]
rule = {{ margin = 0.0, toxic_threshold = 0.2 }}
[preference]
{preference}
train = {{ learning_rate = 1e-2, batch_size = 4 }}
[[policies]]
name = "adpo"
objective.adpo = {{ link = "pair", anchor = "tox" }}
[evaluate]
sources = [{{ id = "embedded:dialogues", buckets = [3], limit = 10 }}]
judge = "embedded"
draw = {{ max_new_tokens = 12 }}
"#,
        base.display()
    );
    Recipe::from_toml(&text, "lora")
}

fn run(recipe: &Recipe, folder: &Path) -> Result<String, PipelineError> {
    match run_recipe(recipe, &resources(), folder, None)? {
        RunResult::Report(report) => Ok(timeless(&report.markdown())),
        RunResult::Stages(_) => unreachable!("the last stage gives a report"),
    }
}

/// A report without the time at which it was made.
fn timeless(report: &str) -> String {
    let (before, rest) = report.split_once(" · time ").expect("the head has it");
    let (_, after) = rest.split_once(" GMT").expect("a time ends so");
    format!("{before}{after}")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("readable").map(|entry| entry.expect("readable").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn holds(folder: &Path, name: &str) -> bool {
    files(folder).iter().any(|path| path.ends_with(name))
}

fn logits(model: &Llama, vocab: usize) -> Vec<f32> {
    let ids: Vec<u32> = (0..40).map(|i| i * 19 % 700).collect();
    let positions: Vec<u32> = (0..40).collect();
    let hidden = model.hidden(&TokenInput::new(1, 40, &ids, &positions, &[1; 40], &model.device()));
    let size = hidden.dims()[2];
    model.logits(hidden.reshape([40, size])).slice([0..40, 0..vocab]).into_data().iter::<f32>().collect()
}

#[test]
fn policies_are_adapters_beside_a_merged_sft_model_and_export_to_plain_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    let lora = r#"lora = { r = 4, lora_alpha = 8, target_modules = ["q_proj", "v_proj", "down_proj"] }"#;
    let recipe = recipe(&base(folder.path()), "lora = { r = 8, use_rslora = true, merge = true }", lora).expect("a recipe");
    let first = folder.path().join("first");
    let report = run(&recipe, &first).expect("it runs");
    assert_eq!(Recipe::from_file(&first.join("recipe.toml")).expect("the resolved recipe is one"), recipe);
    let (sft, policy) = (first.join("seed-1/sft"), first.join("seed-1/policies/adpo"));
    assert!(holds(&sft.join("model"), "model.safetensors") && !holds(&sft.join("model"), "adapter_config.json"));
    assert!(holds(&policy.join("model"), "adapter_model.safetensors") && !holds(&policy, "model.safetensors"));
    let size = |path: PathBuf| std::fs::metadata(path).expect("it is there").len();
    let whole = size(sft.join("model/model.safetensors"));
    assert!(size(policy.join("model/adapter_model.safetensors")) < whole / 20);

    // The adapters name their base, but a run finds it wherever it has been moved.
    let moved = folder.path().join("moved");
    std::fs::rename(&first, &moved).expect("moved");
    std::fs::remove_dir_all(moved.join("seed-1/responses/adpo")).expect("removed");
    std::fs::remove_dir_all(moved.join("seed-1/report")).expect("removed");
    assert_eq!(run(&recipe, &moved).expect("it runs"), report);

    let (sft, policy) = (moved.join("seed-1/sft/model"), moved.join("seed-1/policies/adpo/model"));
    let out = folder.path().join("out");
    let error = export_to(&out, &policy, true, None).expect_err("the base is elsewhere").to_string();
    assert!(error.contains("first/seed-1/sft/model") && error.contains("base_model_name_or_path"), "{error}");
    assert!(error.ends_with("moved/seed-1/sft/model"), "the base of the moved run is named: {error}");
    export_to(&out, &policy, true, sft.to_str()).expect("merged");
    let device = Device::flex();
    let adapted = Llama::load(&sft, &device).and_then(|base| base.load_adapter(&policy)).expect("loads");
    let exported = Llama::load(&out, &device).expect("a plain model");
    assert_eq!((adapted.config().vocab_size, exported.config().vocab_size), (769, 768));
    let furthest = |a: &Llama, b: &Llama| logits(a, 768).iter().zip(logits(b, 768)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(furthest(&adapted, &exported) <= 1e-5, "off by {}", furthest(&adapted, &exported));
    assert!(furthest(&adapted, &Llama::load(&sft, &device).expect("loads")) > 1e-2, "the policy is its reference");
}

#[test]
fn policies_train_on_the_adapters_that_sft_left_and_nothing_of_the_bases_size_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let base = base(folder.path());
    let run_folder = folder.path().join("run");
    run(&recipe(&base, "lora = {}", "reference = \"live\"").expect("a recipe"), &run_folder).expect("it runs");
    assert!(!holds(&run_folder, "model.safetensors"));
    for stage in ["sft", "policies/adpo"] {
        let model = run_folder.join("seed-1").join(stage).join("model");
        let config = LoraConfig::from_folder(&model).expect("readable").expect("adapters");
        assert_eq!(config.base_model_name_or_path.as_deref(), base.to_str(), "{stage}");
        assert_eq!(config.trainable_token_indices.embed_tokens, [768], "{stage}: the token that the base does not have");
        export_to(&folder.path().join(stage.replace('/', "-")), &model, true, None).expect("merged");
    }
    // What SFT left can be the base of another recipe, which trains it on; its adapters are not stacked upon.
    let sft = run_folder.join("seed-1/sft/model");
    let error = run(&recipe(&sft, "lora = {}", "").expect("a recipe"), &folder.path().join("stacked")).expect_err("stacked").to_string();
    assert!(error.contains("adapters already") && error.contains("merge"), "{error}");
    run(&recipe(&sft, "", "").expect("a recipe"), &folder.path().join("on")).expect("it runs");
}

#[test]
fn every_family_goes_from_a_base_over_adapters_to_an_exported_model() {
    for family in [Family::Mistral, Family::Qwen2, Family::Qwen3] {
        let folder = tempfile::tempdir().expect("a folder");
        let run_folder = folder.path().join("run");
        run(&recipe(&relative(folder.path(), family), "", "lora = {}").expect("a recipe"), &run_folder).expect("it runs");
        let (sft, policy) = (run_folder.join("seed-1/sft/model"), run_folder.join("seed-1/policies/adpo/model"));
        let out = folder.path().join("out");
        export_to(&out, &policy, true, None).expect("merged");
        let device = Device::flex();
        let exported = Llama::load(&out, &device).expect("a plain model");
        assert_eq!(exported.config().family, family);
        let adapted = Llama::load(&sft, &device).and_then(|base| base.load_adapter(&policy)).expect("loads");
        let furthest = logits(&adapted, 768).iter().zip(logits(&exported, 768)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(furthest <= 1e-5, "{family:?}: off by {furthest}");
    }
}

#[test]
fn what_cannot_be_is_refused_before_anything_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let base = base(folder.path());
    let stacked = recipe(&base, "lora = {}", "lora = {}").expect_err("stacked").to_string();
    assert!(stacked.contains("never stacked") && stacked.contains("`merge = true` in `[sft.lora]`"), "{stacked}");
    for field in ["rank", "lora_dropout", "modules_to_save", "bias"] {
        let unknown = recipe(&base, &format!("lora = {{ {field} = 8 }}"), "").expect_err("misspelt, or not here").to_string();
        assert!(unknown.contains(&format!("`{field}`")) && unknown.contains("`use_rslora`"), "{unknown}");
    }
    let run_folder = folder.path().join("run");
    let target = recipe(&base, "", r#"lora = { target_modules = ["query"] }"#).expect("it parses");
    let target = run(&target, &run_folder).expect_err("no such layer").to_string();
    for part in ["[preference.lora]", "`query`", "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj"] {
        assert!(target.contains(part), "{target}");
    }
    assert!(!run_folder.join("seed-1/sft").exists());

    let out = folder.path().join("out");
    let unmerged = export_to(&out, &fixture("llama2-mha-lora"), false, None).expect_err("adapters").to_string();
    assert!(unmerged.contains("--merge"), "{unmerged}");
    let baseless = export_to(&out, &fixture("llama2-mha-lora"), true, None).expect_err("no base is named").to_string();
    assert!(baseless.contains("base_model_name_or_path"), "{baseless}");
    let plain = export_to(&out, &base, true, None).expect_err("no adapters").to_string();
    assert!(plain.contains("no adapters"), "{plain}");
    let message = export_to(&out, &fixture("llama2-mha-lora"), true, fixture("llama2-mha-lora").to_str()).expect_err("a cycle").to_string();
    assert!(message.contains("never stacked"), "{message}");
}
