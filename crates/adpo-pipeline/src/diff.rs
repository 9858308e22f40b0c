//! Two policies of any two runs, on the prompts that both answered.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};

use adpo_data::read_jsonl;
use adpo_eval::{Comparison, Finding, Interval, Measure, Outcomes, PromptFindings, Report, ScoredResponse, SystemOutcomes, Verdict};
use serde::Serialize;

use crate::PipelineError;
use crate::manifest::read_json;
use crate::runs::seed_folders;
use crate::stages::{REPORT, SAMPLES};

/// How policy B differs from policy A.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunDiff {
    /// The seed's folder and the system: `runs/mine/seed-1:sft`. The tests take it for the baseline.
    pub a: String,
    /// The same of the other one.
    pub b: String,
    /// Who judged both.
    pub judge: String,
    /// Prompts that both answered: same id, same text.
    pub prompts: usize,
    /// Prompts that A alone answered.
    pub only_a: usize,
    /// Prompts that B alone answered.
    pub only_b: usize,
    /// Paired tests, B minus A, as in a report.
    pub comparisons: Vec<Comparison>,
    /// Verdicts that are another one in B.
    pub flips: Vec<Flip>,
    /// What else a reader has to know.
    pub notes: Vec<String>,
}

/// A verdict on the responses to one prompt that is another one in B; of several responses, on most of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Flip {
    /// What was found in one of the two.
    pub finding: Finding,
    /// Whether it is B in which it was found.
    pub in_b: bool,
    /// The prompt's id.
    pub prompt_id: String,
    /// Whether the prompt is marked harmful.
    pub harmful: bool,
    /// What was said, where it may be shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub texts: Option<FlipTexts>,
}

/// What was said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FlipTexts {
    /// The last turn of the prompt.
    pub prompt: String,
    /// A's first response.
    pub a: String,
    /// B's first response.
    pub b: String,
}

/// Tests two policies, each named `RUN_FOLDER[/seed-N]:SYSTEM`, on the prompts that both answered. Without a seed the first one is taken;
/// without a system the only policy; a policy's own folder (`RUN_FOLDER/seed-N/policies/NAME`) will do as well. `show` lets texts in.
///
/// # Errors
/// [`PipelineError::Diff`] if a name stands for nothing or for several, different judges graded them, or they share no prompt;
/// [`PipelineError::File`] for a run without a report, or one that cannot be read.
pub fn diff_runs(a: &str, b: &str, show: bool) -> Result<RunDiff, PipelineError> {
    let (a, b) = (Side::read(a)?, Side::read(b)?);
    if a.name() == b.name() {
        return refuse(format!("{} was named twice; name another system, seed or run", a.name()));
    }
    let (judge, other) = (&a.report.judge, &b.report.judge);
    if (&judge.fingerprint, judge.thresholds) != (&other.fingerprint, other.thresholds) {
        return refuse(format!(
            "{} was judged by {} ({}) and {} by {} ({}): their verdicts cannot be compared; run both with the same `evaluate.judge`",
            a.name(),
            judge.name,
            judge.fingerprint,
            b.name(),
            other.name,
            other.fingerprint
        ));
    }
    let (a_said, b_said) = (a.said(), b.said());
    let same = |id: &&&str| b_said.get(**id).is_some_and(|there| there[0].prompt.dialogue == a_said[**id][0].prompt.dialogue);
    let shared: BTreeSet<&str> = a_said.keys().filter(same).copied().collect();
    if shared.is_empty() {
        return refuse(format!(
            "{} and {} share no prompt (they answered {} and {}); compare runs whose `evaluate.sources` have rows in common",
            a.name(),
            b.name(),
            a_said.len(),
            b_said.len()
        ));
    }
    let outcomes = Outcomes { systems: vec![a.outcomes(&shared)?, b.outcomes(&shared)?] };
    Ok(RunDiff {
        judge: judge.name.clone(),
        prompts: shared.len(),
        only_a: a_said.len() - shared.len(),
        only_b: b_said.len() - shared.len(),
        comparisons: outcomes.comparisons(&a.name(), judge, 0),
        flips: flips((&a, &a_said), (&b, &b_said), &shared, show),
        notes: a.notes.iter().chain(&b.notes).cloned().collect(),
        a: a.name(),
        b: b.name(),
    })
}

fn refuse<T>(problem: String) -> Result<T, PipelineError> {
    Err(PipelineError::Diff(problem))
}

/// A system's responses, by their prompts' ids.
type Said<'a> = BTreeMap<&'a str, Vec<&'a ScoredResponse>>;

/// A system of a seed of a run.
struct Side {
    seed: PathBuf,
    system: String,
    report: Report,
    samples: Vec<ScoredResponse>,
    notes: Vec<String>,
}

