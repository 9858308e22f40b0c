use adpo_data::{Format, inspect as inspect_file};
use anyhow::Result;

use crate::args::InspectArgs;

pub(crate) fn inspect(args: &InspectArgs) -> Result<()> {
    let inspection = inspect_file(&args.file, args.show)?;
    if args.json { super::print(&serde_json::to_string_pretty(&inspection)?) } else { super::print(&inspection.to_string()) }
}

pub(crate) fn formats() -> Result<()> {
    let format = |format: Format| format!("{}\n  {}\n  becomes {}\n", format.name(), format.example(), format.becomes());
    super::print(&Format::ALL.map(format).join("\n"))
}
