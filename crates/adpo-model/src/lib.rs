#![doc = include_str!("../README.md")]
//!
//! Models run on the CPU; with the feature `cuda` on NVIDIA GPUs, with `wgpu` on any that Vulkan, Metal or DirectX 12 reach
//! ([`DeviceChoice`]). A program that depends on this crate and turns on `cuda` downloads LLVM while it builds, for a code generator that is
//! never used, unless its workspace has a stand-in for `cubecl-llvm` in `[patch.crates-io]`, as this project's has
//! (`shims/cubecl-llvm`).
//!
//! Weights are loaded as f32, whatever the checkpoint stores; [`Llama::load_as`] loads them in bf16, in which the model then computes
//! and its key/value cache is. A model is trained by
//! moving it to an autodiff device with Burn's `Module::train`, and taken off it with `valid`; with [`Llama::with_lora`] only
//! adapters are.
#![warn(missing_docs)]

mod attention;
mod bert;
mod block;
mod checkpoint;
mod config;
mod device;
mod dtype;
mod error;
mod forward;
mod gguf;
pub mod kernels;
mod layers;
mod llama;
mod lora;
mod parameters;
mod random;
#[cfg(test)]
mod reference;
mod rope;
mod sample;
mod token_input;

pub use bert::{Bert, BertConfig};
pub use checkpoint::{SaveOptions, StoredTensor, TensorFile};
pub use config::{Family, LlamaConfig, RopeScaling};
pub use device::DeviceChoice;
pub use dtype::Dtype;
pub use error::ModelError;
pub use forward::Forward;
pub use gguf::{Gguf, GgufFile, GgufTokenizer};
pub use kernels::TokenScores;
pub use llama::Llama;
pub use lora::{LoraConfig, TargetModules, TrainableTokens};
pub use parameters::{ParameterMap, ParameterVisitor};
pub use sample::{
    Completion, Decoding, Drawn, Finish, Joining, SampleRequest, SampleRun, SamplingOptions, TokenLogProbs, sample, sampled_at_once,
};
pub use token_input::TokenInput;
