//! Tells the program from which commit it was built, for `--version` and the head of its reports.

use std::env::var;
use std::path::Path;
use std::process::Command;

fn main() {
    let version = var("CARGO_PKG_VERSION").unwrap_or_default();
    let commit = commit();
    let told = commit.as_ref().map_or_else(String::new, |commit| format!(" ({commit})"));
    println!("cargo::rustc-env=ADPO_VERSION={version}{told}");
    println!("cargo::rustc-env=ADPO_TARGET={}", var("TARGET").unwrap_or_default());
    if let Some(commit) = commit {
        println!("cargo::rustc-env=ADPO_COMMIT={commit}");
    }
}

/// The commit that is checked out, and whether the code is another by now.
fn commit() -> Option<String> {
    if !Path::new("../../.git").exists() {
        println!("cargo::rerun-if-changed=build.rs");
        return None; // Not in its own checkout: whatever git would say is of another project.
    }
    // A new commit writes to this log; a change to the code rebuilds the crate anyway.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"]).unwrap_or_default();
    for path in [log.as_str(), "../../Cargo.lock", ".."].into_iter().filter(|path| Path::new(path).exists()) {
        println!("cargo::rerun-if-changed={path}");
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).filter(|commit| !commit.is_empty())?;
    let changed = git(&["status", "--porcelain", "--", "../../Cargo.lock", ".."]).is_none_or(|changes| !changes.is_empty());
    Some(commit + if changed { " with changes" } else { "" })
}

/// What git says, or nothing outside a checkout.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
