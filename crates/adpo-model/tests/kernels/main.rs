//! Every kernel against its definition in f64: the value, and each gradient, on shapes of all kinds.
//!
//! The composed definition runs in f64 against plain Rust and central differences of it; the f32 kernel against the definition.

mod adamw;
mod attention;
mod harness;
mod head;
mod layers;
