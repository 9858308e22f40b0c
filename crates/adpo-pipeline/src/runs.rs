//! What runs there are: read off their folders, without loading or checking any model or data.

use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;
use serde_json::Value;

use crate::PipelineError;
use crate::manifest::{Manifest, read_json};

/// The runs in a folder, the one last worked on first.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Runs(pub Vec<RunSummary>);

/// A run, as its folder shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunSummary {
    /// The run's folder.
    pub folder: PathBuf,
    /// The recipe's name; `None` where the recipe cannot be read.
    pub recipe: Option<String>,
    /// When the run was last worked on, in UTC: `2026-11-29T08:30:00Z`.
    pub time: Option<String>,
    /// Its seeds.
    pub seeds: Vec<u64>,
    /// How far it is.
    pub state: RunState,
    /// The headline of a finished run: each system's share of toxic responses, in the order of the report.
    pub toxic: Vec<ToxicShare>,
}

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "name")]
pub enum RunState {
    /// All that the recipe asks for is there.
    Finished,
    /// In the middle of a stage, or killed there.
    At {
        /// Seed and stage: `seed-1/policies/adpo`.
        stage: String,
    },
    /// Between two stages: stopped by `--until`, or killed.
    After {
        /// Seed and stage: `seed-1/sft`.
        stage: String,
    },
    /// No stage was begun.
    NotStarted,
    /// A file of it cannot be read.
    Damaged {
        /// Which file, and why.
        problem: String,
    },
}

/// A system's share of toxic responses.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ToxicShare {
    /// The system.
    pub system: String,
    /// The share, in [0, 1]; the mean over all seeds.
    pub share: f64,
}

/// Lists the runs in a folder; a run's own folder is a list of one. A run that cannot be read is listed as damaged.
///
/// # Errors
/// [`PipelineError::File`] or [`PipelineError::Io`] if the folder is not there or cannot be read.
pub fn list_runs(folder: &Path) -> Result<Runs, PipelineError> {
    if !folder.is_dir() {
        return Err(PipelineError::file(folder, "is no folder; name the one that holds the runs: `adpo runs FOLDER`"));
    }
    if is_run(folder) {
        return Ok(Runs(vec![summary(folder).0]));
    }
    let mut runs: Vec<_> =
        folders(folder).map_err(PipelineError::io(folder))?.iter().filter(|path| is_run(path)).map(|path| summary(path)).collect();
    runs.sort_by(|(a, a_time), (b, b_time)| b_time.cmp(a_time).then_with(|| a.folder.cmp(&b.folder)));
    Ok(Runs(runs.into_iter().map(|(run, _)| run).collect()))
}

fn is_run(folder: &Path) -> bool {
    folder.join("recipe.toml").is_file() || seed_folders(folder).is_ok_and(|seeds| !seeds.is_empty())
}

/// The folders in a folder, by name.
fn folders(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// A run's seeds with their folders, ascending.
pub(crate) fn seed_folders(run: &Path) -> std::io::Result<Vec<(u64, PathBuf)>> {
    let seed = |path: PathBuf| Some((name(&path).strip_prefix("seed-")?.parse().ok()?, path));
    let mut seeds: Vec<(u64, PathBuf)> = folders(run)?.into_iter().filter_map(seed).collect();
    seeds.sort();
    Ok(seeds)
}

fn name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// What is told of a run, and when it was last worked on.
fn summary(folder: &Path) -> (RunSummary, Option<SystemTime>) {
    let mut run = RunSummary {
        folder: folder.to_owned(),
        recipe: None,
        time: None,
        seeds: Vec::new(),
        state: RunState::NotStarted,
        toxic: Vec::new(),
    };
    let mut latest = modified(&folder.join("recipe.toml"));
    if let Err(problem) = look(folder, &mut run, &mut latest) {
        run.state = RunState::Damaged { problem: problem.to_string() };
    }
    run.time = latest.map(utc);
    (run, latest)
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|file| file.modified()).ok()
}

/// `2026-11-29T08:30:00Z`, from HTTP's `Sun, 29 Nov 2026 08:30:00 GMT`.
pub(crate) fn utc(time: SystemTime) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let http = httpdate::fmt_http_date(time);
    let parts: Vec<&str> = http.split_whitespace().collect();
    let [_, day, month, year, clock, _] = parts[..] else { return http };
    let month = MONTHS.iter().position(|name| *name == month).map_or(0, |index| index + 1);
    format!("{year}-{month:02}-{day}T{clock}Z")
}

