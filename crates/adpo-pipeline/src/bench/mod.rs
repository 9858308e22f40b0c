//! Timings of a training step, of sampling and of kernels, in the terms of PyTorch scripts of the same meaning.

mod cases;
mod kernels;
mod load;
mod rows;

use std::path::Path;

use adpo_data::{Encoded, EncodedTriple, derive_seed};
use adpo_model::{Dtype, Llama, LlamaConfig, SampleRequest, SamplingOptions, sample};
use adpo_objective::{Adpo, Dpo, Objective};
use adpo_train::{BenchStep, Reference, SftExample, TrainOptions, bench_preference, bench_sft};
use burn::tensor::Device;
use serde::Serialize;

use crate::PipelineError;
use crate::lora::Lora;
use crate::plan::{Place, ReferenceMemory, Rows, Setting, Trainee, calibrate, seconds};

pub use kernels::{KernelBench, KernelFigures, bench_kernels};
pub use load::{LoadFigures, bench_load};
pub use rows::{RowsBench, RowsFigures, bench_rows};

/// The shapes that are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum BenchShape {
    /// The embedded base's.
    #[cfg_attr(feature = "clap", value(name = "7m"))]
    M7,
    /// Of llama2.c's `stories15M`.
    #[cfg_attr(feature = "clap", value(name = "15m"))]
    M15,
    /// Of llama2.c's `stories110M`.
    #[cfg_attr(feature = "clap", value(name = "110m"))]
    M110,
    /// TinyLlama's.
    #[cfg_attr(feature = "clap", value(name = "1b"))]
    B1,
    /// Llama 2's smallest.
    #[cfg_attr(feature = "clap", value(name = "7b"))]
    B7,
}

impl BenchShape {
    /// All of them, the smallest first.
    pub const ALL: [Self; 5] = [Self::M7, Self::M15, Self::M110, Self::B1, Self::B7];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::M7 => "7m",
            Self::M15 => "15m",
            Self::M110 => "110m",
            Self::B1 => "1b",
            Self::B7 => "7b",
        }
    }

    /// Width, layers, query heads, key/value heads, feed-forward width, vocabulary.
    pub const fn dims(self) -> [usize; 6] {
        match self {
            Self::M7 => [256, 6, 8, 8, 688, 4096],
            Self::M15 => [288, 6, 6, 6, 768, 32_000],
            Self::M110 => [768, 12, 12, 12, 2048, 32_000],
            Self::B1 => [2048, 22, 32, 4, 5632, 32_000],
            Self::B7 => [4096, 32, 32, 32, 11_008, 32_000],
        }
    }

    /// As a `config.json` would state it.
    ///
    /// # Errors
    /// [`PipelineError`] if no model can have this shape.
    pub fn config(self) -> Result<LlamaConfig, PipelineError> {
        let [hidden, layers, heads, kv_heads, ffn, vocab] = self.dims();
        let json = serde_json::json!({
            "model_type": "llama", "vocab_size": vocab, "hidden_size": hidden, "intermediate_size": ffn,
            "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
            "max_position_embeddings": 4096, "tie_word_embeddings": false, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
        });
        Ok(LlamaConfig::from_json(&json.to_string(), self.name())?)
    }
}

/// What a measured step computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
pub enum BenchObjective {
    /// Mean NLL of the responses.
    Sft,
    /// DPO at β 0.3.
    Dpo,
    /// ADPO at β 0.3, γ 0.2.
    Adpo,
}

/// What is measured.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct StepBench<'a> {
    /// What the model is called in the figures.
    pub size: &'a str,
    /// The model's shape; weights are random.
    pub config: &'a LlamaConfig,
    /// What a step computes.
    pub objective: BenchObjective,
    /// Sequences per role.
    pub batch: usize,
    /// Batches per step.
    pub gradient_accumulation_steps: usize,
    /// Several sequences in a row of so many tokens.
    pub packing: Option<usize>,
    /// Tokens per sequence; the second half is the response.
    pub seq: usize,
    /// Steps that count, after two that do not.
    pub steps: usize,
    /// The reference's log-probs are given.
    pub precomputed_reference: bool,
    /// A prompt is computed once for all of its responses.
    pub share_prompts: bool,
    /// The rank of adapters on every linear layer; the weights are then frozen, but for the rows of one token.
    pub lora_r: Option<usize>,
    /// The type of weights and activations.
    pub dtype: Dtype,
    /// Blocks keep their inputs alone, and compute the rest again.
    pub gradient_checkpointing: bool,
    /// JSONL of encoded rows instead of random ids.
    pub rows: Option<&'a Path>,
    /// The same steps are taken on the CPU in float32 as well, and their losses compared.
    pub check: bool,
}

