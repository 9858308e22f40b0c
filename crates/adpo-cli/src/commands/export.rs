use adpo_model::{DeviceChoice, Storage};
use adpo_pipeline::{Export, export};
use anyhow::Result;

use crate::args::{Dtype, ExportArgs};

pub(crate) fn run(args: &ExportArgs) -> Result<()> {
    let options = Export {
        model: &args.model,
        merge: args.merge,
        base: args.base.as_deref(),
        out: &args.out,
        control_token: (!args.keep_control_token).then_some(args.control_token.as_str()),
        storage: match args.dtype {
            Dtype::F32 => Storage::F32,
            Dtype::F16 => Storage::F16,
            Dtype::Bf16 => Storage::BF16,
        },
    };
    let exported = export(&options, &super::resources(None, false, DeviceChoice::Cpu)?)?;
    if args.json {
        return super::print(&serde_json::to_string_pretty(&exported)?);
    }
    let token = match exported.removed_token {
        Some(token) => format!("without {token}"),
        None if args.keep_control_token => "tokens as they were".to_owned(),
        None => format!("{} was not there", args.control_token),
    };
    super::print(&format!("written to {}: {} tokens, {token}", args.out.display(), exported.vocab_size))
}
