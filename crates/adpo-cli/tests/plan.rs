//! The plan beside the memory that a process really took.

use std::process::Command;

/// (planned, measured) bytes of steps, in a process of their own.
fn step(arguments: &[&str]) -> (f64, f64) {
    let output = Command::new(env!("CARGO_BIN_EXE_adpo"))
        .args(["bench", "step", "--steps", "1"])
        .args(arguments)
        .env("RAYON_NUM_THREADS", "2")
        // What is allocated, not what each thread's arena holds back for its next step.
        .env("MALLOC_ARENA_MAX", "1")
        .output()
        .expect("adpo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let figures: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a line of JSON");
    let bytes = |name: &str| figures[name].as_f64().unwrap_or_else(|| panic!("{name} in {figures}"));
    (bytes("planned_bytes"), bytes("peak_allocated_bytes"))
}

// Shapes of half a gigabyte: what the plan leaves out (code, the threads' buffers for products) is then a few percent.
#[cfg(target_os = "linux")]
#[test]
fn the_plan_is_within_a_tenth_of_the_measured_peak() {
    let cases: [&[&str]; 4] = [
        // Activations rule.
        &["--size", "7m", "--objective", "sft", "--batch", "16", "--seq", "256"],
        // Weights, gradients and moments rule.
        &["--size", "15m", "--objective", "sft", "--batch", "4", "--seq", "128"],
        // A second copy of the weights.
        &["--size", "15m", "--objective", "adpo", "--batch", "4", "--seq", "128"],
        &["--size", "7m", "--objective", "adpo", "--batch", "8", "--seq", "256", "--lora-r", "16"],
    ];
    for case in cases {
        let (planned, measured) = step(case);
        let ratio = planned / measured;
        assert!((0.9..=1.1).contains(&ratio), "{case:?}: planned {planned}, measured {measured}, ratio {ratio:.3}");
    }
}