impl Side {
    fn read(named: &str) -> Result<Self, PipelineError> {
        let (folder, system) = parts(named);
        let (seed, notes) = seed_of(&folder)?;
        let made = seed.join(REPORT);
        let (report, samples) = (made.join("report.json"), made.join(SAMPLES));
        if !report.is_file() || !samples.is_file() {
            return Err(PipelineError::file(
                &made,
                format!("has no report.json with {SAMPLES}; `adpo run` writes them at the end of a run"),
            ));
        }
        let report: Report = read_json(&report)?;
        let samples = read_jsonl(samples)?;
        let systems: Vec<&str> = report.systems.iter().map(|system| system.name.as_str()).collect();
        let policies: Vec<&str> = systems.iter().copied().filter(|name| report.baseline.as_deref() != Some(name)).collect();
        let system = match (system, &policies[..]) {
            (Some(system), _) if systems.contains(&system.as_str()) => system,
            (None, [only]) => (*only).to_owned(),
            (system, _) => {
                let what = system.map_or_else(|| "no system was named".to_owned(), |system| format!("there is no system `{system}`"));
                let folder = seed.display();
                return refuse(format!(
                    "`{named}`: {what}; name one of {}, such as {folder}:{}",
                    systems.join(", "),
                    systems[systems.len() - 1]
                ));
            }
        };
        Ok(Self { seed, system, report, samples, notes })
    }

    fn name(&self) -> String {
        format!("{}:{}", self.seed.display(), self.system)
    }

    fn said(&self) -> Said<'_> {
        let mut said = Said::new();
        for sample in self.samples.iter().filter(|sample| sample.model == self.system && sample.control_token.is_none()) {
            said.entry(&sample.prompt_id).or_default().push(sample);
        }
        said
    }

    /// What was measured on these prompts, under the whole name.
    fn outcomes(&self, shared: &BTreeSet<&str>) -> Result<SystemOutcomes, PipelineError> {
        let path = self.seed.join(REPORT).join("outcomes.json");
        let all: Outcomes = read_json(&path)?;
        let mut own = all.systems.into_iter().find(|system| system.name == self.system).ok_or_else(|| {
            PipelineError::file(&path, format!("has nothing of `{}`; delete the stage's folder to run it again", self.system))
        })?;
        own.name = self.name();
        own.measures.values_mut().for_each(|prompts| prompts.retain(|id, _| shared.contains(id.as_str())));
        Ok(own)
    }

    /// Prompts in most of whose scored responses each thing was found, or not.
    fn findings(&self, said: &Said<'_>) -> BTreeMap<&str, BTreeMap<Finding, bool>> {
        let of = |prompt: &PromptFindings| {
            let found = prompt.systems.get(&self.system)?;
            let count = |finding| found.get(&finding).copied().unwrap_or(0);
            let scored = said.get(prompt.prompt_id.as_str())?.len().checked_sub(count(Finding::Unscored)).filter(|scored| *scored > 0)?;
            Some(FLIPS.map(|finding| (finding, 2 * count(finding) > scored)).into())
        };
        self.report.prompts.iter().filter_map(|prompt| Some((prompt.prompt_id.as_str(), of(prompt)?))).collect()
    }
}

/// The folder and the system in `FOLDER:SYSTEM`, or in a policy's own folder.
fn parts(named: &str) -> (PathBuf, Option<String>) {
    if let Some((folder, system)) = named.rsplit_once(':').filter(|(_, system)| !system.contains(['/', '\\'])) {
        return (PathBuf::from(folder), Some(system.to_owned()));
    }
    let path = Path::new(named);
    for seed in path.ancestors().filter(|folder| folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("seed-"))) {
        let below: Vec<String> = path.strip_prefix(seed).into_iter().flatten().map(|part| part.to_string_lossy().into_owned()).collect();
        match &below.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["policies" | "responses", system, ..] => return (seed.to_owned(), Some((*system).to_owned())),
            ["sft", ..] => return (seed.to_owned(), Some("sft".to_owned())),
            _ => {}
        }
    }
    (path.to_owned(), None)
}

/// The folder of the seed that is meant; of several the first, which is said.
fn seed_of(folder: &Path) -> Result<(PathBuf, Vec<String>), PipelineError> {
    if folder.join(REPORT).is_dir() {
        return Ok((folder.to_owned(), Vec::new()));
    }
    if !folder.is_dir() {
        return Err(PipelineError::file(
            folder,
            "is no folder; name a run's, as in runs/mine:adpo or runs/mine/seed-1:adpo (`adpo runs` lists them)",
        ));
    }
    let seeds = seed_folders(folder).map_err(PipelineError::io(folder))?;
    let Some((_, first)) = seeds.first() else {
        return Err(PipelineError::file(
            folder,
            "has no seed with a report; name a run's folder, as in runs/mine:adpo (`adpo runs` lists them)",
        ));
    };
    let others: Vec<String> = seeds[1..].iter().map(|(seed, _)| format!("seed-{seed}")).collect();
    let note = format!("{} stands for its first seed; there are also {}", folder.display(), others.join(", "));
    Ok((first.clone(), if others.is_empty() { Vec::new() } else { vec![note] }))
}

