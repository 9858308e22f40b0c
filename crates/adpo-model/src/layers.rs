//! The layers that a block is made of.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::kernels;
use crate::lora::Lora;

/// `x / sqrt(mean(x²) + ε) · weight` (Zhang & Sennrich 2019).
#[derive(Module, Debug)]
pub(crate) struct RmsNorm {
    pub(crate) weight: Param<Tensor<1>>,
    #[module(skip)]
    pub(crate) epsilon: f64,
}

/// `x · Wᵀ` with `W` `[out, in]`, as checkpoints store it, and what a low-rank adapter adds.
#[derive(Module, Debug)]
pub(crate) struct Linear {
    pub(crate) weight: Param<Tensor<2>>,
    pub(crate) adapter: Option<Lora>,
}

/// `(silu(x·Gᵀ) ⊙ x·Uᵀ)·Dᵀ` (Shazeer 2020).
#[derive(Module, Debug)]
#[expect(clippy::struct_field_names, reason = "the names of the checkpoint's tensors")]
pub(crate) struct SwiGlu {
    pub(crate) gate_proj: Linear,
    pub(crate) up_proj: Linear,
    pub(crate) down_proj: Linear,
}

impl RmsNorm {
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        kernels::rms_norm(x, self.weight.val(), self.epsilon)
    }
}

impl Linear {
    pub(crate) fn new(weight: Param<Tensor<2>>) -> Self {
        Self { weight, adapter: None }
    }

    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let y = kernels::linear(x.clone(), self.weight.val());
        match &self.adapter {
            None => y,
            Some(adapter) => y + adapter.forward(x),
        }
    }
}

impl SwiGlu {
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.down_proj.forward(kernels::swiglu(self.gate_proj.forward(x.clone()), self.up_proj.forward(x)))
    }
}
