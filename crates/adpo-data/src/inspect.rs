//! A look at a file of rows before anything is trained on it. Text stays hidden unless it is asked for: much of what
//! this project reads is offensive.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::DataError;
use crate::dialogue::Dialogue;
use crate::readers::{Format, Kind, ReadReport, RowFile};
use crate::rows::{Preference, Prompt, Row, SftExample, ToxicLabel};

/// Rows shown.
const SAMPLE: usize = 3;

/// Lines printed of each: the last turns and the responses.
const SAMPLE_LINES: usize = 4;

/// Counts, lengths and a few rows of a file. Prints as a short table, serialises for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// The file's format.
    pub format: Format,
    /// What became of its lines.
    pub report: ReadReport,
    /// Words (runs without white space) per prompt.
    pub prompt_words: Lengths,
    /// Words per response, by its role: `response`; `chosen`, `rejected`, `toxic` for preferences.
    pub response_words: BTreeMap<&'static str, Lengths>,
    /// Number of turns of the prompt → rows.
    pub prompt_turns: BTreeMap<usize, usize>,
    /// The data set's categories → rows.
    pub categories: BTreeMap<String, usize>,
    /// Labels (`toxic by human`, `harmful`, …) → rows; rows without one are not counted here.
    pub labels: BTreeMap<String, usize>,
    /// A few rows, evenly spaced; only lengths unless text was asked for.
    pub sample: Vec<SampleRow>,
}

/// Percentiles of a length, by nearest rank; all 0 where nothing was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Lengths {
    /// How many were measured.
    pub count: usize,
    /// The median.
    pub p50: usize,
    /// Nine of ten are at most this long.
    pub p90: usize,
    /// 99 of 100 are at most this long.
    pub p99: usize,
    /// The longest.
    pub max: usize,
}

/// A row as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SampleRow {
    /// The row's id.
    pub id: String,
    /// (role, text or its length).
    pub lines: Vec<(&'static str, String)>,
}

/// Looks at a file whose format is detected; with `show`, the sample's text is in it.
///
/// # Errors
/// [`DataError`] names file and line of the first row that cannot be read.
pub fn inspect(path: impl AsRef<Path>, show: bool) -> Result<Inspection, DataError> {
    let file = RowFile::new(path);
    let format = file.format()?;
    let file = file.with_format(format);
    Ok(match format.kind() {
        Kind::Preferences => of(format, file.preferences()?, show),
        Kind::Prompts => of(format, file.prompts()?, show),
        Kind::Sft => of(format, file.sft()?, show),
        Kind::Dialogues => inspect_dialogues(format, &file, show)?,
        Kind::Chats => of(format, file.dialogues()?, show),
    })
}

/// They may be examples with labels, or dialogues that nobody has answered yet: both are looked at as they stand.
fn inspect_dialogues(format: Format, file: &RowFile, show: bool) -> Result<Inspection, DataError> {
    let labelled = of(format, file.sft()?, show);
    Ok(Inspection { labels: labelled.labels, categories: labelled.categories, ..of(format, file.dialogues()?, show) })
}

/// What can be seen of a row.
struct View<'a> {
    prompt: Vec<(&'static str, &'a str)>,
    responses: Vec<(&'static str, &'a str)>,
    category: Option<&'a str>,
    label: Option<&'static str>,
}

trait Visible {
    fn view(&self) -> View<'_>;
}

impl Visible for Dialogue {
    fn view(&self) -> View<'_> {
        let mut prompt: Vec<_> = self.turns.iter().map(|turn| (turn.role.name(), turn.content.as_str())).collect();
        let response = if self.ends_with_assistant() { prompt.pop() } else { None };
        View { prompt, responses: response.into_iter().map(|(_, text)| ("response", text)).collect(), category: None, label: None }
    }
}

impl Visible for SftExample {
    fn view(&self) -> View<'_> {
        let label = self.toxic.map(|label| match label {
            ToxicLabel::Human => "toxic by human",
            ToxicLabel::Annotator { .. } => "toxic by annotator",
        });
        View { category: self.category.as_deref(), label, ..self.dialogue.view() }
    }
}

impl Visible for Preference {
    fn view(&self) -> View<'_> {
        let mut responses = vec![("chosen", self.chosen.as_str()), ("rejected", self.rejected.as_str())];
        responses.extend(self.toxic.as_deref().map(|text| ("toxic", text)));
        View { responses, ..self.prompt.view() }
    }
}

