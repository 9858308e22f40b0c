//! Sources of a recipe as rows: which file, which buckets, which labels. Rows pass through in chunks, so that memory does not grow
//! with the text of the files; some bytes of each row of a file stay while it is read, to tell ids apart and to draw.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use adpo_data::{
    Dialogue, Preference, Prompt, ReadReport, Role, Row, RowFile, RowValue, Rows, SftExample, ToxicLabel, bucket, derive_seed, epoch_order,
};
use adpo_eval::{Exchange, Judge};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::PipelineError;
use crate::judging::judged;
use crate::manifest::{hash_bytes, hash_file};
use crate::recipe::Source;
use crate::resources::{DIALOGUES, Resources};
use crate::spill::Spill;

/// Rows that are in memory together: enough for every thread and every endpoint of a judge to have some.
pub(crate) const CHUNK: usize = 1024;

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
                None => hash_file(&self.resources.data_file(source)?),
            })
            .collect::<Result<Vec<_>, PipelineError>>()?;
        Ok(hash_bytes(hashes.concat().as_bytes()))
    }

    /// Dialogues to fine-tune on, in chunks for `take`, and then their counts per source.
    pub(crate) fn sft(
        &self,
        sources: &[Source],
        annotator: Option<&dyn Judge>,
        mut take: impl FnMut(Vec<Row<SftExample>>) -> Result<(), PipelineError>,
    ) -> Result<Value, PipelineError> {
        let mut all = 0;
        let mut counts = json!({});
        for source in sources {
            let (mut judged, mut toxic) = (BTreeMap::new(), Toxic::new(source.unmarked_toxic_share)?);
            let evasive = |row: &Row<SftExample>| {
                let share = derive_seed(self.seed, &format!("{}#{}", source.name(), row.id)) as f64 / u64::MAX as f64;
                !row.id.ends_with("#evasive") || share < source.evasive_share
            };
            let Drawn { rows, file } = self.draw(source, evasive, |mut rows| {
                if let (Some(threshold), Some(annotator)) = (source.label_toxic_above, annotator) {
                    label(&mut rows, threshold, annotator, &mut judged)?;
                }
                rows.iter().try_for_each(|row| toxic.observe(row))?;
                take(rows)
            })?;
            let labelled = toxic.labelled;
            let unmarked = toxic.unmarked(derive_seed(self.seed, &format!("{}#unmarked", source.name())), &mut take)?;
            counts[source.name()] =
                json!({"file": file, "rows": rows, "labelled_toxic": labelled, "unmarked_toxic": unmarked, "judged": judged});
            all += rows + unmarked;
        }
        not_none("sft", all)?;
        Ok(json!({ "sources": counts }))
    }

    /// Prompts, with counts per source. Of several rows with one prompt the first is taken.
    pub(crate) fn prompts(&self, sources: &[Source]) -> Result<(Vec<Arc<Row<Prompt>>>, Value), PipelineError> {
        let mut all: Vec<Arc<Row<Prompt>>> = Vec::new();
        let mut counts = json!({});
        let mut seen = BTreeSet::new();
        for source in sources {
            let mut repeated = 0;
            let distinct = |row: &Row<Prompt>| {
                let new = seen.insert(prompt_hash(&row.value));
                repeated += usize::from(!new);
                new
            };
            let Drawn { rows, file } = self.draw(source, distinct, |rows| {
                all.extend(rows.into_iter().map(Arc::new));
                Ok(())
            })?;
            counts[source.name()] = json!({"file": file, "repeated": repeated, "rows": rows});
        }
        not_none("prompts", all.len())?;
        Ok((all, json!({ "sources": counts })))
    }

    /// Preferences, in chunks for `take`, and then their counts per source.
    pub(crate) fn preferences(
        &self,
        sources: &[Source],
        mut take: impl FnMut(Vec<Row<Preference>>) -> Result<(), PipelineError>,
    ) -> Result<Value, PipelineError> {
        let mut all = 0;
        let mut counts = json!({});
        for source in sources {
            let mut toxic = 0;
            let Drawn { rows, file } = self.draw::<Preference>(
                source,
                |_| true,
                |rows| {
                    toxic += rows.iter().filter(|row| row.value.toxic.is_some()).count();
                    take(rows)
                },
            )?;
            counts[source.name()] = json!({"file": file, "rows": rows, "with_toxic": toxic});
            all += rows;
        }
        not_none("preferences", all)?;
        Ok(json!({ "sources": counts }))
    }

    /// Refuses sources that give a section no rows, and a row that `fits` refuses.
    pub(crate) fn check<T: RowValue>(
        &self,
        section: &str,
        sources: &[Source],
        fits: impl Fn(&Row<T>) -> Result<(), String>,
    ) -> Result<(), PipelineError> {
        for source in sources {
            let (file, mut found) = (self.file(source)?, 0);
            let mut rows = file.rows::<T>()?;
            for row in rows.by_ref() {
                let row = row?;
                if source.takes(row.value.dialogue()) {
                    found += 1;
                    fits(&row).map_err(|problem| PipelineError::Data { id: source.name().to_owned(), problem })?;
                }
            }
            if found == 0 {
                let ReadReport { read, kept, .. } = *rows.report();
                let problem = match rows.report().left_out() {
                    Some(reasons) if kept == 0 => {
                        format!("gives `{section}.sources` no rows: all {read} were left out, {reasons}. Mend them, or take another file")
                    }
                    reasons => format!(
                        "gives `{section}.sources` no rows{}: its {kept} are in others{}. Add theirs to `buckets`, or leave the source out",
                        source.part(),
                        reasons.map_or_else(String::new, |reasons| format!(" (left out: {reasons})"))
                    ),
                };
                return Err(PipelineError::Data { id: source.name().to_owned(), problem });
            }
        }
        Ok(())
    }

    /// How many of a file's dialogues are in each bucket, and what became of its rows.
    pub(crate) fn rows_by_bucket(&self, source: &Source) -> Result<(BTreeMap<u8, usize>, ReadReport), PipelineError> {
        let (file, mut buckets) = (self.file(source)?, BTreeMap::new());
        let mut rows = file.rows::<Dialogue>()?;
        for row in rows.by_ref() {
            *buckets.entry(bucket(row?.value.split_key())).or_default() += 1;
        }
        Ok((buckets, rows.report().clone()))
    }

    /// Whether the source has such a row.
    pub(crate) fn any<T: RowValue>(&self, source: &Source, is_such: impl Fn(&T) -> bool) -> Result<bool, PipelineError> {
        for row in self.file(source)?.rows::<T>()? {
            if is_such(&row?.value) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The prompts that the sources have, by their hashes.
    pub(crate) fn prompt_hashes(&self, sources: &[Source]) -> Result<BTreeSet<[u8; 32]>, PipelineError> {
        let mut hashes = BTreeSet::new();
        for source in sources {
            for row in self.file(source)?.rows::<Prompt>()? {
                let prompt = row?.value;
                if source.takes(&prompt.dialogue) {
                    hashes.insert(prompt_hash(&prompt));
                }
            }
        }
        Ok(hashes)
    }

    fn file(&self, source: &Source) -> Result<RowFile, PipelineError> {
        let file = match self.embedded(source)? {
            Some(text) => RowFile::from_text(source.name(), text),
            // Files of several folders may have one name; ids must differ all the same.
            None => RowFile::new(self.resources.data_file(source)?).with_source(source.name()),
        };
        Ok(match source.format {
            Some(format) => file.with_format(format),
            None => file,
        })
    }

    fn embedded(&self, source: &Source) -> Result<Option<&'static str>, PipelineError> {
        match (source.id.as_deref(), self.resources.dialogues) {
            (Some(DIALOGUES), Some(text)) => Ok(Some(text)),
            (Some(id), _) if id.starts_with("embedded:") => {
                Err(PipelineError::Data { id: id.to_owned(), problem: format!("is not part of this program; `{DIALOGUES}` is") })
            }
            _ => Ok(None),
        }
    }

    /// The rows that the source takes and that `wanted` says yes to, at most `limit`, in file order and in chunks. With a limit the file
    /// is read twice: which rows are drawn depends on how many there are.
    fn draw<T: RowValue>(
        &self,
        source: &Source,
        mut wanted: impl FnMut(&Row<T>) -> bool,
        mut take: impl FnMut(Vec<Row<T>>) -> Result<(), PipelineError>,
    ) -> Result<Drawn, PipelineError> {
        let file = self.file(source)?;
        let mut eligible = |row: &Row<T>| wanted(row) && source.takes(row.value.dialogue());
        let mut taken = match source.limit {
            None => None,
            Some(limit) => Some(self.within(limit, source, file.rows()?, &mut eligible)?.into_iter().peekable()),
        };
        let mut rows = file.rows()?;
        let drawn = rows.by_ref().enumerate().filter(|(number, row)| match (row, &mut taken) {
            (Err(_), _) => true,
            (Ok(row), None) => eligible(row),
            (Ok(_), Some(taken)) => taken.next_if_eq(number).is_some(),
        });
        let mut count = 0;
        chunks(drawn.map(|(_, row)| row), |rows| {
            count += rows.len();
            take(rows)
        })?;
        Ok(Drawn { rows: count, file: rows.report().clone() })
    }

    /// The numbers of the rows that a limit leaves.
    fn within<T: RowValue>(
        &self,
        limit: usize,
        source: &Source,
        rows: Rows<'_, T>,
        mut eligible: impl FnMut(&Row<T>) -> bool,
    ) -> Result<Vec<usize>, PipelineError> {
        let mut numbers = Vec::new();
        for (number, row) in rows.enumerate() {
            if eligible(&row?) {
                numbers.push(number);
            }
        }
        if limit > numbers.len() {
            log::warn!("`{}` has {} rows{}, fewer than `limit = {limit}`", source.name(), numbers.len(), source.part());
        }
        Ok(some_of(numbers, limit, derive_seed(self.seed, source.name())))
    }
}

