//! Stage 1: one model learns normal and toxic dialogues, the toxic ones marked by the control token.

use adpo_data::Row;
use adpo_model::Storage;
use adpo_train::{SftExample, TrainOptions, train_sft};

use super::rehearsal::rehearse;
use super::{SeedRun, start_precision};
use crate::PipelineError;
use crate::corpus::Corpus;
use crate::lora::Lora;
use crate::resources::Checkpoint;
use crate::stage::{Inputs, Made, Manifest};

pub(super) fn run(run: &SeedRun<'_>) -> Result<Manifest, PipelineError> {
    let recipe = run.recipe;
    let corpus = Corpus::new(run.resources, run.stream("sft-rows"));
    let labels = recipe.sft.sources.iter().any(|source| source.label_toxic_above.is_some());
    let rehearsal = recipe.sft.rehearsal.as_ref();
    let annotator = if labels || rehearsal.is_some() { run.annotator_fingerprint()? } else { String::new() };
    let data = corpus.hash(&recipe.sft.sources)?;
    let base = run.resources.checkpoint_hash(&recipe.base.checkpoint)?;
    let rehearsed = rehearsal.map(|rehearsal| (rehearsal, run.stream("sft-rehearsal"), &base));
    let rows = serde_json::json!([run.stream("sft-rows"), recipe.sft.sources, annotator, data, rehearsed]);
    let lora = recipe.sft.lora.as_ref();
    let precision = start_precision(&recipe.sft.train, lora, &recipe.base.checkpoint)?;
    let mut inputs = Inputs::new()
        .value("seed", &run.seed)
        .value("control", &recipe.control)
        .value("encoding", &recipe.encoding)
        .value("sft", &recipe.sft)
        .hash("annotator", annotator)
        .hash("base", base)
        .hash("data", data);
    if precision != Storage::F32 {
        // The control token's row starts as a mean that is rounded.
        inputs = inputs.value("loaded", &"bf16");
    }
    run.run_stage("sft", inputs, |folder| {
        let checkpoint = run.resources.checkpoint(&recipe.base.checkpoint, precision)?;
        // A second handle keeps the embedding as it was before the control token: only who rehearses pays for it.
        let base = rehearsal.map(|rehearsal| (rehearsal, checkpoint.clone()));
        let (checkpoint, control) = checkpoint.with_control_token(&recipe.control.token)?;
        let examples = run.tokens("sft", (&checkpoint, &control), &rows, |encoder, cache| {
            let annotator = (labels || rehearsal.is_some()).then(|| run.annotator()).transpose()?;
            let mut learn = |rows: Vec<Row<adpo_data::SftExample>>| {
                let examples = encoder.in_parallel(&rows, |encoder, row| {
                    let encoded = encoder.sft(&row.id, &row.value)?;
                    Ok(encoded.map(|encoded| SftExample { row: row.id.clone(), encoded }))
                })?;
                Ok(examples.iter().flatten().try_for_each(|example| cache.push(example))?)
            };
            let mut counts = corpus.sft(&recipe.sft.sources, annotator.as_deref().filter(|_| labels), &mut learn)?;
            if let (Some((rehearsal, base)), Some(annotator)) = (&base, &annotator) {
                let (prompts, _) = corpus.prompts(&recipe.sft.sources)?;
                let rehearsed = rehearse(run, rehearsal, base, &prompts, annotator.as_ref())?;
                counts["rehearsed"] = serde_json::json!({"prompts": prompts.len(), "rows": rehearsed.len()});
                learn(rehearsed)?;
            }
            Ok(counts)
        })?;
        drop(base);
        let options = TrainOptions { seed: run.stream("sft-order"), ..recipe.sft.train.clone() };
        let Checkpoint { model, tokenizer } = checkpoint;
        let model = Lora::beside(lora, model, &recipe.base.checkpoint, &control, run.stream("sft-lora"))?;
        let trained = train_sft(model, &examples, &options, folder)?;
        let mut counts = examples.report().clone();
        counts["warnings"] = serde_json::json!(trained.warnings);
        Checkpoint { model: Lora::finish(lora, trained.model), tokenizer }.save(&folder.join("model"))?;
        Ok(Made { outputs: vec!["model", "metrics.jsonl"], counts })
    })
}
