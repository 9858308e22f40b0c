//! What is allocated at one time, as the allocator counts it. One test at a time: the counts are the whole process's.

use std::sync::Mutex;

use adpo_data::Encoded;
use adpo_model::{Dtype, Llama, LlamaConfig, SaveOptions, kernels};
use adpo_train::{SftExample, TrainOptions, bench_sft};
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

static ALONE: Mutex<()> = Mutex::new(());

/// What `work` gives, and the most bytes that it had allocated at one time.
fn peak_of<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let done = work();
    (done, (ALLOCATOR.peak_usage() - before) as f64)
}

/// 6.6 M weights, of which the largest tensor has a twelfth.
fn config() -> LlamaConfig {
    let json = serde_json::json!({
        "model_type": "llama", "vocab_size": 2048, "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 7,
        "num_attention_heads": 8, "max_position_embeddings": 64,
    });
    LlamaConfig::from_json(&json.to_string(), "test").expect("a supported shape")
}

const LARGEST: f64 = 2048.0 * 256.0;

#[test]
fn a_checkpoint_becomes_bf16_tensor_by_tensor() {
    let _alone = ALONE.lock().expect("the other tests passed");
    let (folder, device) = (tempfile::tempdir().expect("a folder"), Device::flex());
    let model = Llama::init(&config(), 1, &device);
    let weights = model.num_parameters() as f64;
    for stored in [Dtype::Float32, Dtype::Bfloat16] {
        model.save(folder.path(), &SaveOptions { dtype: stored, ..SaveOptions::default() }).expect("it is saved");
        for (dtype, bytes) in [(Dtype::Float32, 4.0), (Dtype::Bfloat16, 2.0)] {
            let (loaded, peak) = peak_of(|| Llama::load_as(folder.path(), dtype, &device).expect("it loads"));
            assert_eq!(loaded.dtype(), dtype);
            let beyond = peak - bytes * weights;
            println!("{stored:?} as {dtype:?}: {weights} weights, {beyond} bytes beyond them");
            assert!(beyond > 0.0 && beyond < LARGEST, "{stored:?} as {dtype:?}: {beyond} bytes beyond the weights");
        }
    }
}

#[test]
fn an_optimiser_step_has_one_copy_of_the_parameters_and_more_of_one_tensor_alone() {
    let _alone = ALONE.lock().expect("the other tests passed");
    // So few cells that activations are nothing: what is left is weights, gradients and the optimiser's state.
    let example = SftExample { row: "one".into(), encoded: Encoded { ids: vec![3, 4, 5, 6], trained: vec![true; 4] } };
    let train = |dtype| {
        let options = TrainOptions { batch_size: 1, dtype, learning_rate: 1e-3, ..TrainOptions::default() };
        let model = Llama::init(&config(), 1, &Device::flex());
        (model.num_parameters() as f64, bench_sft(model, std::slice::from_ref(&example), &options, 3).expect("steps"))
    };
    // Each thread keeps what it rearranges its products in.
    train(Dtype::Float32);
    for dtype in [Dtype::Float32, Dtype::Bfloat16] {
        let ((weights, steps), peak) = peak_of(|| train(dtype));
        assert!(steps[2].loss < steps[0].loss, "nothing was trained");
        // Weights, gradients and two moments, f32; or bf16 weights and gradients, f32 masters and two moments.
        let beyond = peak - 16.0 * weights;
        println!("{dtype:?}: {weights} weights, {beyond} bytes beyond 16 of each");
        assert!(beyond > 0.0 && beyond < 2.5 * 4.0 * LARGEST, "{dtype:?}: {beyond} bytes beyond 16 of each of {weights} weights");
    }
}

#[test]
fn log_probs_never_hold_all_logits_of_a_batch() {
    let _alone = ALONE.lock().expect("the other tests passed");
    let device = Device::flex().autodiff();
    let (n, width) = (512, 64);
    let beyond = |vocab: usize| {
        let hidden = Tensor::<2>::random([n, width], Distribution::Uniform(-1.0, 1.0), &device).require_grad();
        let head = Tensor::<2>::random([vocab, width], Distribution::Uniform(-1.0, 1.0), &device).require_grad();
        let targets = Tensor::<1, Int>::from_data(TensorData::new((0..n as i32).collect(), [n]), &device);
        let (gradients, peak) = peak_of(|| kernels::token_log_probs(hidden.clone(), head.clone(), targets).log_probs.sum().backward());
        assert!(head.grad(&gradients).is_some());
        // The head's gradient is there at the end, and no larger number of anything.
        peak - 4.0 * (vocab * width) as f64
    };
    let (small, large) = (beyond(2_000), beyond(64_000));
    println!("{small} and {large} bytes beyond the head's gradient, all logits would be {}", 4 * n * 64_000);
    assert!(large < (n * 64_000) as f64, "a quarter of all logits: {small} bytes with 2,000 tokens, {large} with 64,000");
}