/// One line of figures.
#[derive(Debug, Clone, Serialize)]
pub struct StepFigures {
    what: &'static str,
    size: String,
    objective: BenchObjective,
    batch: usize,
    gradient_accumulation_steps: usize,
    packing: Option<usize>,
    seq: usize,
    steps: usize,
    precomputed_reference: bool,
    share_prompts: bool,
    lora_r: Option<usize>,
    dtype: Dtype,
    gradient_checkpointing: bool,
    parameters: usize,
    loss: f64,
    /// Of all steps that count.
    tokens: usize,
    cells: usize,
    median_s: f64,
    min_s: f64,
    tokens_per_s: f64,
    /// What `adpo plan` says of such a step.
    planned_bytes: u64,
    planned_flops: f64,
    /// By the rate of matrix products that was measured after the steps.
    planned_s: f64,
    /// Physical memory that the process had at most, beyond what it had before the model; where the system tells (Linux, CPU).
    peak_resident_bytes: Option<u64>,
    /// How far a loss is from the CPU's in float32, relative to it: the largest of all steps, where they were checked.
    pub largest_difference: Option<f64>,
    /// Whether that is no more than rounding.
    pub agrees: Option<bool>,
}

/// What is measured of sampling.
#[derive(Debug, Clone, Copy)]
pub struct SampleBench<'a> {
    /// What the model is called in the figures.
    pub size: &'a str,
    /// The model's shape; weights are random.
    pub config: &'a LlamaConfig,
    /// Sequences at once.
    pub batch: usize,
    /// Tokens per prompt.
    pub seq: usize,
    /// New tokens per sequence.
    pub generate: usize,
    /// The type of weights, activations and key/value cache.
    pub dtype: Dtype,
}

/// One line of figures for sampling.
#[derive(Debug, Clone, Serialize)]
pub struct SampleFigures {
    what: &'static str,
    size: String,
    batch: usize,
    seq: usize,
    generate: usize,
    dtype: Dtype,
    median_s: f64,
    new_tokens_per_s: f64,
}

/// Times training steps: reference forward (unless precomputed), policy forward over all roles in one batch, loss,
/// backward, global clip at 1.0, AdamW.
///
/// # Errors
/// [`PipelineError`] if the rows cannot be read or a step fails; losses that do not agree are no error.
pub fn bench_step(bench: &StepBench<'_>, device: &Device) -> Result<StepFigures, PipelineError> {
    let before = resident("VmRSS:");
    let rows = rows(bench)?;
    let options = options(bench)?;
    let (parameters, timed) = steps(bench, &rows, &options, device)?;
    let peak_resident_bytes =
        resident("VmHWM:").zip(before).filter(|_| *device == Device::flex()).map(|(peak, before)| peak.saturating_sub(before));
    let planned = planned(bench, &rows, &options, device)?;
    let largest_difference = bench.check.then(|| difference(bench, &rows, &options, &timed)).transpose()?;
    let counted = &timed[WARM_UP..];
    let mut sorted: Vec<f64> = counted.iter().map(|s| s.seconds).collect();
    sorted.sort_by(f64::total_cmp);
    let tokens: usize = counted.iter().map(|s| s.tokens).sum();
    Ok(StepFigures {
        what: "step",
        size: bench.size.to_owned(),
        objective: bench.objective,
        batch: bench.batch,
        gradient_accumulation_steps: bench.gradient_accumulation_steps,
        packing: bench.packing,
        seq: bench.seq,
        steps: bench.steps,
        precomputed_reference: bench.precomputed_reference,
        share_prompts: bench.share_prompts,
        lora_r: bench.lora_r,
        dtype: bench.dtype,
        gradient_checkpointing: bench.gradient_checkpointing,
        parameters,
        loss: counted.last().map_or(f64::NAN, |s| s.loss),
        tokens,
        cells: counted.iter().map(|s| s.cells).sum(),
        median_s: median(&sorted),
        min_s: sorted.first().copied().unwrap_or(f64::NAN),
        tokens_per_s: tokens as f64 / sorted.iter().sum::<f64>(),
        planned_bytes: planned.bytes,
        planned_flops: planned.flops,
        planned_s: planned.seconds,
        peak_resident_bytes,
        largest_difference,
        agrees: largest_difference.map(|off| off <= tolerance(bench.dtype)),
    })
}

