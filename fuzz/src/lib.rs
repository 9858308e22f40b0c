//! Targets for a fuzzer that is guided by coverage. CONTRIBUTING.md tells how to run them; `tests/tests/readers.rs` runs the same ones
//! with inputs of a fixed sequence.

#[cfg(feature = "models")]
pub mod models;
pub mod parquet;
pub mod target;
pub mod text;

use target::Target;

/// Every target of this build.
pub fn targets() -> impl Iterator<Item = &'static Target> {
    #[cfg(feature = "models")]
    let models = models::TARGETS;
    #[cfg(not(feature = "models"))]
    let models: &[Target] = &[];
    text::TARGETS.iter().chain(std::iter::once(&parquet::TARGET)).chain(models)
}
