use adpo_data::inspect as inspect_file;
use anyhow::Result;

use crate::args::InspectArgs;

pub(crate) fn inspect(args: &InspectArgs) -> Result<()> {
    let inspection = inspect_file(&args.file, args.show)?;
    if args.json { super::print(&serde_json::to_string_pretty(&inspection)?) } else { super::print(&inspection.to_string()) }
}
