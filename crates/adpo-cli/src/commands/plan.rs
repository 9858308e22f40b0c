use adpo_model::{DeviceChoice, LlamaConfig};
use adpo_pipeline::{BenchShape, PlanOptions, plan};
use anyhow::{Context, Result};

use crate::args::PlanArgs;
use crate::memory;

pub(crate) fn run(args: &PlanArgs) -> Result<()> {
    let (recipe, run_dir) = super::recipe(args.recipe.as_deref(), &args.set.overrides, args.run_dir.as_deref())?;
    let choice = args.device.device;
    let on_cpu = choice == DeviceChoice::Cpu;
    // A plan for a GPU is made anywhere; only the calibration needs one.
    let device = if args.no_calibration { None } else { choice.open().inspect_err(|e| log::warn!("no calibration: {e}")).ok() };
    let options = PlanOptions {
        shape: args.shape.as_deref().map(shape).transpose()?,
        read_data: !args.no_data,
        memory: args.memory.or_else(|| on_cpu.then(memory::of_machine).flatten()),
        on_cpu,
        calibrate: device.as_ref(),
        run_dir: &run_dir,
    };
    let resources = super::resources(args.data_dir.clone(), false, DeviceChoice::Cpu)?;
    let found = plan(&recipe, &resources, &options).map_err(|error| hint(error.into(), args.no_data))?;
    super::print(&if args.json { serde_json::to_string_pretty(&found)? } else { found.to_string() })
}

/// Data or a tokenizer that cannot be read need not stop a plan.
fn hint(error: anyhow::Error, no_data: bool) -> anyhow::Error {
    if no_data { error } else { error.context("to plan for the longest rows without reading any, pass --no-data") }
}

/// The shape of a bench, or of a `config.json`.
pub(super) fn shape(name: &str) -> Result<LlamaConfig> {
    if let Some(shape) = BenchShape::ALL.into_iter().find(|shape| shape.name() == name) {
        return Ok(shape.config()?);
    }
    let names: Vec<&str> = BenchShape::ALL.map(BenchShape::name).to_vec();
    let text = std::fs::read_to_string(name).with_context(|| format!("`{name}` is neither {} nor a config.json", names.join(", ")))?;
    Ok(LlamaConfig::from_json(&text, name)?)
}
