//! Stage 3: the annotator sorts plain responses into chosen and rejected; a passing toxic response completes the triple.

use std::path::Path;

use adpo_data::{Preference, Row, write_jsonl};
use adpo_eval::{Annotation, AnnotationCounts, Candidates, Exchange, annotate};

use super::sample::read_candidates;
use super::seed_run::SeedRun;
use super::stage::{Artifact, Stage, StageKind, TRIPLES};
use crate::PipelineError;
use crate::judging::judged;
use crate::manifest::{Inputs, Made, Manifest};

pub(super) fn stages<'a>(run: &'a SeedRun<'_>) -> Vec<Box<dyn Stage + 'a>> {
    run.recipe.sample.iter().map(|_| -> Box<dyn Stage> { Box::new(Annotating) }).collect()
}

struct Annotating;

impl Stage for Annotating {
    fn kind(&self) -> StageKind {
        StageKind::Annotate
    }

    fn name(&self) -> String {
        "annotate".to_owned()
    }

    fn makes(&self) -> Artifact {
        Artifact::Triples
    }

    fn needs(&self) -> Vec<Artifact> {
        vec![Artifact::Candidates]
    }

    fn inputs(&self, run: &SeedRun<'_>) -> Result<Inputs, PipelineError> {
        Ok(Inputs::new().value("rule", &run.recipe.annotate.rule).hash("annotator", run.annotator_fingerprint()?))
    }

    fn work(&self, run: &SeedRun<'_>, _done: &[Manifest], folder: &Path) -> Result<Made, PipelineError> {
        let rows = read_candidates(run)?;
        let annotator = run.annotator()?;
        let rule = run.annotation_rule(annotator.as_ref());
        let exchanges: Vec<Exchange<'_>> = rows.iter().flat_map(Candidates::exchanges).collect();
        let mut judgements = judged("annotate", annotator.as_ref(), &exchanges)?.into_iter();
        let mut counts = AnnotationCounts::default();
        let (mut triples, mut scores) = (Vec::new(), Vec::new());
        for row in &rows {
            let plain: Vec<_> = judgements.by_ref().take(row.plain.len()).collect();
            let toxic: Vec<_> = judgements.by_ref().take(row.toxic.len()).collect();
            let annotation = annotate(row, &plain, &toxic, &rule);
            counts.add(&annotation, plain.iter().chain(&toxic));
            if let Annotation::Triple(triple) = annotation {
                let value = Preference {
                    prompt: row.prompt.value.dialogue.clone(),
                    chosen: triple.chosen.clone(),
                    rejected: triple.rejected.clone(),
                    toxic: Some(triple.toxic.clone()),
                };
                let Row { id, source, licence, .. } = row.prompt.as_ref().clone();
                triples.push(Row { id, source, licence, value });
                scores.push(triple);
            }
        }
        if triples.is_empty() {
            let reasons: Vec<String> =
                counts.dropped.iter().map(|(reason, prompts)| format!("{prompts} × {}", reason.replace('_', " "))).collect();
            return Err(PipelineError::stage(
                "annotate",
                format!(
                    "no prompt gave a triple: {}. Draw more responses (`sample.temperatures`, `sample.toxic_attempts`), or ask for less \
                     (`annotate.rule.margin`, `.toxic_threshold`)",
                    reasons.join(", ")
                ),
            ));
        }
        write_jsonl(folder.join(TRIPLES), &triples)?;
        write_jsonl(folder.join("scores.jsonl"), &scores)?;
        let counts = serde_json::json!({"counts": counts, "rule": rule, "annotator": annotator.name(), "warnings": annotator.warnings()});
        Ok(Made { outputs: vec![TRIPLES, "scores.jsonl"], counts })
    }
}