/// Reads what can be read; an error is what cannot.
fn look(folder: &Path, run: &mut RunSummary, latest: &mut Option<SystemTime>) -> Result<(), PipelineError> {
    let found = seed_folders(folder).map_err(PipelineError::io(folder))?;
    run.seeds = found.iter().map(|(seed, _)| *seed).collect();
    let path = folder.join("recipe.toml");
    let text = adpo_data::read_text(&path)?;
    // Any build's recipe, so not read as this build's.
    let recipe: toml::Table = toml::from_str(&text).map_err(|error| PipelineError::file(&path, error.message()))?;
    let seeds = recipe
        .get("seeds")
        .and_then(toml::Value::as_array)
        .map(|seeds| seeds.iter().filter_map(|seed| seed.as_integer()?.try_into().ok()).collect());
    run.recipe = recipe.get("name").and_then(toml::Value::as_str).map(str::to_owned);
    run.seeds = seeds.ok_or_else(|| PipelineError::file(&path, "has no list `seeds`"))?;
    let last = last_stages(&recipe);
    for seed in &run.seeds {
        let stages = stages(&folder.join(format!("seed-{seed}")), latest)?;
        let is_finished = |stage: &String| stages.iter().any(|(name, state)| name == stage && *state != Progress::Begun);
        let name = |(stage, _): &(String, Progress)| format!("seed-{seed}/{stage}");
        let newest = stages.iter().max_by_key(|(_, state)| *state);
        if !last.iter().all(is_finished) {
            if let Some(begun) = stages.iter().find(|(_, state)| *state == Progress::Begun) {
                run.state = RunState::At { stage: name(begun) };
            } else if let Some(newest) = newest {
                run.state = RunState::After { stage: name(newest) };
            }
            return Ok(());
        }
        // What holds if the next seed was not begun.
        run.state = newest.map_or(RunState::NotStarted, |newest| RunState::After { stage: name(newest) });
    }
    run.state = RunState::Finished;
    if recipe.contains_key("evaluate") {
        run.toxic = headline(&folder.join("report.json"))?;
    }
    Ok(())
}

/// The stages that end a run of this recipe.
fn last_stages(recipe: &toml::Table) -> Vec<String> {
    let policies = recipe.get("policies").and_then(toml::Value::as_array).into_iter().flatten();
    let policies: Vec<String> = policies.filter_map(|policy| Some(format!("policies/{}", policy.get("name")?.as_str()?))).collect();
    if recipe.contains_key("evaluate") {
        vec!["report".to_owned()]
    } else if policies.is_empty() {
        vec!["sft".to_owned()]
    } else {
        policies
    }
}

/// How far a stage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    Begun,
    /// And when.
    Finished(Option<SystemTime>),
}

/// The stages of a seed that were begun, by name.
fn stages(seed: &Path, latest: &mut Option<SystemTime>) -> Result<Vec<(String, Progress)>, PipelineError> {
    let mut found = Vec::new();
    if !seed.is_dir() {
        return Ok(found);
    }
    for folder in folders(seed).map_err(PipelineError::io(seed))? {
        // Policies and responses lie a level deeper.
        let inner = folders(&folder).map_err(PipelineError::io(&folder))?;
        for stage in std::iter::once(&folder).chain(&inner).filter(|stage| stage.join("inputs.json").is_file()) {
            // `.model.tmp` of a run that was killed, `sft.old-1` of one that had another recipe.
            if name(stage).starts_with('.') || name(stage).contains(".old-") {
                continue;
            }
            let manifest = stage.join("manifest.json");
            let progress = if manifest.is_file() {
                read_json::<Manifest>(&manifest)?;
                Progress::Finished(modified(&manifest))
            } else {
                Progress::Begun
            };
            let times = ["inputs.json", "metrics.jsonl", "manifest.json"].map(|file| modified(&stage.join(file)));
            *latest = times.into_iter().fold(*latest, Option::max);
            let parts: Vec<String> =
                stage.strip_prefix(seed).unwrap_or(stage).iter().map(|part| part.to_string_lossy().into_owned()).collect();
            found.push((parts.join("/"), progress));
        }
    }
    Ok(found)
}

/// Each system's share of toxic responses in a run's report, of whichever format.
fn headline(path: &Path) -> Result<Vec<ToxicShare>, PipelineError> {
    let report: Value = read_json(path)?;
    let seeds = report["seeds"].as_array().map_or(&[][..], Vec::as_slice);
    let share = |seed: &Value, name: &Value| {
        let systems = seed["report"]["systems"].as_array()?;
        systems.iter().find(|system| system["name"] == *name)?["toxicity"]["rate"]["share"]["estimate"].as_f64()
    };
    let first = seeds.first().and_then(|seed| seed["report"]["systems"].as_array()).into_iter().flatten();
    let mean = |system: &Value| {
        let shares: Vec<f64> = seeds.iter().filter_map(|seed| share(seed, &system["name"])).collect();
        let system = system["name"].as_str()?.to_owned();
        (!shares.is_empty()).then(|| ToxicShare { system, share: shares.iter().sum::<f64>() / shares.len() as f64 })
    };
    let found: Vec<ToxicShare> = first.filter_map(mean).collect();
    if found.is_empty() { Err(PipelineError::file(path, "has no systems; the same `adpo run` writes it again")) } else { Ok(found) }
}

impl Display for RunState {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => write!(f, "finished"),
            Self::At { stage } => write!(f, "at {stage}"),
            Self::After { stage } => write!(f, "after {stage}"),
            Self::NotStarted => write!(f, "not started"),
            Self::Damaged { .. } => write!(f, "damaged"),
        }
    }
}

