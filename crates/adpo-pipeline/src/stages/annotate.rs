//! Stage 3: the annotator sorts plain answers into chosen and rejected; a passing toxic answer completes the triple.

use adpo_data::{Preference, Row, read_jsonl, write_jsonl};
use adpo_eval::{Annotation, AnnotationCounts, CandidateSet, Exchange, annotate};

use super::{Candidates, SeedRun, TRIPLES, judged};
use crate::PipelineError;
use crate::stage::{Inputs, Made, Manifest};

pub(super) fn run(run: &SeedRun<'_>, sample: &Manifest) -> Result<Manifest, PipelineError> {
    let inputs = Inputs::new()
        .value("rule", &run.recipe.annotate.rule)
        .hash("annotator", run.annotator_fingerprint()?)
        .hash("sample", sample.hash());
    run.run_stage("annotate", inputs, |folder| {
        let rows: Vec<Candidates> = read_jsonl(run.stage("sample").join("candidates.jsonl"))?;
        let annotator = run.annotator()?;
        let rule = run.annotation_rule(annotator.as_ref());
        let exchanges: Vec<Exchange> = rows.iter().flat_map(exchanges).collect();
        let mut judgements = judged("annotate", annotator.as_ref(), &exchanges)?.into_iter();
        let mut counts = AnnotationCounts::default();
        let mut triples = Vec::new();
        let mut scores = Vec::new();
        for row in rows {
            let plain: Vec<_> = judgements.by_ref().take(row.plain.len()).collect();
            let toxic: Vec<_> = judgements.by_ref().take(row.toxic.len()).collect();
            let set = CandidateSet { id: row.row, prompt: row.prompt, plain: row.plain, toxic: row.toxic };
            let annotation = annotate(&set, &plain, &toxic, &rule);
            counts.add(&annotation, plain.iter().chain(&toxic));
            if let Annotation::Triple(triple) = annotation {
                triples.push(Row {
                    id: set.id,
                    source: row.source,
                    licence: row.licence,
                    value: Preference {
                        prompt: set.prompt,
                        chosen: triple.chosen.clone(),
                        rejected: triple.rejected.clone(),
                        toxic: Some(triple.toxic.clone()),
                    },
                });
                scores.push(triple);
            }
        }
        if triples.is_empty() {
            return Err(PipelineError::stage(
                "annotate",
                format!("no prompt gave a triple: {:?}; see `annotate.rule` and `sample`", counts.dropped),
            ));
        }
        write_jsonl(folder.join(TRIPLES), &triples)?;
        write_jsonl(folder.join("scores.jsonl"), &scores)?;
        let counts = serde_json::json!({"counts": counts, "rule": rule, "annotator": annotator.name(), "warnings": annotator.warnings()});
        Ok(Made { outputs: vec![TRIPLES, "scores.jsonl"], counts })
    })
}

/// Plain answers, then toxic ones.
fn exchanges(row: &Candidates) -> impl Iterator<Item = Exchange> + '_ {
    let answers = row.plain.iter().chain(&row.toxic);
    answers.map(|answer| Exchange { prompt: row.prompt.clone(), response: answer.clone(), harmful: row.harmful })
}
