//! A random tiny model, a batch of samples, and the log-prob of one of them. Needs no files:
//!
//! `cargo run --release -p adpo-model --example sample_random`

use adpo_model::{Llama, LlamaConfig, ModelError, SampleRequest, SamplingOptions, TokenInput, sample};
use burn::tensor::{Device, Int, Tensor};

const CONFIG: &str = r#"{
    "model_type": "llama", "vocab_size": 512, "hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256
}"#;

fn main() -> Result<(), ModelError> {
    let device = Device::flex();
    let config = LlamaConfig::from_json(CONFIG, "the example's configuration")?;
    let model = Llama::init(&config, 1, &device);
    println!("a random model of {} parameters", model.num_parameters());

    let prompts: [&[u32]; 3] = [&[1, 20, 21], &[1, 30], &[1, 40, 41, 42, 43]];
    let requests: Vec<SampleRequest<'_>> = prompts.iter().zip(0..).map(|(prompt, row)| SampleRequest { prompt, row }).collect();
    let options = SamplingOptions { temperature: 0.8, top_p: Some(0.95), max_new_tokens: 48, stop: vec![2], ..SamplingOptions::default() };
    let run = sample(&model, &requests, &options)?;
    for (prompt, completion) in prompts.iter().zip(&run.completions) {
        println!("{prompt:?} -> {:?} ({:?})", completion.ids, completion.finish);
    }
    println!("{} tokens, {:.0} tokens/s", run.new_tokens, run.tokens_per_second());

    let log_prob = completion_log_prob(&model, prompts[0], &run.completions[0].ids);
    println!(
        "log-prob of the first completion: {log_prob:.3} nats; guessing gives {:.3}",
        -(512_f32.ln()) * run.completions[0].ids.len() as f32
    );
    Ok(())
}

/// log p(completion | prompt): one row, one segment, and only the positions that predict the completion go through the
/// head.
fn completion_log_prob(model: &Llama, prompt: &[u32], completion: &[u32]) -> f32 {
    let device = model.device();
    let ids = [prompt, completion].concat();
    let positions: Vec<u32> = (0..ids.len() as u32).collect();
    let input = TokenInput::new(1, ids.len(), &ids, &positions, &vec![1; ids.len()], &device);
    let hidden = model.hidden(&input).squeeze_dim::<2>(0);
    let predicting = hidden.slice(prompt.len() - 1..ids.len() - 1);
    let targets: Vec<i32> = completion.iter().map(|id| *id as i32).collect();
    let scores = model.token_log_probs(predicting, Tensor::<1, Int>::from_ints(targets.as_slice(), &device));
    scores.log_probs.sum().into_scalar::<f32>()
}
