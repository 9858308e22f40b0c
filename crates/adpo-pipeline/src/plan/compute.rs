//! Floating-point operations of a stage, and how fast the device does them.

use std::time::Instant;

use adpo_model::kernels;
use adpo_train::PassSize;
use burn::tensor::{Device, Tensor};
use serde::Serialize;

use super::memory::{ReferenceMemory, Trainee};

/// What a training step reaches of the rate of its own matrix products: everything else takes time and counts as nothing. Measured
/// on the CPU (docs/performance.md, "The floor"); on GPUs nobody has measured it.
const SHARE_OF_PRODUCTS: f64 = 0.65;

/// What a stage computes, and how long that may take.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compute {
    /// Floating-point operations of all steps and of the reference, see [`FORMULA`].
    pub flops: f64,
    /// An estimate, where the device was calibrated.
    pub seconds: Option<f64>,
}

/// How operations are counted; a product of `[n, in]` and `[in, out]` is 2·n·in·out.
pub const FORMULA: &str = "forward 2·blocks·cells + 4·heads·head_dim·pairs·layers + 2·vocab·hidden·targets; backward twice the first, \
                           2.5 times the second, 3 times the third (logits are made again); \
                           gradient_checkpointing the blocks' forward once more; frozen weights have no gradient of their own; \
                           the reference is a forward pass";

/// Operations of forward and backward passes over `policy` and forward passes over `reference`.
pub(crate) fn flops(trainee: &Trainee, policy: &PassSize, reference: &PassSize, recompute: bool) -> f64 {
    let config = &trainee.config;
    let layers = config.num_hidden_layers as f64;
    let products = 2.0 * trainee.block_products() as f64 * layers;
    let adapters = 2.0 * trainee.adapter_numbers() as f64;
    let attention = 4.0 * (config.num_attention_heads * config.head_dim) as f64 * layers;
    let head = 2.0 * (config.vocab_size * config.hidden_size) as f64;
    let blocks = |pass: &PassSize| products * pass.cells as f64 + attention * pass.pairs as f64;
    let forward = |pass: &PassSize| blocks(pass) + head * pass.targets as f64;
    let again = if recompute { blocks(policy) } else { 0.0 };
    // The gradients of input and weight are a product each; that of a frozen weight is not made.
    let gradients = if trainee.has_adapters() { 1.0 } else { 2.0 };
    let backward = gradients * products * policy.cells as f64
        + 2.5 * attention * policy.pairs as f64
        + (1.0 + gradients) * head * policy.targets as f64;
    forward(policy) + again + backward + 3.0 * adapters * policy.cells as f64 + forward(reference)
}

/// What the reference computes: once where it is precomputed, in each epoch where it is live. An anchor with the control token asks
/// for more; that is left out.
pub(crate) fn reference_passes(reference: ReferenceMemory, epoch: PassSize, all: PassSize) -> PassSize {
    match reference {
        ReferenceMemory::None => PassSize::default(),
        ReferenceMemory::Precomputed => epoch,
        ReferenceMemory::SharedBase | ReferenceMemory::LiveCopy => all,
    }
}

/// Seconds for so many operations at a device's rate.
pub(crate) fn seconds(flops: f64, rate: f64) -> f64 {
    flops / (rate * SHARE_OF_PRODUCTS)
}

/// Operations per second of the model's widest layer, over `cells` cells: the fastest of a few products, since whatever else the
/// machine does only ever makes one slower.
pub(crate) fn calibrate(trainee: &Trainee, cells: usize, device: &Device) -> f64 {
    const SECONDS: f64 = 0.5;
    const MOST_CELLS: usize = 4096;
    let (d, f, n) = (trainee.config.hidden_size, trainee.config.intermediate_size, cells.clamp(1, MOST_CELLS));
    let (x, weight) = (Tensor::<2>::ones([n, d], device), Tensor::<2>::ones([f, d], device));
    let product = || {
        let y = kernels::linear(x.clone(), weight.clone());
        // Read back: a GPU has only been asked until then.
        drop(y.slice([0..1, 0..1]).into_data());
    };
    let timed = || {
        let started = Instant::now();
        kernels::on_pool(product);
        started.elapsed().as_secs_f64()
    };
    let (started, mut fastest) = (Instant::now(), timed());
    while started.elapsed().as_secs_f64() < SECONDS {
        fastest = fastest.min(timed());
    }
    2.0 * (n * d) as f64 * f as f64 / fastest
}
