//! Stage 4: every policy of the recipe, each from the SFT model, on the same triples, for the same number of steps.

use std::path::Path;

use adpo_data::{EncodedRows, EncodedTriple, Encoder, Preference, Row, stream_jsonl};
use adpo_train::{Reference, TrainOptions, train_preference};

use super::{SeedRun, TRIPLES, start_precision};
use crate::PipelineError;
use crate::corpus::chunks;
use crate::lora::Lora;
use crate::recipe::{Pairs, Policy, ReferenceChoice};
use crate::resources::Checkpoint;
use crate::stage::{Inputs, Made, Manifest};

pub(super) fn run(run: &SeedRun<'_>, sft: &Manifest, triples: &Manifest) -> Result<Vec<Manifest>, PipelineError> {
    let recipe = run.recipe;
    let mut manifests = Vec::with_capacity(recipe.policies.len());
    for policy in &recipe.policies {
        let inputs = Inputs::new()
            .value("seed", &run.seed)
            .value("encoding", &recipe.encoding)
            .value("preference", &recipe.preference)
            .value("policy", policy)
            .hash("sft", sft.hash())
            .hash("triples", triples.hash());
        let name = format!("policies/{}", policy.name);
        manifests.push(run.run_stage(&name, inputs, |folder| train(run, policy, triples, folder))?);
    }
    Ok(manifests)
}

fn train(run: &SeedRun<'_>, policy: &Policy, triples: &Manifest, folder: &Path) -> Result<Made, PipelineError> {
    let recipe = run.recipe;
    let lora = recipe.preference.lora.as_ref();
    let (checkpoint, control) = run.sft_model(start_precision(&recipe.preference.train, lora, &run.sft_folder())?)?;
    let (file, both) = (run.stage(&triples.stage).join(TRIPLES), policy.pairs == Pairs::RejectedAndToxic);
    let triples = run.tokens("triples", (&checkpoint, &control), &(triples.hash(), policy.pairs), |encoder, cache| {
        let mut rows = 0;
        chunks(stream_jsonl::<Row<Preference>>(file)?, |chunk| {
            rows += chunk.len();
            for triple in encoder.in_parallel(&chunk, Encoder::preference)?.into_iter().flatten() {
                if both { both_pairs(triple).iter().try_for_each(|pair| cache.push(pair))? } else { cache.push(&triple)? }
            }
            Ok(())
        })?;
        Ok(serde_json::json!({ "triples": rows }))
    })?;
    let mut options = TrainOptions { seed: run.stream("preference-order"), ..recipe.preference.train.clone() };
    if both {
        options.batch_size *= 2;
    }
    let objective = &policy.objective;
    let device = &run.resources.device;
    let reference = match recipe.preference.reference {
        _ if !objective.needs_reference() => None,
        // Beside adapters, whose base has that precision already, it shares the policy's own weights.
        ReferenceChoice::Live => Some(Reference::live(checkpoint.model.clone().with_precision(options.precision()), device)),
        ReferenceChoice::Precomputed => {
            Some(Reference::precomputed(&checkpoint.model, &triples, objective, &options, device, &run.stage("reference"))?)
        }
    };
    let model = Lora::beside(lora, checkpoint.model, &run.sft_folder(), &control, run.stream("preference-lora"))?;
    let trained = train_preference(model, reference.as_ref(), &triples, objective, &options, folder)?;
    Checkpoint { model: Lora::finish(lora, trained.model), tokenizer: checkpoint.tokenizer }.save(&folder.join("model"))?;
    let mut counts = triples.report().clone();
    counts["examples"] = triples.len().into();
    counts["warnings"] = serde_json::json!(trained.warnings);
    Ok(Made { outputs: vec!["model", "metrics.jsonl"], counts })
}

/// (`y_w`, `y_l`) and (`y_w`, `y_t`).
pub(crate) fn both_pairs(triple: EncodedTriple) -> Vec<EncodedTriple> {
    let toxic = triple.toxic.clone().map(|toxic| EncodedTriple {
        row: format!("{}#toxic", triple.row),
        rejected: toxic,
        toxic: None,
        ..triple.clone()
    });
    std::iter::once(EncodedTriple { toxic: None, ..triple }).chain(toxic).collect()
}