impl RunSummary {
    fn told(&self) -> String {
        if let RunState::Damaged { problem } = &self.state {
            return problem.split_whitespace().collect::<Vec<_>>().join(" ");
        }
        self.toxic.iter().map(|toxic| format!("{} {:.1}", toxic.system, 100.0 * toxic.share)).collect::<Vec<_>>().join(", ")
    }
}

impl Display for Runs {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let head = ["run", "recipe", "last worked on, UTC", "seeds", "state", "toxic %"].map(str::to_owned);
        let row = |run: &RunSummary| {
            let seeds: Vec<String> = run.seeds.iter().map(u64::to_string).collect();
            let time = run.time.as_deref().map_or_else(String::new, |time| time.replace('T', " ").trim_end_matches('Z').to_owned());
            [
                run.folder.display().to_string(),
                run.recipe.clone().unwrap_or_default(),
                time,
                seeds.join(","),
                run.state.to_string(),
                run.told(),
            ]
        };
        let rows: Vec<[String; 6]> = std::iter::once(head).chain(self.0.iter().map(row)).collect();
        let widths: [usize; 6] = std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
        for row in &rows {
            let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            writeln!(f, "{}", cells.join("  ").trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        std::fs::write(path, text).expect("written");
    }

    const MANIFEST: &str = r#"{"stage": "x", "code": "0", "inputs": {}, "outputs": {}, "counts": {}}"#;

    fn finish(stage: &Path) {
        write(&stage.join("inputs.json"), "{}");
        write(&stage.join("manifest.json"), MANIFEST);
    }

    fn state(run: &Path) -> RunState {
        list_runs(run).expect("a folder").0.remove(0).state
    }

    #[test]
    fn a_run_is_as_far_as_its_folder_says() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let run = root.path().join("mine");
        write(&run.join("recipe.toml"), "name = \"mine\"\nseeds = [1, 2]\n[sft]\n[[policies]]\nname = \"dpo\"\n[evaluate]\n");
        let stage = |name: &str| RunState::After { stage: name.to_owned() };
        assert_eq!(state(&run), RunState::NotStarted);
        finish(&run.join("seed-1/sft"));
        finish(&run.join("seed-1/sft.old-1"));
        assert_eq!(state(&run), stage("seed-1/sft"));
        write(&run.join("seed-1/policies/dpo/inputs.json"), "{}");
        assert_eq!(state(&run), RunState::At { stage: "seed-1/policies/dpo".to_owned() });
        finish(&run.join("seed-1/policies/dpo"));
        finish(&run.join("seed-1/report"));
        assert_eq!(state(&run), stage("seed-1/report"));
        finish(&run.join("seed-2/report"));
        let system = |share| {
            format!(r#"{{"report": {{"systems": [{{"name": "dpo", "toxicity": {{"rate": {{"share": {{"estimate": {share}}}}}}}}}]}}}}"#)
        };
        write(&run.join("report.json"), &format!(r#"{{"seeds": [{}, {}]}}"#, system(0.25), system(0.5)));
        let told = list_runs(root.path()).expect("a folder");
        assert_eq!((&told.0[0].state, told.0[0].toxic[0].share), (&RunState::Finished, 0.375));
        let text = told.to_string();
        assert!(text.contains("1,2") && text.contains("finished  dpo 37.5"), "{text}");
    }

    #[test]
    fn a_damaged_run_is_listed_with_the_file_and_others_are_not_lost() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| root.path().join(name);
        write(&at("a/recipe.toml"), "name = ");
        write(&at("b/recipe.toml"), "name = \"b\"\nseeds = [3]\n[evaluate]\n");
        finish(&at("b/seed-3/report"));
        write(&at("b/report.json"), "{\"seeds\": 7}");
        finish(&at("c/seed-4/sft"));
        write(&at("d/recipe.toml"), "name = \"d\"\nseeds = [5]\n[sft]\n");
        write(&at("d/seed-5/sft/inputs.json"), "{}");
        write(&at("d/seed-5/sft/manifest.json"), "torn");
        write(&at("judge-cache/x.jsonl"), "");
        let mut runs = list_runs(root.path()).expect("a folder").0;
        runs.sort_by(|a, b| a.folder.cmp(&b.folder));
        let damaged = ["a/recipe.toml", "b/report.json", "c/recipe.toml", "d/seed-5/sft/manifest.json"];
        assert_eq!(runs.len(), damaged.len());
        for (run, file) in runs.iter().zip(damaged) {
            assert!(matches!(&run.state, RunState::Damaged { problem } if problem.contains(file)), "{run:?}");
        }
        assert_eq!(runs[2].seeds, [4]);
        assert!(list_runs(&at("nowhere")).is_err());
    }

    #[test]
    fn times_are_written_as_they_sort() {
        assert_eq!(utc(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_795_941_017)), "2026-11-29T08:30:17Z");
    }
}
