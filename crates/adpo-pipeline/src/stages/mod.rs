//! The stages of a run. Which of them are there is the recipe's business; their order follows from what they need.
//!
//! A stage is a file of this folder with a type that implements [`Stage`] and a function that says which of its kind a run has.
//! `list.rs` lists these functions: a new stage is a new file and a line there.

mod annotate;
mod asking;
mod compare;
mod course;
mod data_check;
mod evaluate;
mod list;
mod preferences;
mod rehearsal;
mod run;
mod sample;
mod seed_run;
mod sft;
mod stage;
mod tokens;
mod train;

pub(crate) use asking::put;
pub(crate) use compare::{REPORT, SAMPLES, seed_report, shown_report};
pub(crate) use course::Course;
pub(crate) use data_check::check as check_data;
pub(crate) use list::stages;
pub(crate) use run::run;
pub(crate) use seed_run::SeedRun;
pub use stage::StageKind;
pub(crate) use stage::{DrawingLoad, Load, TRIPLES};
pub(crate) use train::both_pairs;
