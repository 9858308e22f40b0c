//! A recipe held against its data, before the first step: every stage's rows are there and have what the stage needs; rows that no
//! section uses are counted, and columns that nothing reads are named.

use std::collections::BTreeMap;

use super::seed_run::SeedRun;
use super::stage::Stage;
use crate::PipelineError;
use crate::corpus::Corpus;
use crate::recipe::{EVALUATOR_BUCKET, Source};

/// What the check found.
pub(crate) struct Checked {
    /// What a user should know.
    pub notes: Vec<String>,
    /// Rows of each file, by its name and bucket.
    pub rows: BTreeMap<String, BTreeMap<u8, usize>>,
}

/// Checks the data of all stages.
pub(crate) fn check(run: &SeedRun<'_>, stages: &[Box<dyn Stage + '_>]) -> Result<Checked, PipelineError> {
    for stage in stages {
        stage.check_data(run)?;
    }
    let mut files: BTreeMap<&str, Vec<&Source>> = BTreeMap::new();
    for source in run.recipe.sections().into_iter().flat_map(|(_, sources)| sources) {
        files.entry(source.name()).or_default().push(source);
    }
    let mut checked = Checked { notes: Vec::new(), rows: BTreeMap::new() };
    for (name, sources) in files {
        let (by_bucket, report) = Corpus::new(run.resources, 0).rows_by_bucket(sources[0])?;
        let unused = |bucket: &u8| *bucket != EVALUATOR_BUCKET && !sources.iter().any(|source| source.takes_bucket(*bucket));
        let left: BTreeMap<u8, usize> = by_bucket.iter().filter(|(bucket, _)| unused(bucket)).map(|(b, n)| (*b, *n)).collect();
        if !left.is_empty() {
            let (all, rows) = (by_bucket.values().sum::<usize>(), left.values().sum::<usize>());
            let buckets: Vec<String> = left.keys().map(u8::to_string).collect();
            checked.notes.push(format!("`{name}`: {rows} of {all} rows are in buckets that no section uses ({})", buckets.join(", ")));
        }
        checked.notes.extend(report.columns_not_read().map(|columns| format!("`{name}`: columns that are not read: {columns}")));
        checked.rows.insert(name.to_owned(), by_bucket);
    }
    checked.notes.extend(seen_in_training(run)?);
    Ok(checked)
}

/// How many held-out prompts are trained on as well. Buckets keep them apart; files of one's own need not.
fn seen_in_training(run: &SeedRun<'_>) -> Result<Option<String>, PipelineError> {
    let (held_out, trained): (Vec<_>, Vec<_>) = run.recipe.sections().into_iter().partition(|(section, _)| *section == "evaluate");
    let sources = |sections: &[(&str, &[Source])]| sections.iter().flat_map(|(_, sources)| *sources).cloned().collect::<Vec<_>>();
    let (held_out, trained) = (sources(&held_out), sources(&trained));
    if held_out.iter().chain(&trained).all(|source| source.file.is_none()) {
        return Ok(None);
    }
    let corpus = Corpus::new(run.resources, 0);
    let (held_out, trained) = (corpus.prompt_hashes(&held_out)?, corpus.prompt_hashes(&trained)?);
    let seen = held_out.intersection(&trained).count();
    let of = held_out.len();
    Ok((seen > 0).then(|| format!("{seen} of {of} held-out prompts are trained on as well; the report says less about them")))
}
