use adpo_pipeline::{BaseRecipe, pretrain};
use anyhow::{Context, Result};

use crate::args::PretrainArgs;

pub(crate) fn run(args: &PretrainArgs) -> Result<()> {
    let recipe = BaseRecipe::from_file(&args.recipe)?;
    let data_dir = args.data_dir.as_ref().context("no data folder is known; pass --data-dir or set ADPO_DATA")?;
    let evaluation = pretrain(&recipe, data_dir, &args.out, &args.device.device.open()?)?;
    let bits = evaluation.bits_per_byte;
    let text = if args.json {
        serde_json::to_string_pretty(&evaluation)?
    } else {
        format!(
            "{} parameters, {} tokens trained\nheld-out bits per byte: {:.3} (trigram {:.3}, bigram {:.3}, unigram {:.3}) over {} bytes; \
             perplexity {:.2} over {} tokens\nwritten to {}",
            evaluation.parameters,
            evaluation.trained_tokens,
            bits.model,
            bits.trigram,
            bits.bigram,
            bits.unigram,
            evaluation.held_out_bytes,
            evaluation.perplexity,
            evaluation.held_out_tokens,
            args.out.join("model").display()
        )
    };
    super::print(&text)
}