/// What became of a source.
struct Drawn {
    rows: usize,
    file: ReadReport,
}

/// A source's rows that are labelled toxic, of which a share is given once more without the label.
struct Toxic {
    share: f64,
    labelled: usize,
    /// Where none is given again, none is kept.
    rows: Option<Spill<Row<SftExample>>>,
}

impl Toxic {
    fn new(share: f64) -> Result<Self, PipelineError> {
        let rows = if share > 0.0 { Some(Spill::new()?) } else { None };
        Ok(Self { share, labelled: 0, rows })
    }

    fn observe(&mut self, row: &Row<SftExample>) -> Result<(), PipelineError> {
        if row.value.toxic.is_none() {
            return Ok(());
        }
        self.labelled += 1;
        let Some(rows) = &mut self.rows else { return Ok(()) };
        rows.push(&Row { id: format!("{}#unmarked", row.id), value: SftExample { toxic: None, ..row.value.clone() }, ..row.clone() })
    }

    /// Gives the share, drawn by the seed and in the order in which they are drawn, and their number.
    fn unmarked(self, seed: u64, take: &mut impl FnMut(Vec<Row<SftExample>>) -> Result<(), PipelineError>) -> Result<usize, PipelineError> {
        let Some(rows) = self.rows else { return Ok(0) };
        let count = (self.labelled as f64 * self.share).round() as usize;
        let mut drawn = epoch_order(self.labelled, seed, 0);
        drawn.truncate(count);
        let count = drawn.len();
        chunks(rows.rows(drawn)?, take)?;
        Ok(count)
    }
}