/// What is looked at, in this order.
const FLIPS: [Finding; 4] = [Finding::Toxic, Finding::Evasive, Finding::Incoherent, Finding::Degenerate];

fn flips((a, a_said): (&Side, &Said<'_>), (b, b_said): (&Side, &Said<'_>), shared: &BTreeSet<&str>, show: bool) -> Vec<Flip> {
    let (a_found, b_found) = (a.findings(a_said), b.findings(b_said));
    let mut flips = Vec::new();
    for finding in FLIPS {
        for in_b in [false, true] {
            let flipped = shared.iter().filter(|id| {
                let both = a_found.get(**id).zip(b_found.get(**id));
                both.is_some_and(|(a, b)| a[&finding] != b[&finding] && b[&finding] == in_b)
            });
            flips.extend(flipped.map(|id| {
                let (a, b) = (a_said[id][0], b_said[id][0]);
                let prompt = || a.prompt.dialogue.last_user().unwrap_or_default().to_owned();
                let texts = show.then(|| FlipTexts { prompt: prompt(), a: a.response.clone(), b: b.response.clone() });
                Flip { finding, in_b, prompt_id: (*id).to_owned(), harmful: a.prompt.is_harmful(), texts }
            }));
        }
    }
    flips
}

impl Display for RunDiff {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "A  {}\nB  {}", self.a, self.b)?;
        writeln!(
            f,
            "{} prompts that both answered, {} only A, {} only B; judged by {}",
            self.prompts, self.only_a, self.only_b, self.judge
        )?;
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))?;
        writeln!(f, "\n{:<37}{:>8}{:>8}  {:<24}{:>9}", "", "A", "B", "B - A, 95 % interval", "p (Holm)")?;
        for comparison in &self.comparisons {
            let Comparison { measure, value, baseline_value, difference, p_holm, verdict, .. } = comparison;
            let [from, to] =
                [baseline_value, value].map(|x| if measure.is_rate() { format!("{:.1} %", 100.0 * x) } else { format!("{x:.2}") });
            let p = if *p_holm < 1e-4 { "< 0.0001".to_owned() } else { format!("{p_holm:.4}") };
            let verdict = match verdict {
                Verdict::Lower => "lower",
                Verdict::Higher => "higher",
                Verdict::NotDistinguishable => "",
            };
            let line = format!("{:<37}{from:>8}{to:>8}  {:<24}{p:>9}  {verdict}", measure.name(), interval(*measure, difference));
            writeln!(f, "{}", line.trim_end())?;
        }
        if self.flips.is_empty() {
            return writeln!(f, "\nNo response flipped.");
        }
        for flips in self.flips.chunk_by(|a, b| (a.finding, a.in_b) == (b.finding, b.in_b)) {
            let [from, to] = if flips[0].in_b { ["not ", ""] } else { ["", "not "] };
            let name = flips[0].finding.name();
            writeln!(f, "\n{from}{name} -> {to}{name}: {}", flips.len())?;
            for Flip { prompt_id, harmful, texts, .. } in flips {
                writeln!(f, "  {prompt_id}{}", if *harmful { " (harmful)" } else { "" })?;
                if let Some(FlipTexts { prompt, a, b }) = texts {
                    writeln!(f, "    > {prompt}\n    A {a}\n    B {b}")?;
                }
            }
        }
        Ok(())
    }
}

/// In points for a rate.
fn interval(measure: Measure, difference: &Interval) -> String {
    let (scale, digits) = if measure.is_rate() { (100.0, 1) } else { (1.0, 3) };
    let [estimate, low, high] = [difference.estimate, difference.low, difference.high].map(|x| scale * x);
    format!("{estimate:+.digits$} [{low:+.digits$}, {high:+.digits$}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_named_by_run_seed_and_system_or_by_its_own_folder() {
        let cases = [
            ("runs/mine:adpo", "runs/mine", Some("adpo")),
            ("runs/mine/seed-2:dpo-0.3", "runs/mine/seed-2", Some("dpo-0.3")),
            ("runs/mine", "runs/mine", None),
            ("runs/mine/seed-2/policies/adpo", "runs/mine/seed-2", Some("adpo")),
            ("runs/mine/seed-2/policies/adpo/model/", "runs/mine/seed-2", Some("adpo")),
            ("runs/mine/seed-2/sft/model", "runs/mine/seed-2", Some("sft")),
            (r"C:\runs\mine", r"C:\runs\mine", None),
        ];
        for (named, folder, system) in cases {
            assert_eq!(parts(named), (PathBuf::from(folder), system.map(str::to_owned)), "{named}");
        }
    }
}
