//! 160 000 triples of the lengths of HH-RLHF: encoded once, then trained on from the file. Run it twice: the first time is cold,
//! the second one warm. With a number of rows: `cargo run --release -p adpo-train --example token_cache -- FOLDER 160000`

use std::path::PathBuf;
use std::time::Instant;

use adpo_data::{
    Dialogue, EncodedRows, EncodedTriple, Encoder, EncodingOptions, Mask, OverLength, Preference, Row, TokenCache, derive_seed,
    epoch_order, train_tokenizer,
};
use adpo_model::{Llama, LlamaConfig};
use adpo_objective::{Objective, Simpo};
use adpo_train::{TrainOptions, train_preference};
use burn::tensor::Device;

/// Words in the order of a seed, drawn from a vocabulary of 4096.
fn words(seed: u64, count: u64) -> String {
    (0..count).map(|i| format!("w{:x}", derive_seed(seed, &i.to_string()) % 4096)).collect::<Vec<_>>().join(" ")
}

/// Prompts of 20 to 170 words and responses of 10 to 70, so that most rows have 100 to 300 tokens per sequence.
fn preference(i: u64) -> Row<Preference> {
    let length = |stream: &str, from: u64, to: u64| from + derive_seed(i, stream) % (to - from);
    let value = Preference {
        prompt: Dialogue::from_user(words(4 * i, length("prompt", 20, 170))),
        chosen: words(4 * i + 1, length("chosen", 10, 70)),
        rejected: words(4 * i + 2, length("rejected", 10, 70)),
        toxic: Some(words(4 * i + 3, length("toxic", 10, 70))),
    };
    Row { id: format!("synthetic:{i}"), source: "synthetic".into(), licence: None, value }
}

/// A line of `/proc/self/status` in MiB; 0 where there is none.
fn memory(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value =
        status.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':')?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    value.unwrap_or(0) / 1024
}

fn report(what: &str, started: Instant) {
    let [peak, own, files] = ["VmHWM", "RssAnon", "RssFile"].map(memory);
    println!(
        "{what:<32} {:>8.2} s; resident: at most {peak} MiB so far, now {own} MiB own and {files} MiB of mapped files",
        started.elapsed().as_secs_f64()
    );
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let temporary = tempfile::tempdir()?;
    let folder = arguments.next().map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let rows: u64 = arguments.next().map_or(Ok(200), |n| n.parse())?;

    let (tokenizer, control) = train_tokenizer((0..400).map(|i| words(i, 60)), 4000)?.with_control_token("[TOXIC]")?;
    let options = EncodingOptions { max_length: 1024, over_length: OverLength::Drop, mask: Mask::Last, control: Some(control) };
    let config = serde_json::json!({
        "model_type": "llama", "vocab_size": tokenizer.vocab_size(), "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 1024,
    });
    let model = Llama::init(&LlamaConfig::from_json(&config.to_string(), "the example's config")?, 1, &Device::flex());
    report("tokenizer and model", Instant::now());

    let started = Instant::now();
    let key = (tokenizer.content_hash(), &options, rows);
    let cache = TokenCache::<EncodedTriple>::open_or_make(&folder, "triples", &key, |cache| {
        let mut encoder = Encoder::new(&tokenizer, options.clone());
        for start in (0..rows).step_by(1024) {
            let chunk: Vec<u64> = (start..rows.min(start + 1024)).collect();
            let triples = encoder.in_parallel(&chunk, |encoder, i| encoder.preference(&preference(*i)))?;
            triples.iter().flatten().try_for_each(|triple| cache.push(triple))?;
        }
        Ok::<_, adpo_data::DataError>(serde_json::json!(encoder.report()))
    })?;
    report("cache made, or only opened", started);

    let order = Instant::now();
    let first = epoch_order(EncodedRows::len(&cache), 1, 0);
    println!("{:<32} {:>8.4} s, {} KiB", "an epoch's order", order.elapsed().as_secs_f64(), first.len() * size_of::<usize>() / 1024);

    // Checks of all rows and two steps of eight.
    let options = TrainOptions { max_steps: Some(2), ..TrainOptions::default() };
    let run = temporary.path().join("run");
    train_preference(model, None, &cache, &Objective::Simpo(Simpo::default()), &options, &run)?;
    report("open until two steps are done", started);
    let bytes: u64 =
        std::fs::read_dir(&folder)?.filter_map(|e| e.ok()?.metadata().ok()).filter(std::fs::Metadata::is_file).map(|m| m.len()).sum();
    println!("{} triples in {} MiB; {}", EncodedRows::len(&cache), bytes >> 20, cache.report());
    Ok(())
}
