//! Fine-tuning of Llama-family models in Burn: supervised, and by preferences with Adversarial DPO or its family.
//!
//! Its own step loop, because three things matter here that a general one does not give: a mean over *all* tokens
//! or examples of a step however it is cut into forward passes, a frozen reference that is provably the starting
//! point, and a resume that ends bit-equal to a run that was never killed.
//!
//! ```no_run
//! use adpo_train::{SftExample, TrainOptions, train_sft};
//! # fn f(model: adpo_model::Llama, examples: Vec<SftExample>) -> Result<(), adpo_train::TrainError> {
//! let options = TrainOptions { learning_rate: 5e-4, num_train_epochs: 2, ..TrainOptions::default() };
//! let trained = train_sft(model, &examples, &options, "runs/sft".as_ref())?;
//! println!("{:?}", trained.history.last().and_then(|step| step.get("loss")));
//! # Ok(()) }
//! ```
#![warn(missing_docs)]

mod alarm;
mod bench;
mod checkpoint;
mod error;
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
pub use reference::{Reference, ReferenceLogProbs, model_hash};
pub use run::Trained;
pub use scoring::{Completion, completion_log_probs};
pub use sft::{SftExample, mean_nll, train_sft};
pub use task::passes_at_once;
