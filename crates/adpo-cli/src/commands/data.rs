use adpo_data::{Format, inspect as inspect_file};
use anyhow::Result;

use crate::args::InspectArgs;

pub(crate) fn inspect(args: &InspectArgs) -> Result<()> {
    let inspection = inspect_file(&args.file, args.show)?;
    if args.json { super::print(&serde_json::to_string_pretty(&inspection)?) } else { super::print(&inspection.to_string()) }
}

pub(crate) fn formats() -> Result<()> {
    super::print(&listed())
}

/// The formats, for `adpo help data`.
pub(crate) fn formats_help() -> String {
    format!(
        "Formats (detected from the first row, or stated in a recipe; JSONL, a JSON array, CSV or Parquet, gzipped or not):\n\n{}\nEach may \
         have `id`, `source`, `licence` and `system` as well; other columns are not read, and named.",
        listed()
    )
}

/// Each format's name, a row of it, and what that becomes.
fn listed() -> String {
    let format = |format: Format| format!("{}\n  {}\n  becomes {}\n", format.name(), format.example(), format.becomes());
    Format::ALL.map(format).join("\n")
}
