//! Every kernel on its own: compared with the CPU's, then timed and compared with the device's peak.

use std::time::Instant;

use adpo_model::Dtype;
use burn::tensor::{DType, Device};
use serde::Serialize;

use super::cases::{Case, Numbers, Sizes, Work, cases};
use super::{BenchShape, median};
use crate::PipelineError;

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct KernelBench {
    /// The model whose layers give the kernels' shapes.
    pub shape: BenchShape,
    /// Cells at once.
    pub tokens: usize,
    /// Cells per row, for attention.
    pub seq: usize,
    /// How activations and weights are stored; statistics, moments and masters are f32.
    pub dtype: Dtype,
}

/// One line of figures.
#[derive(Debug, Clone, Serialize)]
pub struct KernelFigures {
    what: &'static str,
    /// Its name.
    pub kernel: &'static str,
    /// `forward` or `backward`.
    pub pass: &'static str,
    /// In words.
    pub shape: String,
    /// How activations and weights are stored.
    pub dtype: Dtype,
    /// Median over samples, each of many calls.
    pub median_s: f64,
    /// What it has to read and write at least, per second.
    pub gb_per_s: Option<f64>,
    /// What it has to multiply and add, per second.
    pub tflop_per_s: Option<f64>,
    /// Of the rate at which this device copies, or multiplies matrices, in this run.
    pub share: f64,
    /// Largest difference to the CPU in f32 on small shapes, relative to the largest number.
    pub off: f64,
    /// Whether that is little enough.
    pub agrees: bool,
}

/// Seconds per sample.
const SAMPLE: f64 = 0.05;
/// Samples; the median counts.
const SAMPLES: usize = 7;

/// Times every kernel; the first two lines are the copy and the matrix product that the others are held against. Whether the
/// kernels agree with the CPU stands in each line.
///
/// # Errors
/// [`PipelineError::Bench`] if the device does not know the dtype, or stops working.
pub fn bench_kernels(bench: &KernelBench, device: &Device) -> Result<Vec<KernelFigures>, PipelineError> {
    let dtype = match bench.dtype {
        Dtype::Float32 => DType::F32,
        Dtype::Float16 => DType::F16,
        Dtype::Bfloat16 => DType::BF16,
    };
    if !device.supports_dtype(dtype) {
        return Err(PipelineError::Bench(format!("this device does not know {dtype:?}; use --dtype float32")));
    }
    let sizes = Sizes::new(bench.shape, bench.tokens, bench.seq);
    let (mut copy, mut matmul) = (f64::NAN, f64::NAN);
    let mut figures = Vec::new();
    for case in cases() {
        let off = off(&case, dtype, device);
        let median_s = time(&case, &sizes, dtype, device)?;
        let work = (case.work)(&sizes, dtype.size());
        let (rate, limit) = match work {
            Work::Bytes(bytes) => (bytes / median_s, &mut copy),
            Work::Flops(flops) => (flops / median_s, &mut matmul),
        };
        if limit.is_nan() {
            *limit = rate;
        }
        figures.push(KernelFigures {
            what: "kernel",
            kernel: case.kernel,
            pass: case.pass,
            shape: (case.shape)(&sizes),
            dtype: bench.dtype,
            median_s,
            gb_per_s: matches!(work, Work::Bytes(_)).then_some(rate / 1e9),
            tflop_per_s: matches!(work, Work::Flops(_)).then_some(rate / 1e12),
            share: rate / *limit,
            off,
            agrees: off <= if dtype == DType::F32 { 2e-4 } else { 2e-2 },
        });
    }
    Ok(figures)
}

impl KernelFigures {
    /// All lines as a Markdown table.
    pub fn table(figures: &[Self]) -> String {
        let mut lines = vec!["| kernel | shape | time, ms | GB/s | TFLOP/s | share | off |\n|---|---|---|---|---|---|---|".to_owned()];
        for f in figures {
            let number = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.3}"));
            let (gb, tflop) = (number(f.gb_per_s), number(f.tflop_per_s));
            let wrong = if f.agrees { "" } else { " WRONG" };
            let (kernel, pass, shape) = (f.kernel, f.pass, &f.shape);
            let (ms, share, off) = (f.median_s * 1e3, f.share, f.off);
            lines.push(format!("| {kernel}, {pass} | {shape} | {ms:.3} | {gb} | {tflop} | {share:.2} | {off:.0e}{wrong} |"));
        }
        lines.join("\n")
    }
}

/// The largest difference between the device and the CPU, relative to the largest number of each output.
fn off(case: &Case, dtype: DType, device: &Device) -> f64 {
    let sizes = Sizes::small();
    let on = |device: &Device, stored: DType| (case.make)(&Numbers { device, rounded: dtype, stored }, &sizes)();
    let pairs = on(&Device::flex(), DType::F32).into_iter().zip(on(device, dtype));
    pairs.fold(0.0, |most, (expected, found)| {
        let [expected, found] = [expected, found].map(|tensor| tensor.into_data().iter::<f64>().collect::<Vec<_>>());
        let scale = expected.iter().fold(1e-30_f64, |max, x| max.max(x.abs()));
        let differences = expected.iter().zip(&found).map(|(a, b)| (a - b).abs() / scale);
        // NaN is as far off as can be.
        differences.fold(most, |most: f64, off| if off <= most { most } else { off })
    })
}

fn time(case: &Case, sizes: &Sizes, dtype: DType, device: &Device) -> Result<f64, PipelineError> {
    let run = (case.make)(&Numbers { device, rounded: dtype, stored: dtype }, sizes);
    let sample = |calls: usize| -> Result<f64, PipelineError> {
        let wait = || device.sync().map_err(|error| PipelineError::Bench(error.to_string()));
        wait()?;
        let start = Instant::now();
        for _ in 0..calls {
            drop(run());
        }
        wait()?;
        Ok(start.elapsed().as_secs_f64() / calls as f64)
    };
    // The first call compiles and tunes.
    sample(1)?;
    let calls = (SAMPLE / sample(2)?.max(1e-7)).ceil().clamp(1.0, 10_000.0) as usize;
    let mut seconds = (0..SAMPLES).map(|_| sample(calls)).collect::<Result<Vec<f64>, _>>()?;
    seconds.sort_by(f64::total_cmp);
    Ok(median(&seconds))
}