/// Steps that do not count.
const WARM_UP: usize = 2;

fn options(bench: &StepBench<'_>) -> Result<TrainOptions, PipelineError> {
    let options = TrainOptions {
        batch_size: bench.batch,
        gradient_accumulation_steps: bench.gradient_accumulation_steps,
        packing: bench.packing,
        share_prompts: bench.share_prompts,
        dtype: bench.dtype,
        gradient_checkpointing: bench.gradient_checkpointing,
        learning_rate: 1e-5,
        shuffle: false,
        ..TrainOptions::default()
    };
    options.validate()?;
    Ok(options)
}

/// The model's number of parameters, and its steps, the two that do not count first.
fn steps(
    bench: &StepBench<'_>,
    rows: &[EncodedTriple],
    options: &TrainOptions,
    device: &Device,
) -> Result<(usize, Vec<BenchStep>), PipelineError> {
    let model = Llama::init(bench.config, 0, device);
    let parameters = model.num_parameters();
    let steps = bench.steps + WARM_UP;
    let policy = |model: Llama| match bench.lora_r {
        None => Ok(model),
        Some(r) => {
            // As in a run, where the newest token's rows are trained too.
            let newest = model.config().vocab_size as u32 - 1;
            model.with_lora(&Lora { r, lora_alpha: 2.0 * r as f64, ..Lora::default() }.config(&[newest], bench.size), 0)
        }
    };
    let timed = match bench.objective {
        BenchObjective::Sft => bench_sft(policy(model)?, &rows.iter().map(sft_row).collect::<Vec<_>>(), options, steps)?,
        BenchObjective::Dpo | BenchObjective::Adpo => {
            let adpo = bench.objective == BenchObjective::Adpo;
            let objective = if adpo { Objective::Adpo(Adpo::default()) } else { Objective::Dpo(Dpo { beta: 0.3, ..Dpo::default() }) };
            let reference = if bench.precomputed_reference {
                let cache = std::env::temp_dir().join(format!("adpo-bench-{}", std::process::id()));
                let reference = Reference::precomputed(&model, rows, &objective, options, device, &cache)?;
                std::fs::remove_dir_all(&cache).map_err(PipelineError::io(&cache))?;
                reference
            } else {
                Reference::live(model.clone().with_dtype(options.dtype), device)
            };
            bench_preference(policy(model)?, &reference, rows, &objective, options, steps)?
        }
    };
    Ok((parameters, timed))
}

/// The largest difference of a loss from the CPU's in float32, relative to it.
fn difference(bench: &StepBench<'_>, rows: &[EncodedTriple], options: &TrainOptions, found: &[BenchStep]) -> Result<f64, PipelineError> {
    let (_, exact) = steps(bench, rows, &TrainOptions { dtype: Dtype::Float32, ..options.clone() }, &Device::flex())?;
    let differences = found.iter().zip(&exact).map(|(found, exact)| (found.loss - exact.loss).abs() / exact.loss.abs());
    // NaN stays.
    Ok(differences.fold(0.0, |most: f64, off| if most.is_nan() || off <= most { most } else { off }))
}

/// What rounding may make of a loss, relative to it: AdamW takes a whole step for a gradient whose sign is rounding.
const fn tolerance(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::Float32 => 1e-4,
        Dtype::Float16 => 5e-3,
        Dtype::Bfloat16 => 2e-2,
    }
}

/// What `adpo plan` says of a step.
struct Planned {
    bytes: u64,
    flops: f64,
    seconds: f64,
}

