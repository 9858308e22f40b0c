//! Supervised fine-tuning, then Adversarial DPO, of a random Llama of some thousand weights on a handful of id
//! sequences: everything a training run needs, without a file.
//!
//! ```sh
//! cargo run --release -p adpo-train --example overfit
//! ```

use adpo_data::{Encoded, EncodedTriple};
use adpo_model::{Llama, LlamaConfig};
use adpo_objective::{Adpo, Objective};
use adpo_train::{Reference, SftExample, StepRecord, TrainOptions, train_preference, train_sft};
use burn::tensor::Device;

const END: u32 = 2;

/// Four prompts of two ids; each has a response that is preferred, one that is not, and a toxic one.
fn triples() -> Vec<EncodedTriple> {
    let triple = |i: u32| EncodedTriple {
        row: format!("example:{i}"),
        prompt: vec![1, 10 + i],
        chosen: vec![20 + i, 21 + i, END],
        rejected: vec![30 + i, 20 + i, END],
        toxic: Some(vec![40 + i, 41 + i, 42 + i, END]),
        toxic_prompt: None,
    };
    (0..4).map(triple).collect()
}

/// Every response after its prompt, so that the model starts out willing to give each of them.
fn dialogues(triples: &[EncodedTriple]) -> Vec<SftExample> {
    let example = |triple: &EncodedTriple, response: &[u32]| {
        let ids: Vec<u32> = triple.prompt.iter().chain(response).copied().collect();
        let trained = (0..ids.len()).map(|at| at >= triple.prompt.len()).collect();
        SftExample { row: triple.row.clone(), encoded: Encoded { ids, trained } }
    };
    triples
        .iter()
        .flat_map(|t| [Some(&t.chosen), Some(&t.rejected), t.toxic.as_ref()].map(|a| a.map(|a| example(t, a))))
        .flatten()
        .collect()
}

fn print(title: &str, history: &[StepRecord], names: &[&str]) {
    println!("\n{title}\nstep{}", names.iter().map(|name| format!(" {name:>19}")).collect::<Vec<_>>().concat());
    for record in history.iter().filter(|record| record.step == 1 || record.step % 10 == 0) {
        let values = names.iter().map(|name| record.get(name).map_or_else(|| format!("{:>20}", "-"), |v| format!("{v:>20.3}")));
        println!("{:>4}{}", record.step, values.collect::<Vec<_>>().concat());
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::flex();
    let config = LlamaConfig::from_json(
        r#"{"model_type": "llama", "vocab_size": 64, "hidden_size": 32, "intermediate_size": 64,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}"#,
        "the example's config.json",
    )?;
    // A run's files (metrics, checkpoints) go to a folder of its own; here it may vanish.
    let folder = tempfile::tempdir()?;
    let triples = triples();
    let options = TrainOptions { num_train_epochs: 60, batch_size: 12, learning_rate: 1e-2, ..TrainOptions::default() };

    let base = Llama::init(&config, 42, &device);
    let sft = train_sft(base, &dialogues(&triples), &options, &folder.path().join("sft"))?;
    print("Supervised fine-tuning on all responses: a third of them each", &sft.history, &["loss", "mean_token_accuracy", "grad_norm"]);

    let options = TrainOptions { num_train_epochs: 40, batch_size: 4, learning_rate: 1e-3, ..options };
    let reference = Reference::live(sft.model.clone(), &device);
    let objective = Objective::Adpo(Adpo::default());
    let adpo = train_preference(sft.model, Some(&reference), &triples, &objective, &options, &folder.path().join("adpo"))?;
    print(
        "ADPO: preferred responses gain, the others lose, the toxic ones most of all by the penalty (log-ratios to the SFT model)",
        &adpo.history,
        &["loss", "rewards/margins", "kl/chosen", "kl/rejected", "kl/toxic"],
    );
    for warning in &adpo.warnings {
        println!("\nwarning: {warning}");
    }
    Ok(())
}
