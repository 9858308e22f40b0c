#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod alarm;
mod bench;
mod checkpoint;
mod error;
mod events;
mod gradients;
mod metrics;
mod optimizer;
mod options;
mod order;
mod passes;
mod preference;
mod progress;
mod reference;
mod run;
mod scoring;
mod sft;
mod task;
mod triples;

pub use bench::{BenchStep, bench_preference, bench_sft};
pub use error::TrainError;
pub use metrics::StepRecord;
pub use options::{LrScheduler, TrainOptions};
pub use passes::{PassSize, SideBySide, preference_passes, sft_passes};
pub use preference::train_preference;
pub use progress::Progress;
pub use reference::{Reference, ReferenceLogProbs, model_hash};
pub use run::Trained;
pub use scoring::{Completion, completion_log_probs};
pub use sft::{SftExample, mean_nll, train_sft};
pub use task::passes_at_once;
