//! LoRA (Hu et al. 2021, arXiv 2106.09685): the base is frozen, and beside some of its weights `W` lies a trained product of
//! two thin matrices, `y = x·Wᵀ + s·(x·Aᵀ)·Bᵀ`. `W + s·B·A` is made when adapters are merged, and never in training.

mod config;
mod token_rows;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};

pub(crate) use config::LINEAR_LAYERS;
pub use config::{LoraConfig, TargetModules, TrainableTokens};
pub(crate) use token_rows::TokenRows;

use crate::kernels;
use crate::random::Stream;

/// The thin matrices beside one weight `[out, in]`.
#[derive(Module, Debug)]
pub(crate) struct Lora {
    /// A, `[r, in]`.
    pub(crate) a: Param<Tensor<2>>,
    /// B, `[out, r]`.
    pub(crate) b: Param<Tensor<2>>,
    /// s.
    #[module(skip)]
    scaling: f64,
}

impl Lora {
    /// As in PEFT, A is uniform in ±1/√in (He et al. 2015 with a = √5) and B zero, so that nothing changes before the first step.
    pub(crate) fn init(name: &str, [out, input]: [usize; 2], config: &LoraConfig, seed: u64, device: &Device) -> Self {
        let bound = 1.0 / (input as f64).sqrt();
        let mut stream = Stream::new(seed, &format!("{name}.lora_A.weight"));
        let a: Vec<f32> = (0..config.r * input).map(|_| ((2.0 * stream.uniform() - 1.0) * bound) as f32).collect();
        Self {
            a: Param::from_tensor(Tensor::from_data(TensorData::new(a, [config.r, input]), device)),
            b: Param::from_tensor(Tensor::zeros([out, config.r], device)),
            scaling: config.scaling(),
        }
    }

    /// `s·(x·Aᵀ)·Bᵀ`, `[n, out]` of `x` `[n, in]`, computed in the type of `x`; A and B are f32, so that small steps move them.
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let [a, b] = [&self.a, &self.b].map(|matrix| matrix.val().cast(x.dtype()));
        kernels::linear(kernels::linear(x, a) * self.scaling, b)
    }

    /// `s·B·A`, `[out, in]`.
    pub(crate) fn product(&self) -> Tensor<2> {
        self.b.val().matmul(self.a.val()) * self.scaling
    }
}
