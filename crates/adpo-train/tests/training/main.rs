//! Training runs from end to end on random models of a few thousand weights.

mod accumulation;
mod behaviour;
mod common;
mod kills;
mod lora;
mod precision;
mod reference;
mod refusals;
mod resume;
mod sharing;
mod tensorboard;
mod token_cache;
