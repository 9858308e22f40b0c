//! `adpo runs`: what runs there are.

use std::path::PathBuf;

use adpo_pipeline::list_runs;
use anyhow::Result;
use clap::Args;

pub(crate) const HELP: &str = "\
Examples:
  adpo runs
  adpo runs elsewhere/runs --json | jq -r '.[] | select(.state.name == \"finished\") | .folder'
A state is `finished`, `at STAGE` (running, or killed in it), `after STAGE` (stopped or killed behind it), `not started` or `damaged`.";

#[derive(Debug, Args)]
pub(crate) struct RunsArgs {
    /// A folder of run folders, or one run's own.
    #[arg(default_value = "runs")]
    folder: PathBuf,
    /// Print JSON for programs instead of a table.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &RunsArgs) -> Result<()> {
    let runs = list_runs(&args.folder)?;
    super::print(&if args.json { serde_json::to_string_pretty(&runs)? } else { runs.to_string() })
}
