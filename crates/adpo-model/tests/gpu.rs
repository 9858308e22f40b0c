//! The whole model on a GPU beside the CPU, from the fixture checkpoints: logits, log-probs and every gradient, and sampling.
#![cfg(feature = "_cube")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use adpo_model::{DeviceChoice, Dtype, Llama, ParameterVisitor, SampleRequest, SamplingOptions, TokenInput, TokenScores, sample};
use burn::module::{Module, Param};
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};

const CHECKPOINTS: [&str; 2] = ["llama2-mha", "llama3-gqa-tied-sharded-bf16"];
/// Of the largest number; both sides compute in f32, in other orders.
const TOLERANCE: f32 = 2e-5;

fn gpu() -> Device {
    let choice = if cfg!(feature = "cuda") { DeviceChoice::Cuda(0) } else { DeviceChoice::Wgpu };
    choice.open().expect("a GPU, or Mesa's lavapipe")
}

/// A machine that got this as a program alone says where it put the fixtures.
fn fixture(name: &str) -> PathBuf {
    let fixtures = std::env::var_os("ADPO_FIXTURES");
    fixtures.map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures"), PathBuf::from).join(name)
}

fn load(name: &str, device: &Device) -> Llama {
    Llama::load(&fixture(name), device).expect("the fixture loads")
}

/// Three sequences in two rows, one of which is half padding.
fn input(device: &Device) -> (TokenInput, Vec<i32>) {
    let lengths: [&[(u32, usize)]; 2] = [&[(1, 33), (2, 17)], &[(3, 25), (0, 25)]];
    let (mut positions, mut segments) = (Vec::new(), Vec::new());
    for (segment, length) in lengths.into_iter().flatten() {
        positions.extend(0..*length as u32);
        segments.extend(vec![*segment; *length]);
    }
    let ids: Vec<u32> = (0..100).map(|i| 5 + i * 37 % 190).collect();
    let targets = ids.iter().skip(1).chain([&7]).map(|id| *id as i32).collect();
    (TokenInput::new(2, 50, &ids, &positions, &segments, device), targets)
}

fn off(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(1e-12_f32, |max, x| max.max(x.abs()));
    found.iter().zip(expected).fold(0.0, |max, (a, b)| if (a - b).abs() > max || a.is_nan() { (a - b).abs() } else { max }) / scale
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

struct Collect {
    gradients: Gradients,
    found: BTreeMap<String, Vec<f32>>,
}

impl ParameterVisitor for Collect {
    fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
        let gradient = param.val().grad(&self.gradients).expect("every parameter has a gradient");
        self.found.insert(name.to_owned(), host(gradient));
    }
}

/// Logits, and log-probs with entropies of all that is not padding: what is computed for that means nothing.
fn forward(model: &Llama) -> (Vec<f32>, TokenScores) {
    let (input, targets) = input(&model.device());
    let hidden = model.hidden(&input).reshape([100, model.config().hidden_size]);
    let logits = host(model.logits(hidden.clone()));
    let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [100]), &model.device());
    (logits, model.token_log_probs(hidden.slice(0..75), targets.slice(0..75)))
}

/// Logits, log-probs, and the gradients of the log-probs' sum, each under its name.
fn everything(name: &str, device: &Device) -> BTreeMap<String, Vec<f32>> {
    let model = load(name, device).train();
    let (logits, scores) = forward(&model);
    let log_probs = host(scores.log_probs.clone());
    let mut collect = Collect { gradients: scores.log_probs.sum().backward(), found: BTreeMap::new() };
    model.visit_parameters(&mut collect);
    let mut found = collect.found;
    found.insert("logits".into(), logits);
    found.insert("log-probs".into(), log_probs);
    found.insert("entropy".into(), host(scores.entropy));
    found
}

#[test]
fn logits_log_probs_and_gradients_are_those_of_the_cpu() {
    for name in CHECKPOINTS {
        let (expected, found) = (everything(name, &Device::flex()), everything(name, &gpu()));
        assert_eq!(expected.len(), found.len());
        for (what, expected) in &expected {
            let off = off(&found[what], expected);
            assert!(off <= TOLERANCE, "{name}: {what} is off by {off:e}");
        }
    }
}

#[test]
fn in_half_precision_logits_and_log_probs_are_those_of_the_cpu_within_its_rounding() {
    let half = [(Dtype::Bfloat16, 2e-2), (Dtype::Float16, 2.5e-3)];
    let known: Vec<_> = half.into_iter().filter(|(dtype, _)| dtype.check_device(&gpu()).is_ok()).collect();
    assert!(!known.is_empty(), "neither bf16 nor f16");
    let scores = |model: &Llama| {
        let (logits, scores) = forward(model);
        [("logits", logits), ("log-probs", host(scores.log_probs))]
    };
    for name in CHECKPOINTS {
        let expected = scores(&load(name, &Device::flex()));
        for (dtype, tolerance) in &known {
            let found = scores(&Llama::load_as(&fixture(name), *dtype, &gpu()).expect("the fixture loads"));
            for ((what, found), (_, expected)) in found.iter().zip(&expected) {
                let off = off(found, expected);
                assert!(off <= *tolerance, "{name} in {dtype:?}: {what} are off by {off:e}");
            }
        }
    }
}

#[test]
fn greedy_completions_are_those_of_the_cpu() {
    let prompts: [&[u32]; 3] = [&[5, 9, 14], &[40, 41, 42, 43, 44, 45, 46, 47], &[100]];
    let requests: Vec<SampleRequest<'_>> = prompts.iter().zip(0..).map(|(prompt, row)| SampleRequest { prompt, row }).collect();
    let options = SamplingOptions { temperature: 0.0, max_new_tokens: 20, ..SamplingOptions::default() };
    for name in CHECKPOINTS {
        let [cpu, gpu] = [Device::flex(), gpu()].map(|device| sample(&load(name, &device), &requests, &options).expect("it samples"));
        assert_eq!(cpu.completions, gpu.completions, "{name}");
    }
}
