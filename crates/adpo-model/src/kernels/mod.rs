//! The operations that a Llama's training step and sampler spend their time in, each fused into one.
//!
//! One room per operation: its contract, which is a function on tensors, and its definition, composed of Burn's own operations,
//! in `mod.rs` or `composed.rs`; its derivative in `autodiff.rs`, where the backward pass is an operation of its own; its CPU
//! implementation, f32, in `flex.rs`; its GPU implementation (features `cuda` and `wgpu`), f32, bf16 and f16, in `cube.rs`. Other
//! dtypes and backends compute the definition. Results are bit-equal from run to run with the same number of threads.

mod adamw;
mod attention;
mod autodiff;
mod composed;
mod cpu;
#[cfg(feature = "_cube")]
mod cube;
mod embedding;
mod linear;
mod rms_norm;
mod rope;
mod swiglu;
mod token_log_probs;

pub use adamw::{AdamWOps, AdamWState, AdamWStep, adamw, sum_of_squares};
pub use attention::{AttentionMask, AttentionOps, attention, attention_cached, attention_on_matrix_instructions};
#[cfg(feature = "_source")]
pub use cube::source::cuda_sources;
pub use embedding::{EmbeddingOps, embedding};
pub use linear::{LinearOps, linear};
pub use rms_norm::{RmsNormOps, rms_norm};
pub use rope::{RopeOps, rope};
pub use swiglu::{SwiGluOps, swiglu};
pub use token_log_probs::{TokenLogProbOps, TokenScores, token_log_probs};

/// Into how many parts the CPU's work is cut at most where the cut decides what is summed first: examples of a micro-batch, rows that are
/// sampled together, the vocabulary. It does not follow the number of threads, so the results do not either.
pub const PARTS: usize = 4;

/// Runs `work` on a thread of the pool that the CPU's kernels share. On any other thread each kernel hands its part over and
/// sleeps until it is done, which is a tenth of a small model's step; a GPU does not care.
pub fn on_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}
