//! What comes after a run: where its report is, and the commands for the model that it made.

use std::path::{Path, PathBuf};

use adpo_eval::{Measure, Verdict};
use adpo_model::DeviceChoice;
use adpo_pipeline::{Recipe, RunReport};

/// Said at the end of a run.
pub(crate) fn told(recipe: &Recipe, run_dir: &Path, report: Option<&RunReport>, device: DeviceChoice) -> String {
    let mut lines = vec![format!("the run is in {}", run_dir.display())];
    let files = ["report.html", "report.md"].map(|name| run_dir.join(name));
    if report.is_some() {
        lines.extend(files.iter().find(|file| file.exists()).map(|file| format!("report: {}", file.display())));
    }
    if let Some(model) = model(recipe, run_dir, report) {
        let folder = quoted(&model.folder);
        let device = if device == DeviceChoice::Cpu { String::new() } else { format!(" --device {device}") };
        let start = if model.is_policy { format!(" --compare {}", quoted(&start(recipe, run_dir))) } else { String::new() };
        let merge = if model.folder.join("adapter_config.json").exists() { " --merge" } else { "" };
        let out = quoted(Path::new(&format!("{}-{}", recipe.name, model.name)));
        lines.push(format!("next, with {}:", model.why));
        lines.push(format!("  adpo chat {folder}{start}{device}"));
        lines.push(format!("  adpo serve {folder}{device}"));
        lines.push(format!("  adpo export {folder}{merge} --out {out}"));
    }
    lines.join("\n")
}

/// The model that somebody will want to look at first.
struct Model {
    name: String,
    folder: PathBuf,
    is_policy: bool,
    why: String,
}

/// The policy that the report finds least toxic, the first one where it finds none, or the fine-tuned model where there are no policies.
fn model(recipe: &Recipe, run_dir: &Path, report: Option<&RunReport>) -> Option<Model> {
    let seed = run_dir.join(format!("seed-{}", recipe.seeds.first()?));
    let policy = |name: &str, why: String| {
        let folder = seed.join("policies").join(name).join("model");
        folder.exists().then(|| Model { name: name.to_owned(), folder, is_policy: true, why })
    };
    let found = report.and_then(|report| {
        let report = &report.seeds.first()?.report;
        let less = report.comparisons.iter().filter(|c| c.measure == Measure::Toxic && c.verdict == Verdict::Lower);
        let least = less.min_by(|a, b| a.value.total_cmp(&b.value))?;
        let baseline = report.baseline.as_deref().unwrap_or("the baseline");
        policy(&least.system, format!("policy `{}`, the least toxic of those that are less toxic than `{baseline}`", least.system))
    });
    let first = || recipe.policies.iter().find_map(|first| policy(&first.name, format!("policy `{}`", first.name)));
    let tuned = || {
        let folder = seed.join("sft").join("model");
        folder.exists().then(|| Model { name: "sft".to_owned(), folder, is_policy: false, why: "the fine-tuned model".to_owned() })
    };
    found.or_else(first).or_else(tuned)
}

/// Where policies began.
fn start(recipe: &Recipe, run_dir: &Path) -> PathBuf {
    match (&recipe.sft, recipe.seeds.first()) {
        (Some(_), Some(seed)) => run_dir.join(format!("seed-{seed}")).join("sft").join("model"),
        _ => PathBuf::from(&recipe.base.checkpoint),
    }
}

/// A path as a shell reads it.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:+,=@%".contains(c);
    if !path.is_empty() && path.chars().all(plain) { path } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::quoted;

    #[test]
    fn a_path_can_be_pasted_into_a_shell() {
        assert_eq!(quoted(Path::new("runs/a-1/model")), "runs/a-1/model");
        assert_eq!(quoted(Path::new("my run's")), r"'my run'\''s'");
    }
}
