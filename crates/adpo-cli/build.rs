//! Tells the program from which commit it was built, for the head of its reports.

use std::path::Path;
use std::process::Command;

fn main() {
    if !Path::new("../../.git").exists() {
        return; // Not in its own checkout: whatever git would say is of another project.
    }
    // A new commit writes to this log; a change to the code rebuilds the crate anyway.
    for path in ["../../.git/logs/HEAD", "../../Cargo.lock", ".."].into_iter().filter(|path| Path::new(path).exists()) {
        println!("cargo::rerun-if-changed={path}");
    }
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]).filter(|commit| !commit.is_empty()) else { return };
    let changed = git(&["status", "--porcelain", "--", "../../Cargo.lock", ".."]).is_none_or(|changes| !changes.is_empty());
    println!("cargo::rustc-env=ADPO_COMMIT={commit}{}", if changed { " with changes" } else { "" });
}

/// What git says, or nothing outside a checkout.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
