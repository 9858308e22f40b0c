use adpo_pipeline::{BENCH_SHAPES, BenchObjective, BenchShape, StepBench, bench_sample, bench_step, default_device};
use anyhow::{Result, ensure};

use crate::args::{BenchObjective as ObjectiveArg, BenchSampleArgs, BenchStepArgs, Size};

pub(crate) fn step(args: &BenchStepArgs) -> Result<()> {
    ensure!(args.steps > 0 && args.batch > 0 && args.seq > 1, "--steps and --batch must be at least 1, --seq at least 2");
    let objective = match args.objective {
        ObjectiveArg::Sft => BenchObjective::Sft,
        ObjectiveArg::Dpo => BenchObjective::Dpo,
        ObjectiveArg::Adpo => BenchObjective::Adpo,
    };
    let bench = StepBench {
        shape: shape(args.size),
        objective,
        batch: args.batch,
        seq: args.seq,
        steps: args.steps,
        precomputed_reference: args.precomputed_reference,
        lora_r: args.lora_r,
        rows: args.rows.as_deref(),
    };
    super::print(&serde_json::to_string(&bench_step(&bench, &default_device())?)?)
}

pub(crate) fn sample(args: &BenchSampleArgs) -> Result<()> {
    ensure!(args.batch > 0 && args.seq > 0 && args.generate > 0, "--batch, --seq and --generate must be at least 1");
    let figures = bench_sample(shape(args.size), args.batch, args.seq, args.generate, &default_device())?;
    super::print(&serde_json::to_string(&figures)?)
}

fn shape(size: Size) -> BenchShape {
    BENCH_SHAPES[match size {
        Size::M7 => 0,
        Size::M15 => 1,
        Size::M110 => 2,
        Size::B1 => 3,
        Size::B7 => 4,
    }]
}