/// Hands rows on, some at a time.
pub(crate) fn chunks<T, E>(
    rows: impl IntoIterator<Item = Result<T, E>>,
    mut take: impl FnMut(Vec<T>) -> Result<(), PipelineError>,
) -> Result<(), PipelineError>
where
    PipelineError: From<E>,
{
    let mut rows = rows.into_iter();
    loop {
        let chunk = rows.by_ref().take(CHUNK).collect::<Result<Vec<T>, E>>()?;
        if chunk.is_empty() {
            return Ok(());
        }
        take(chunk)?;
    }
}

/// At most `limit` rows, drawn by the seed, in their order.
pub(crate) fn some_of<T>(rows: Vec<T>, limit: usize, seed: u64) -> Vec<T> {
    if limit >= rows.len() {
        return rows;
    }
    let mut taken = vec![false; rows.len()];
    epoch_order(rows.len(), seed, 0).into_iter().take(limit).for_each(|i| taken[i] = true);
    rows.into_iter().zip(taken).filter(|(_, taken)| *taken).map(|(row, _)| row).collect()
}

/// Tells prompts apart, however their letters are written.
fn prompt_hash(prompt: &Prompt) -> [u8; 32] {
    let mut hash = Sha256::new();
    for turn in &prompt.dialogue.turns {
        let text = turn.content.to_lowercase();
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    hash.finalize().into()
}

/// Labels responses that people have not labelled; counts judgements by their state, because one that failed says nothing
/// of its response.
fn label(
    rows: &mut [Row<SftExample>],
    threshold: f64,
    annotator: &dyn Judge,
    states: &mut BTreeMap<&'static str, usize>,
) -> Result<(), PipelineError> {
    let unlabelled = (0..rows.len()).filter(|i| rows[*i].value.toxic.is_none());
    let open: Vec<(usize, Prompt, String)> =
        unlabelled.filter_map(|i| prompt_and_response(&rows[i].value).map(|(prompt, response)| (i, prompt, response))).collect();
    let exchanges: Vec<Exchange<'_>> = open.iter().map(|(_, prompt, response)| Exchange { prompt, response }).collect();
    for ((i, ..), judgement) in open.iter().zip(judged("sft", annotator, &exchanges)?) {
        *states.entry(judgement.state()).or_default() += 1;
        if let Some(scores) = judgement.scores().filter(|scores| scores.toxicity >= threshold) {
            rows[*i].value.toxic = Some(ToxicLabel::Annotator { threshold: threshold as f32, score: scores.toxicity as f32 });
        }
    }
    Ok(())
}

/// An SFT dialogue always ends with the assistant: the readers see to that.
fn prompt_and_response(example: &SftExample) -> Option<(Prompt, String)> {
    let mut dialogue = example.dialogue.clone();
    let last = dialogue.turns.pop().filter(|turn| turn.role == Role::Assistant)?;
    Some((dialogue.into(), last.content))
}

fn not_none(stage: &str, rows: usize) -> Result<(), PipelineError> {
    if rows == 0 {
        return Err(PipelineError::stage(stage, "no rows are left; check `buckets` and `limit` of its sources"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use adpo_eval::EmbeddedJudge;

    use super::*;

    const SEED: u64 = 7;

    fn resources(folder: &Path) -> Resources {
        Resources { data_dir: Some(folder.to_owned()), ..Resources::default() }
    }

    fn source(source: Value) -> Source {
        serde_json::from_value(source).expect("a source")
    }

    /// More than two chunks of them in three buckets; people labelled some of the responses.
    fn write_rows(folder: &Path) {
        let rows: Vec<Row<SftExample>> = (0..5 * CHUNK)
            .map(|i| {
                let response = ["Gladly, and at once.", "You are an idiot.", "Shut up, stupid."][i % 3];
                let dialogue = Dialogue::from_user(format!("How are you, number {i}?")).with(Role::Assistant, response);
                let toxic = i.is_multiple_of(6).then_some(ToxicLabel::Human);
                Row { id: format!("r{i}"), source: "ours".into(), licence: None, value: SftExample { dialogue, toxic, category: None } }
            })
            .collect();
        adpo_data::write_jsonl(folder.join("rows.jsonl"), &rows).expect("written");
    }

    fn chunked(corpus: &Corpus<'_>, source: &Source, annotator: Option<&dyn Judge>) -> (Vec<Row<SftExample>>, Value) {
        let (mut all, mut chunks) = (Vec::new(), 0);
        let counts = corpus.sft(std::slice::from_ref(source), annotator, |rows| {
            assert!(rows.len() <= CHUNK, "memory is for a chunk");
            chunks += 1;
            all.extend(rows);
            Ok(())
        });
        assert!(chunks > 1);
        (all, counts.expect("they can be read"))
    }

    #[test]
    fn rows_in_chunks_are_those_of_drawing_labelling_and_repeating_all_at_once() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        write_rows(folder.path());
        let (resources, annotator) = (resources(folder.path()), EmbeddedJudge::annotator()?);
        let source = source(json!({
            "id": "rows.jsonl", "buckets": [1, 2, 5], "limit": 2 * CHUNK, "label_toxic_above": 0.5, "unmarked_toxic_share": 0.3
        }));
        let (found, counts) = chunked(&Corpus::new(&resources, SEED), &source, Some(&annotator));

        let (mut rows, _) = RowFile::new(folder.path().join("rows.jsonl")).with_source("rows.jsonl").sft()?;
        rows.retain(|row| [1, 2, 5].contains(&bucket(row.value.dialogue.split_key())));
        let mut taken = epoch_order(rows.len(), derive_seed(SEED, "rows.jsonl"), 0);
        taken.truncate(2 * CHUNK);
        taken.sort_unstable();
        let mut expected: Vec<Row<SftExample>> = taken.into_iter().map(|i| rows[i].clone()).collect();
        let said: Vec<(Prompt, String)> = expected.iter().filter_map(|row| prompt_and_response(&row.value)).collect();
        let exchanges: Vec<Exchange<'_>> = said.iter().map(|(prompt, response)| Exchange { prompt, response }).collect();
        let (mut labelled, mut by_judge) = (Vec::new(), 0);
        for (row, judgement) in expected.iter_mut().zip(annotator.judge(&exchanges)) {
            let toxicity = judgement.scores().expect("it always scores").toxicity;
            if row.value.toxic.is_none() && toxicity >= 0.5 {
                row.value.toxic = Some(ToxicLabel::Annotator { threshold: 0.5, score: toxicity as f32 });
                by_judge += 1;
            }
            labelled.extend(row.value.toxic.is_some().then(|| row.clone()));
        }
        assert!(by_judge > 0 && labelled.len() > by_judge && labelled.len() < expected.len(), "the judge tells some apart");
        let order = epoch_order(labelled.len(), derive_seed(SEED, "rows.jsonl#unmarked"), 0);
        let unmarked = order.into_iter().take((labelled.len() as f64 * 0.3).round() as usize).map(|i| {
            let mut row = labelled[i].clone();
            row.id += "#unmarked";
            row.value.toxic = None;
            row
        });
        expected.extend(unmarked);
        assert_eq!(found, expected);

        let counts = &counts["sources"]["rows.jsonl"];
        assert_eq!(counts["rows"], 2 * CHUNK);
        assert_eq!(counts["labelled_toxic"], labelled.len());
        assert_eq!(counts["unmarked_toxic"], found.len() - 2 * CHUNK);
        assert_eq!(counts["file"]["kept"], 5 * CHUNK);
        Ok(())
    }

    #[test]
    fn a_limit_draws_the_same_rows_today_and_tomorrow() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        write_rows(folder.path());
        let resources = resources(folder.path());
        let source = source(json!({"id": "rows.jsonl", "buckets": [0], "limit": 6}));
        let (prompts, counts) = Corpus::new(&resources, SEED).prompts(&[source])?;
        let ids: Vec<&str> = prompts.iter().map(|row| row.id.as_str()).collect();
        assert_eq!(ids, ["r543", "r867", "r1008", "r3558", "r3586", "r4168"]);
        assert_eq!(counts["sources"]["rows.jsonl"]["repeated"], 0);
        Ok(())
    }
}
