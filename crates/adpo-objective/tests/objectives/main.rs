//! Every objective, from the recipe that names it to its losses, gradients and measures.

mod common;
mod golden;
mod invariants;
mod metrics;
mod recipes;
