//! `adpo diff`: two policies of any two runs.

use adpo_pipeline::diff_runs;
use anyhow::Result;
use clap::Args;

pub(crate) const HELP: &str = "\
A and B are RUN_FOLDER[/seed-N]:SYSTEM; SYSTEM is `sft` (or `base`) or a policy's name. Without seed-N it is the first seed, without SYSTEM the
only policy. A policy's folder will do as well.
Examples:
  adpo diff runs/mine:sft runs/mine:adpo
  adpo diff runs/mine/seed-1:adpo runs/mine/seed-2:adpo
  adpo diff runs/before:adpo runs/after:adpo --show
  adpo diff runs/mine/seed-1/policies/dpo runs/mine/seed-1/policies/adpo --json";

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// What the other one is tested against.
    a: String,
    /// What is tested.
    b: String,
    /// Show what was said, harmful text included, and not only the ids of the prompts.
    #[arg(long)]
    show: bool,
    /// Print JSON for programs instead of text.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &DiffArgs) -> Result<()> {
    let diff = diff_runs(&args.a, &args.b, args.show)?;
    super::print(&if args.json { serde_json::to_string_pretty(&diff)? } else { diff.to_string() })
}
