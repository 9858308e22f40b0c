use adpo_model::DeviceChoice;
use adpo_pipeline::{
    KernelBench, KernelFigures, RowsBench, SampleBench, StepBench, bench_kernels, bench_load, bench_rows, bench_sample, bench_step,
};
use anyhow::{Result, ensure};
use serde::Serialize;
use serde_json::Value;

use crate::args::{BenchKernelsArgs, BenchLoadArgs, BenchRowsArgs, BenchSampleArgs, BenchStepArgs};
use crate::{memory, text};

pub(crate) fn step(args: &BenchStepArgs) -> Result<()> {
    let BenchStepArgs { steps, batch, gradient_accumulation_steps, packing, seq, .. } = *args;
    let counts = [steps, batch, gradient_accumulation_steps, packing.unwrap_or(1)];
    ensure!(!counts.contains(&0), "--steps, --batch, --gradient-accumulation-steps and --packing must be at least 1");
    ensure!(seq > 1, "--seq must be at least 2");
    let bench = StepBench {
        size: &args.size,
        config: &super::plan::shape(&args.size)?,
        objective: args.objective,
        batch,
        gradient_accumulation_steps,
        packing,
        seq,
        steps,
        precomputed_reference: args.precomputed_reference,
        share_prompts: !args.no_share_prompts,
        lora_r: args.lora_r,
        dtype: args.dtype,
        gradient_checkpointing: args.gradient_checkpointing,
        rows: args.rows.as_deref(),
        check: args.check,
    };
    let device = args.device.device.open()?;
    let figures = print_with_peak("step", args.json, || Ok(bench_step(&bench, &device)?))?;
    let off = figures.largest_difference.unwrap_or_default();
    ensure!(figures.agrees != Some(false), "a loss is off the CPU's by {off:.1e} of it, more than rounding explains");
    Ok(())
}

pub(crate) fn rows(args: &BenchRowsArgs) -> Result<()> {
    ensure!(args.max_length > 1 && args.batch > 0, "--max-length must be at least 2, --batch at least 1");
    let BenchRowsArgs { file, out, checkpoint, max_length, batch, json } = args;
    let bench = RowsBench { source: file, out, checkpoint, max_length: *max_length, batch: *batch };
    let figures = bench_rows(&bench, &super::resources(None, false, DeviceChoice::Cpu)?)?;
    print("rows", *json, &serde_json::to_value(figures)?)
}

pub(crate) fn sample(args: &BenchSampleArgs) -> Result<()> {
    ensure!(args.batch > 0 && args.seq > 0 && args.generate > 0, "--batch, --seq and --generate must be at least 1");
    let BenchSampleArgs { batch, seq, generate, .. } = *args;
    let bench = SampleBench { size: &args.size, config: &super::plan::shape(&args.size)?, batch, seq, generate, dtype: args.dtype };
    let device = args.device.device.open()?;
    print_with_peak("sample", args.json, || Ok(bench_sample(&bench, &device)?)).map(drop)
}

pub(crate) fn load(args: &BenchLoadArgs) -> Result<()> {
    let device = args.device.device.open()?;
    print_with_peak("load", args.json, || Ok(bench_load(&args.checkpoint, args.dtype, &device)?)).map(drop)
}

/// A line for each kernel: of a table, or of JSON with the table on standard error. A failure where a kernel is wrong.
pub(crate) fn kernels(args: &BenchKernelsArgs) -> Result<()> {
    ensure!(args.seq > 0 && args.tokens >= args.seq, "--seq must be at least 1, --tokens at least --seq");
    let bench = KernelBench { shape: args.size, tokens: args.tokens, seq: args.seq, dtype: args.dtype };
    let figures = bench_kernels(&bench, &args.device.device.open()?)?;
    let table = KernelFigures::table(&figures);
    if args.json {
        figures.iter().try_for_each(|figures| super::print(&serde_json::to_string(figures)?))?;
        log::info!("{table}");
    } else {
        super::print(&table)?;
    }
    let wrong: Vec<&str> = figures.iter().filter(|f| !f.agrees).map(|f| f.kernel).collect();
    ensure!(wrong.is_empty(), "these differ from the CPU by more than rounding: {}", wrong.join(", "));
    Ok(())
}

/// Figures, to which `peak_allocated_bytes` is added: what was allocated on this machine at one time while they were made.
fn print_with_peak<F: Serialize>(name: &str, json: bool, measure: impl FnOnce() -> Result<F>) -> Result<F> {
    let (figures, peak) = memory::peak_of(measure);
    let figures = figures?;
    let mut printed = serde_json::to_value(&figures)?;
    printed["peak_allocated_bytes"] = peak.into();
    print(name, json, &printed)?;
    Ok(figures)
}

/// For programs a line of JSON, for people a figure a line.
fn print(name: &str, json: bool, figures: &Value) -> Result<()> {
    if json {
        return super::print(&figures.to_string());
    }
    let lines = figures.as_object().into_iter().flatten().map(|(key, value)| text::of(&key.replace('_', " "), value));
    super::print(&std::iter::once(name.to_owned()).chain(lines).collect::<Vec<_>>().join("\n"))
}
