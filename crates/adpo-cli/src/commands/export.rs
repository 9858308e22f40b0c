use adpo_model::DeviceChoice;
use adpo_pipeline::{Export, Strike, export};
use anyhow::Result;

use crate::args::ExportArgs;

pub(crate) fn run(args: &ExportArgs) -> Result<()> {
    let options = Export {
        model: &args.model,
        merge: args.merge,
        base: args.base.as_deref(),
        out: &args.out,
        force: args.force,
        strike: match &args.control_token {
            _ if args.keep_control_token => Strike::Nothing,
            Some(token) => Strike::Token(token),
            None => Strike::Known,
        },
        dtype: args.dtype,
    };
    let exported = export(&options, &super::resources(None, false, DeviceChoice::Cpu)?)?;
    if args.json {
        return super::print(&serde_json::to_string_pretty(&exported)?);
    }
    let token = match exported.removed_token {
        Some(token) => format!("without {token}"),
        None if args.keep_control_token => "tokens as they were".to_owned(),
        None => "there was no control token".to_owned(),
    };
    super::print(&format!("written to {}: {} tokens, {token}", args.out.display(), exported.vocab_size))
}
