//! Sources of a recipe as rows: which file, which buckets, which labels.

use std::collections::{BTreeMap, BTreeSet};

use adpo_data::{Preference, Prompt, ReadReport, Role, Row, RowFile, SftExample, ToxicLabel, bucket, derive_seed, epoch_order};
use adpo_eval::{Exchange, Judge};
use serde_json::{Value, json};

use crate::PipelineError;
use crate::recipe::Source;
use crate::resources::Resources;
use crate::stage::{hash_bytes, hash_file};
use crate::stages::judged;

/// The id of the embedded dialogues.
const DIALOGUES: &str = "embedded:dialogues";

pub(crate) struct Corpus<'a> {
    resources: &'a Resources,
    /// Rules which rows a limit or a share takes.
    seed: u64,
}

impl<'a> Corpus<'a> {
    pub(crate) fn new(resources: &'a Resources, seed: u64) -> Self {
        Self { resources, seed }
    }

    /// A hash of all the sources' bytes.
    pub(crate) fn hash(&self, sources: &[Source]) -> Result<String, PipelineError> {
        let hashes = sources
            .iter()
            .map(|source| match self.embedded(source)? {
                Some(text) => Ok(hash_bytes(text.as_bytes())),
                None => hash_file(&self.resources.data_file(&source.id)?),
            })
            .collect::<Result<Vec<_>, PipelineError>>()?;
        Ok(hash_bytes(hashes.concat().as_bytes()))
    }

    /// Dialogues to fine-tune on, with counts per source.
    pub(crate) fn sft(&self, sources: &[Source], annotator: Option<&dyn Judge>) -> Result<(Vec<Row<SftExample>>, Value), PipelineError> {
        let mut all = Vec::new();
        let mut counts = json!({});
        for source in sources {
            let (rows, report) = self.file(source)?.sft()?;
            let mut rows = self.pick(source, rows, |example| example.dialogue.split_key());
            let mut judged = BTreeMap::new();
            if let (Some(threshold), Some(annotator)) = (source.label_toxic_above, annotator) {
                judged = label(&mut rows, threshold, annotator)?;
            }
            let labelled = rows.iter().filter(|row| row.value.toxic.is_some()).count();
            let unmarked = self.unmarked(source, &rows);
            counts[&source.id] = json!({"file": &report, "rows": rows.len(), "labelled_toxic": labelled, "unmarked_toxic": unmarked.len(), "judged": judged});
            all.extend(rows);
            all.extend(unmarked);
        }
        not_empty("sft", &all)?;
        Ok((all, json!({ "sources": counts })))
    }

    /// Prompts, with counts per source. Of several rows with one prompt the first is taken.
    pub(crate) fn prompts(&self, sources: &[Source]) -> Result<(Vec<Row<Prompt>>, Value), PipelineError> {
        let mut all: Vec<Row<Prompt>> = Vec::new();
        let mut counts = json!({});
        let mut seen = BTreeSet::new();
        for source in sources {
            let (mut rows, report): (_, ReadReport) = self.file(source)?.prompts()?;
            let read = rows.len();
            rows.retain(|row| seen.insert(row.value.dialogue.turns.iter().map(|t| t.content.to_lowercase()).collect::<Vec<_>>()));
            let distinct = rows.len();
            let rows = self.pick(source, rows, |prompt| prompt.dialogue.split_key());
            counts[&source.id] = json!({"file": &report, "repeated": read - distinct, "rows": rows.len()});
            all.extend(rows);
        }
        not_empty("prompts", &all)?;
        Ok((all, json!({ "sources": counts })))
    }

    /// Preferences, with counts per source.
    pub(crate) fn preferences(&self, sources: &[Source]) -> Result<(Vec<Row<Preference>>, Value), PipelineError> {
        let mut all = Vec::new();
        let mut counts = json!({});
        for source in sources {
            let (rows, report) = self.file(source)?.preferences()?;
            let rows = self.pick(source, rows, |pair| pair.prompt.split_key());
            let toxic = rows.iter().filter(|row| row.value.toxic.is_some()).count();
            counts[&source.id] = json!({"file": &report, "rows": rows.len(), "with_toxic": toxic});
            all.extend(rows);
        }
        not_empty("preferences", &all)?;
        Ok((all, json!({ "sources": counts })))
    }

