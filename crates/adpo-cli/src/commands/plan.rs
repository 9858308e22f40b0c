use adpo_model::{DeviceChoice, LlamaConfig};
use adpo_pipeline::{BENCH_SHAPES, PlanOptions, plan};
use anyhow::{Context, Result, anyhow};

use crate::args::PlanArgs;
use crate::memory;

pub(crate) fn run(args: &PlanArgs) -> Result<()> {
    let (recipe, run_dir) = super::recipe(args.recipe.as_deref(), args.run_dir.as_deref())?;
    let choice = args.device.device;
    let on_cpu = choice == DeviceChoice::Cpu;
    // A plan for a GPU is made anywhere; only the calibration needs one.
    let device = if args.no_calibration { None } else { choice.open().inspect_err(|e| eprintln!("no calibration: {e}")).ok() };
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
    if let Some(shape) = BENCH_SHAPES.iter().find(|shape| shape.name == name) {
        return Ok(shape.config()?);
    }
    let names: Vec<&str> = BENCH_SHAPES.iter().map(|shape| shape.name).collect();
    let text = std::fs::read_to_string(name).with_context(|| format!("`{name}` is neither {} nor a config.json", names.join(", ")))?;
    Ok(LlamaConfig::from_json(&text, name)?)
}

/// `80GB`, `78GiB`, `500MB`.
pub(crate) fn bytes(text: &str) -> Result<u64> {
    let units = [("GiB", f64::from(1 << 30)), ("MiB", f64::from(1 << 20)), ("GB", 1e9), ("MB", 1e6)];
    let amount = |unit| text.strip_suffix(unit).and_then(|number| number.trim().parse::<f64>().ok());
    let found = units.iter().find_map(|(unit, size)| amount(unit).map(|number| number * size));
    found
        .filter(|bytes| bytes.is_finite() && *bytes > 0.0)
        .map(|bytes| bytes as u64)
        .ok_or_else(|| anyhow!("give a number with GB, GiB, MB or MiB, such as 80GB"))
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn memory_is_a_number_with_its_unit() {
        assert_eq!(bytes("80GB").expect("a unit"), 80_000_000_000);
        assert_eq!(bytes("1.5 GiB").expect("a unit"), 3 << 29);
        for wrong in ["80", "GB", "-1GB", "80 gb", "infGB", ""] {
            assert!(bytes(wrong).expect_err(wrong).to_string().contains("80GB"));
        }
    }
}
