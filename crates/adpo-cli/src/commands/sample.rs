use adpo_pipeline::StageKind;
use anyhow::Result;

use super::stage;
use crate::args::SampleArgs;

pub(crate) fn run(args: &SampleArgs) -> Result<()> {
    #[cfg(feature = "http")]
    if !args.endpoint.endpoint.is_empty() {
        return endpoint::draw(args);
    }
    stage::run(&args.stage, Some(StageKind::Sample))
}

#[cfg(feature = "http")]
mod endpoint {
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use adpo_data::RowFile;
    use adpo_eval::{ChatEndpoint, ChatModel, EndpointOptions, RequestLimits, SampleOptions, SampleReport, sample_endpoint};
    use anyhow::{Context, Result, bail};

    use crate::args::SampleArgs;

    pub(super) fn draw(args: &SampleArgs) -> Result<()> {
        let given = &args.endpoint;
        let needed = (&given.model, &given.prompts, &given.out);
        let (Some(model), Some(prompts), Some(out)) = needed else { bail!("--endpoint needs --model, --prompts and --out") };
        let limits = RequestLimits { concurrency: given.concurrency, timeout_s: given.timeout, ..RequestLimits::default() };
        let options =
            EndpointOptions { api_key_env: given.api_key_env.clone(), limits, ..EndpointOptions::new(given.endpoint.clone(), model) };
        let draw = SampleOptions {
            samples: given.samples,
            temperature: given.temperature,
            top_p: given.top_p,
            max_tokens: given.max_tokens,
            seed: given.seed,
        };
        let endpoint = ChatEndpoint::open(&options, None)?;
        let (rows, read) = RowFile::new(find(prompts, args.stage.data_dir.as_deref())).prompts()?;
        if let Some(columns) = read.columns_not_read() {
            log::info!("note: {}: columns that are not read: {columns}", prompts.display());
        }
        let rows: Vec<_> = rows.into_iter().map(Arc::new).collect();
        let report = sample_endpoint(&endpoint, &rows, &draw, out).with_context(|| format!("drawing responses into {}", out.display()))?;
        for warning in endpoint.warnings() {
            log::warn!("{warning}");
        }
        let text = if args.stage.run.json {
            serde_json::to_string_pretty(&report)?
        } else {
            format!("{}: {} prompts answered, {} kept, {} unanswered", out.display(), report.answered, report.kept, report.unanswered)
        };
        super::super::print(&text)?;
        complete(&report)
    }

    /// A file as it is given, or else below the data folder, where a recipe's files are.
    fn find(prompts: &Path, data_dir: Option<&Path>) -> PathBuf {
        match data_dir.map(|folder| folder.join(prompts)) {
            Some(below) if !prompts.exists() && below.exists() => below,
            _ => prompts.to_owned(),
        }
    }

    fn complete(report: &SampleReport) -> Result<()> {
        if report.unanswered == 0 {
            return Ok(());
        }
        let reasons: Vec<String> = report.errors.iter().map(|(error, count)| format!("{count} × {error}")).collect();
        bail!("{} prompts lack a response; the same command asks for them again\n  {}", report.unanswered, reasons.join("\n  "))
    }
}
