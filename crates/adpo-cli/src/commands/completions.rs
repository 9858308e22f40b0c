use anyhow::Result;
use clap::CommandFactory;
use clap_complete::generate;

use crate::args::{Cli, CompletionsArgs};

pub(crate) fn run(args: &CompletionsArgs) -> Result<()> {
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "adpo", &mut script);
    super::print(&String::from_utf8(script)?)
}