impl Visible for Prompt {
    fn view(&self) -> View<'_> {
        let label = self.harmful.map(|harmful| if harmful { "harmful" } else { "harmless" });
        let responses = self.reference.iter().map(|text| ("reference", text.as_str())).collect();
        View { category: self.category.as_deref(), label, responses, ..self.dialogue.view() }
    }
}

fn of<T: Visible>(format: Format, (rows, report): (Vec<Row<T>>, ReadReport), show: bool) -> Inspection {
    let mut prompts = Vec::with_capacity(rows.len());
    let mut responses: BTreeMap<&'static str, Vec<usize>> = BTreeMap::new();
    let (mut prompt_turns, mut categories, mut labels) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let words = |text: &str| text.split_whitespace().count();
    for row in &rows {
        let view = row.value.view();
        prompts.push(view.prompt.iter().map(|(_, text)| words(text)).sum());
        view.responses.iter().for_each(|(role, text)| responses.entry(role).or_default().push(words(text)));
        *prompt_turns.entry(view.prompt.len()).or_default() += 1;
        view.category.into_iter().for_each(|category| *categories.entry(category.to_owned()).or_default() += 1);
        view.label.into_iter().for_each(|label| *labels.entry(label.to_owned()).or_default() += 1);
    }
    let sample = (0..SAMPLE.min(rows.len())).map(|i| &rows[i * rows.len() / SAMPLE.min(rows.len())]);
    Inspection {
        format,
        report,
        prompt_words: Lengths::of(prompts),
        response_words: responses.into_iter().map(|(role, lengths)| (role, Lengths::of(lengths))).collect(),
        prompt_turns,
        categories,
        labels,
        sample: sample.map(|row| sample_row(row, show)).collect(),
    }
}

fn sample_row<T: Visible>(row: &Row<T>, show: bool) -> SampleRow {
    let view = row.value.view();
    let line =
        |(role, text): (&'static str, &str)| (role, if show { text.to_owned() } else { format!("[{} characters]", text.chars().count()) });
    SampleRow { id: row.id.clone(), lines: view.prompt.into_iter().chain(view.responses).map(line).collect() }
}

impl Lengths {
    fn of(mut lengths: Vec<usize>) -> Self {
        lengths.sort_unstable();
        let count = lengths.len();
        let rank = |percent: usize| lengths.get((count * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default();
        Self { count, p50: rank(50), p90: rank(90), p99: rank(99), max: rank(100) }
    }
}

impl fmt::Display for Lengths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "median {}, 90 % {}, 99 % {}, longest {}", self.p50, self.p90, self.p99, self.max)
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "format           {}: {}", self.format.name(), self.format.becomes())?;
        writeln!(f, "rows             {} read, {} kept", self.report.read, self.report.kept)?;
        for (reason, rows) in &self.report.dropped {
            writeln!(f, "  dropped        {rows}: {reason}")?;
        }
        if !self.report.ignored_columns.is_empty() {
            let columns: Vec<&str> = self.report.ignored_columns.keys().map(String::as_str).collect();
            writeln!(f, "columns ignored  {}", columns.join(", "))?;
        }
        writeln!(f, "words")?;
        writeln!(f, "  {:<14} {}", "prompt", self.prompt_words)?;
        for (role, lengths) in &self.response_words {
            writeln!(f, "  {role:<14} {lengths} ({} of them)", lengths.count)?;
        }
        let turns: Vec<String> = self.prompt_turns.iter().map(|(turns, rows)| format!("{turns}: {rows}")).collect();
        writeln!(f, "prompt turns     {}", turns.join(", "))?;
        for (title, counts) in [("categories", &self.categories), ("labels", &self.labels)] {
            if !counts.is_empty() {
                writeln!(f, "{title}")?;
                counts.iter().try_for_each(|(name, rows)| writeln!(f, "  {rows:>6}  {name}"))?;
            }
        }
        for row in &self.sample {
            writeln!(f, "row {}", row.id)?;
            let earlier = row.lines.len().saturating_sub(SAMPLE_LINES);
            if earlier > 0 {
                writeln!(f, "  [{earlier} earlier turns]")?;
            }
            row.lines[earlier..].iter().try_for_each(|(role, text)| writeln!(f, "  {role:<9} {}", text.replace('\n', "\n            ")))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occur() {
        let lengths = Lengths::of((1..=200).rev().collect());
        assert_eq!(lengths, Lengths { count: 200, p50: 100, p90: 180, p99: 198, max: 200 });
        assert_eq!(Lengths::of(vec![7]), Lengths { count: 1, p50: 7, p90: 7, p99: 7, max: 7 });
        assert_eq!(Lengths::of(Vec::new()), Lengths::default());
    }
}
