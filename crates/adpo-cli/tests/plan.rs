//! The plan beside what a process really allocated.

use std::path::Path;
use std::process::Command;

/// (planned, measured) bytes of steps, in a process of their own.
fn step(arguments: &[&str]) -> (f64, f64) {
    let output = Command::new(env!("CARGO_BIN_EXE_adpo"))
        .args(["bench", "step", "--json", "--steps", "1"])
        .args(arguments)
        .env("RAYON_NUM_THREADS", "2")
        .output()
        .expect("adpo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let figures: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a line of JSON");
    let bytes = |name: &str| figures[name].as_f64().unwrap_or_else(|| panic!("{name} in {figures}"));
    (bytes("planned_bytes"), bytes("peak_allocated_bytes"))
}

/// A shape that no formula was fitted to: deep and narrow, grouped keys, a tied head.
fn shape(folder: &Path) -> String {
    let path = folder.join("config.json");
    let json = serde_json::json!({
        "model_type": "llama", "vocab_size": 6000, "hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 12,
        "num_attention_heads": 8, "num_key_value_heads": 2, "max_position_embeddings": 1024, "tie_word_embeddings": true,
    });
    std::fs::write(&path, json.to_string()).expect("written");
    path.to_string_lossy().into_owned()
}

#[test]
fn the_plan_is_within_a_tenth_of_the_measured_peak() {
    let folder = tempfile::tempdir().expect("a folder");
    let other = shape(folder.path());
    let cases: [&[&str]; 9] = [
        // Activations rule.
        &["--size", "7m", "--objective", "sft", "--batch", "8", "--seq", "256"],
        // Weights, gradients and moments rule.
        &["--size", "15m", "--objective", "sft", "--batch", "4", "--seq", "64"],
        // Little of either.
        &["--size", "7m", "--objective", "sft", "--batch", "1", "--seq", "64"],
        // A second copy of the weights.
        &["--size", "7m", "--objective", "adpo", "--batch", "4", "--seq", "64"],
        &["--size", "7m", "--objective", "adpo", "--batch", "4", "--seq", "256", "--lora-r", "16"],
        &["--size", "7m", "--objective", "sft", "--batch", "8", "--seq", "256", "--gradient-checkpointing"],
        &["--size", &other, "--objective", "adpo", "--batch", "4", "--seq", "256", "--precomputed-reference"],
        &["--size", &other, "--objective", "sft", "--batch", "8", "--seq", "128", "--packing", "512"],
        &["--size", &other, "--objective", "dpo", "--batch", "2", "--seq", "128", "--gradient-accumulation-steps", "4"],
    ];
    for case in cases {
        let (planned, measured) = step(case);
        let ratio = planned / measured;
        println!("{ratio:.3}: {case:?}");
        assert!((0.9..=1.1).contains(&ratio), "{case:?}: planned {planned}, measured {measured}, ratio {ratio:.3}");
    }
}