    fn file(&self, source: &Source) -> Result<RowFile, PipelineError> {
        let file = match self.embedded(source)? {
            Some(text) => RowFile::from_text(&source.id, text),
            // Files of several folders may have one name; ids must differ all the same.
            None => RowFile::new(self.resources.data_file(&source.id)?).with_source(&source.id),
        };
        Ok(match source.format {
            Some(format) => file.with_format(format),
            None => file,
        })
    }

    fn embedded(&self, source: &Source) -> Result<Option<&'static str>, PipelineError> {
        match (source.id.as_str(), self.resources.dialogues) {
            (DIALOGUES, Some(text)) => Ok(Some(text)),
            (id, _) if id.starts_with("embedded:") => {
                Err(PipelineError::Data { id: id.to_owned(), problem: format!("is not part of this program; `{DIALOGUES}` is") })
            }
            _ => Ok(None),
        }
    }

    /// The rows of the source's buckets, at most `limit`, in file order.
    fn pick<T>(&self, source: &Source, rows: Vec<Row<T>>, key: impl Fn(&T) -> &str) -> Vec<Row<T>> {
        let rows: Vec<Row<T>> = rows.into_iter().filter(|row| source.buckets.contains(&bucket(key(&row.value)))).collect();
        let Some(limit) = source.limit else { return rows };
        if limit >= rows.len() {
            if limit > rows.len() {
                eprintln!("warning: `{}` has {} rows in buckets {:?}, fewer than `limit = {limit}`", source.id, rows.len(), source.buckets);
            }
            return rows;
        }
        some_of(rows, limit, derive_seed(self.seed, &source.id))
    }

    /// A share of the toxic rows once more, without the label.
    fn unmarked(&self, source: &Source, rows: &[Row<SftExample>]) -> Vec<Row<SftExample>> {
        let toxic: Vec<&Row<SftExample>> = rows.iter().filter(|row| row.value.toxic.is_some()).collect();
        let count = (toxic.len() as f64 * source.unmarked_toxic_share).round() as usize;
        let order = epoch_order(toxic.len(), derive_seed(self.seed, &format!("{}#unmarked", source.id)), 0);
        let copy = |row: &Row<SftExample>| Row {
            id: format!("{}#unmarked", row.id),
            value: SftExample { toxic: None, ..row.value.clone() },
            ..row.clone()
        };
        order.into_iter().take(count).map(|i| copy(toxic[i])).collect()
    }
}

/// At most `limit` rows, drawn by the seed, in their order.
pub(crate) fn some_of<T>(rows: Vec<T>, limit: usize, seed: u64) -> Vec<T> {
    let taken: BTreeSet<usize> = epoch_order(rows.len(), seed, 0).into_iter().take(limit).collect();
    rows.into_iter().enumerate().filter(|(i, _)| taken.contains(i)).map(|(_, row)| row).collect()
}

/// Labels answers that people have not labelled; counts judgements by their state, because one that failed says nothing
/// of its answer.
fn label(rows: &mut [Row<SftExample>], threshold: f64, annotator: &dyn Judge) -> Result<BTreeMap<&'static str, usize>, PipelineError> {
    let mut states = BTreeMap::new();
    let open: Vec<usize> = (0..rows.len()).filter(|i| rows[*i].value.toxic.is_none()).collect();
    let exchanges: Vec<Exchange> = open.iter().filter_map(|i| exchange(&rows[*i].value)).collect();
    for (i, judgement) in open.into_iter().zip(judged("sft", annotator, &exchanges)?) {
        *states.entry(judgement.state()).or_default() += 1;
        if let Some(scores) = judgement.scores().filter(|scores| scores.toxicity >= threshold) {
            rows[i].value.toxic = Some(ToxicLabel::Annotator { threshold: threshold as f32, score: scores.toxicity as f32 });
        }
    }
    Ok(states)
}

/// An SFT dialogue always ends with the assistant: the readers see to that.
fn exchange(example: &SftExample) -> Option<Exchange> {
    let mut prompt = example.dialogue.clone();
    let last = prompt.turns.pop().filter(|turn| turn.role == Role::Assistant)?;
    Some(Exchange { prompt, response: last.content, harmful: false })
}

fn not_empty<T>(stage: &str, rows: &[T]) -> Result<(), PipelineError> {
    if rows.is_empty() {
        return Err(PipelineError::stage(stage, "no rows are left; check `buckets` and `limit` of its sources"));
    }
    Ok(())
}