/// The plan for the steps of a bench.
fn planned(bench: &StepBench<'_>, rows: &[EncodedTriple], options: &TrainOptions, device: &Device) -> Result<Planned, PipelineError> {
    let lora = bench.lora_r.map(|r| Lora { r, ..Lora::default() }.config(&[], bench.size));
    let reference = match bench.objective {
        BenchObjective::Sft => ReferenceMemory::None,
        _ if bench.precomputed_reference => ReferenceMemory::Precomputed,
        _ if lora.is_some() => ReferenceMemory::SharedBase,
        _ => ReferenceMemory::LiveCopy,
    };
    let rows = match bench.objective {
        BenchObjective::Sft => Rows::Sft(rows.iter().map(sft_row).collect()),
        BenchObjective::Dpo => Rows::Triples(rows.to_vec(), Objective::Dpo(Dpo::default())),
        BenchObjective::Adpo => Rows::Triples(rows.to_vec(), Objective::Adpo(Adpo::default())),
    };
    let trainee = Trainee::new(bench.config.clone(), lora.as_ref())?;
    let setting = Setting { trainee, reference, train: options.clone(), pairs: 1, place: Place::new(*device == Device::flex()) };
    let (memory, passes) = setting.largest(&rows);
    let rate = calibrate(&setting.trainee, passes.first().map_or(1, |pass| pass.cells), device);
    let flops = setting.flops_per_step(rows);
    Ok(Planned { bytes: memory.peak, flops, seconds: seconds(flops, rate) })
}

/// A figure of this process's memory in bytes, by its name in Linux's `/proc/self/status`.
fn resident(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let kilobytes: u64 = text.lines().find_map(|line| line.strip_prefix(name))?.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Times sampling at temperature 1 without stop ids: the median of three runs after a warm-up.
///
/// # Errors
/// [`PipelineError`] if sampling fails.
pub fn bench_sample(bench: &SampleBench<'_>, device: &Device) -> Result<SampleFigures, PipelineError> {
    let SampleBench { size, config, batch, seq, generate, dtype } = *bench;
    let model = Llama::init(config, 0, device).with_dtype(dtype);
    let prompts: Vec<Vec<u32>> = (0..batch).map(|row| ids(model.config().vocab_size, seq, row as u64)).collect();
    let requests: Vec<SampleRequest<'_>> = prompts.iter().zip(0..).map(|(prompt, row)| SampleRequest { prompt, row }).collect();
    let options = SamplingOptions {
        temperature: 1.0,
        top_k: None,
        top_p: None,
        max_new_tokens: generate,
        stop: Vec::new(),
        seed: 0,
        batch_size: batch,
    };
    let runs = (0..4).map(|_| sample(&model, &requests, &options).map(|run| run.seconds)).collect::<Result<Vec<f64>, _>>()?;
    let mut counted = runs[1..].to_vec();
    counted.sort_by(f64::total_cmp);
    let median_s = median(&counted);
    let new_tokens_per_s = (batch * generate) as f64 / median_s;
    Ok(SampleFigures { what: "generate", size: size.to_owned(), batch, seq, generate, dtype, median_s, new_tokens_per_s })
}

fn rows(bench: &StepBench<'_>) -> Result<Vec<EncodedTriple>, PipelineError> {
    if let Some(path) = bench.rows {
        return rows::read(path);
    }
    let half = bench.seq / 2;
    let ids = |row: usize, role: u64, length: usize| ids(bench.config.vocab_size, length, (row as u64) << 2 | role);
    let response = |row: usize, role: u64| ids(row, role, bench.seq - half);
    let rows = (bench.steps + WARM_UP) * bench.batch * bench.gradient_accumulation_steps;
    Ok((0..rows).map(|i| triple(i, ids(i, 0, half), [response(i, 1), response(i, 2), response(i, 3)])).collect())
}

fn triple(row: usize, prompt: Vec<u32>, [chosen, rejected, toxic]: [Vec<u32>; 3]) -> EncodedTriple {
    EncodedTriple { row: row.to_string(), prompt, chosen, rejected, toxic: Some(toxic), toxic_prompt: None }
}

fn sft_row(triple: &EncodedTriple) -> SftExample {
    let ids: Vec<u32> = triple.prompt.iter().chain(&triple.chosen).copied().collect();
    let trained = (0..ids.len()).map(|i| i >= triple.prompt.len()).collect();
    SftExample { row: triple.row.clone(), encoded: Encoded { ids, trained } }
}

fn ids(vocab: usize, length: usize, stream: u64) -> Vec<u32> {
    let vocab = vocab as u64;
    (0..length).map(|i| 3 + (derive_seed(stream, &i.to_string()) % (vocab - 3)) as u32).collect()
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}
