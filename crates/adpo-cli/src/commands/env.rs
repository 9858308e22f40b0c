//! `adpo env`: what a bug report needs.

use std::fmt::Write as _;

use adpo_model::{DeviceChoice, ModelError};
use anyhow::Result;
use serde::Serialize;

use crate::args::EnvArgs;
use crate::memory;

/// Features that a build may have, and whether this one has them.
const FEATURES: [(&str, bool); 6] = [
    ("http", cfg!(feature = "http")),
    ("https", cfg!(feature = "https")),
    ("serve", cfg!(feature = "serve")),
    ("parquet", cfg!(feature = "parquet")),
    ("cuda", cfg!(feature = "cuda")),
    ("wgpu", cfg!(feature = "wgpu")),
];

/// Variables that change what the program does; those that begin with `ADPO_` or `HF_` do as well.
const VARIABLES: [&str; 6] = ["RAYON_NUM_THREADS", "MALLOC_ARENA_MAX", "TMPDIR", "NO_COLOR", "CLICOLOR", "CUDA_VISIBLE_DEVICES"];

#[derive(Serialize)]
struct Environment {
    version: &'static str,
    commit: Option<&'static str>,
    target: &'static str,
    features: Vec<&'static str>,
    features_left_out: Vec<&'static str>,
    threads: usize,
    memory_bytes: Option<u64>,
    /// Each device's name, and why it cannot be had where it cannot.
    devices: Vec<(String, Option<String>)>,
    variables: Vec<(String, String)>,
}

pub(crate) fn run(args: &EnvArgs) -> Result<()> {
    let environment = Environment::now();
    super::print(&if args.json { serde_json::to_string_pretty(&environment)? } else { environment.text() })
}

impl Environment {
    fn now() -> Self {
        let features = |there: bool| FEATURES.iter().filter(|(_, has)| *has == there).map(|(name, _)| *name).collect();
        let devices = [DeviceChoice::Cpu, DeviceChoice::Cuda(0), DeviceChoice::Wgpu];
        let mut variables: Vec<(String, String)> = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .filter(|(name, _)| VARIABLES.contains(&name.as_str()) || name.starts_with("ADPO_") || name.starts_with("HF_"))
            .map(|(name, value)| {
                let shown = shown(&name, &value);
                (name, shown)
            })
            .collect();
        variables.sort();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            commit: option_env!("ADPO_COMMIT"),
            target: env!("ADPO_TARGET"),
            features: features(true),
            features_left_out: features(false),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: memory::of_machine(),
            devices: devices.map(|device| (device.to_string(), device.open().err().map(|error| problem(device, &error)))).into(),
            variables,
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "{name:<11} {value}");
        };
        line("adpo", env!("ADPO_VERSION"));
        line("target", self.target);
        line("features", &format!("{} (left out: {})", listed(&self.features), listed(&self.features_left_out)));
        line("threads", &self.threads.to_string());
        let memory = self.memory_bytes.map_or_else(|| "unknown".to_owned(), |bytes| format!("{:.1} GB", bytes as f64 / 1e9));
        line("memory", &memory);
        for (device, problem) in &self.devices {
            line("device", &format!("{device}: {}", problem.as_deref().unwrap_or("is there")));
        }
        for (name, value) in &self.variables {
            line("variable", &format!("{name}={value}"));
        }
        text
    }
}

/// What an error says besides the device's name.
fn problem(device: DeviceChoice, error: &ModelError) -> String {
    let error = error.to_string();
    error.strip_prefix(&format!("device `{device}`: ")).unwrap_or(&error).to_owned()
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// A variable's value, without what nobody else may know: values of names that sound like a secret, and credentials inside a URL.
fn shown(name: &str, value: &str) -> String {
    if ["TOKEN", "KEY", "SECRET", "PASSWORD"].iter().any(|secret| name.to_uppercase().contains(secret)) {
        return "(set, not shown)".to_owned();
    }
    match (value.find("://"), value.find('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}(not shown){}", &value[..scheme + 3], &value[at..]),
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn no_secret_is_shown() {
        assert_eq!(shown("HF_TOKEN", "hf_secret"), "(set, not shown)");
        assert_eq!(shown("ADPO_api_key", "sk-secret"), "(set, not shown)");
        assert_eq!(shown("HF_ENDPOINT", "https://me:secret@mirror.example/x"), "https://(not shown)@mirror.example/x");
        assert_eq!(shown("HF_HOME", "/data/@hub"), "/data/@hub");
    }
}
