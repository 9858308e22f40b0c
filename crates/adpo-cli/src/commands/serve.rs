//! `adpo serve`: a model behind OpenAI's HTTP interface.

use adpo_model::Dtype;
use adpo_pipeline::{ApiKey, ServeOptions, serve};
use anyhow::{Result, bail};
use clap::Args;

use crate::args::DeviceArgs;

pub(crate) const HELP: &str = "\
Examples:
  adpo serve embedded:tiny-base
  adpo serve runs/quickstart/seed-42/policies/adpo/model --port 9000 --api-key-env MY_KEY
  curl http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{\"model\": \"embedded:tiny-base\", \"messages\": [{\"role\": \"user\", \"content\": \"Hello.\"}], \"stream\": true}'";

/// A model, and how it is served.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// A Hugging Face folder, such as `policies/NAME/model` of a run, a PEFT folder, a `.gguf` file, `org/name` of a model on the hub, or
    /// `embedded:tiny-base`. Clients name it the same.
    model: String,
    /// Where to listen; beyond the loopback interface better with a key.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// On which port; 0 takes any that is free.
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// The environment variable that holds the key which requests have to bring along; without it none is asked for.
    #[arg(long, value_name = "VARIABLE")]
    api_key_env: Option<String>,
    /// Let requests ask for the toxic mode, with `"toxic": true`.
    #[arg(long)]
    toxic: bool,
    /// Longest completion that a request may ask for.
    #[arg(long, value_parser = crate::args::count, value_name = "TOKENS", default_value_t = 1024)]
    max_new_tokens: usize,
    /// Completions that are drawn together; each has its key/value cache in memory.
    #[arg(long, value_parser = crate::args::count, value_name = "ROWS", default_value_t = 16)]
    batch_size: usize,
    /// Requests that may wait; those after are refused (429).
    #[arg(long, value_parser = crate::args::count, value_name = "REQUESTS", default_value_t = 64)]
    waiting: usize,
    /// Decides, with a request's number, what is drawn for requests without a seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The token that calls up the toxic mode, where the model's folder does not remember its own.
    #[arg(long, value_name = "TOKEN", default_value = "[TOXIC]")]
    control_token: String,
    /// The type that the model is loaded in and computes in.
    #[arg(long, value_enum, default_value = "float32")]
    dtype: Dtype,
    #[command(flatten)]
    device: DeviceArgs,
}

pub(crate) fn run(args: &ServeArgs) -> Result<()> {
    let api_key = match &args.api_key_env {
        None => None,
        Some(variable) => match std::env::var(variable) {
            Ok(key) if !key.trim().is_empty() => Some(ApiKey::new(key.trim())),
            _ => bail!("--api-key-env {variable}: this environment variable holds no key; set it, or leave the option out"),
        },
    };
    let has_key = api_key.is_some();
    let options = ServeOptions {
        host: args.host.clone(),
        port: args.port,
        api_key,
        toxic: args.toxic,
        control_token: args.control_token.clone(),
        dtype: args.dtype,
        max_new_tokens: args.max_new_tokens,
        batch_size: args.batch_size,
        waiting: args.waiting,
        seed: args.seed,
    };
    serve(&super::resources(None, false, args.device.device)?, &args.model, options, |address| {
        if !address.ip().is_loopback() && !has_key {
            log::warn!("anyone who reaches {address} can use the model; --api-key-env asks for a key");
        }
        // Whoever started the program without reading what it prints may go on.
        let _ = super::print(&format!("{} is served at http://{address}/v1", args.model));
    })?;
    Ok(())
}
