//! The layers that a block is made of.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::kernels;
use crate::lora::Lora;
use crate::parameters::{ParameterMap, ParameterVisitor};

/// `x / sqrt(mean(x²) + ε) · weight` (Zhang & Sennrich 2019).
#[derive(Module, Debug)]
pub(crate) struct RmsNorm {
    pub(crate) weight: Param<Tensor<1>>,
    #[module(skip)]
    pub(crate) epsilon: f64,
}

/// `x · Wᵀ + b` with `W` `[out, in]`, as checkpoints store it, and what a low-rank adapter adds.
#[derive(Module, Debug)]
pub(crate) struct Linear {
    pub(crate) weight: Param<Tensor<2>>,
    /// `[out]`, in few families and layers.
    pub(crate) bias: Option<Param<Tensor<1>>>,
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
    /// Shows its parameters; `name` is the layer's.
    pub(crate) fn visit(&self, name: &str, visitor: &mut impl ParameterVisitor) {
        visitor.visit(&format!("{name}.weight"), &self.weight);
    }

    /// Replaces its parameters.
    pub(crate) fn map(self, name: &str, map: &mut impl ParameterMap) -> Self {
        Self { weight: map.map(&format!("{name}.weight"), self.weight), ..self }
    }

    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        kernels::rms_norm(x, self.weight.val(), self.epsilon)
    }
}

impl Linear {
    pub(crate) fn new(weight: Param<Tensor<2>>) -> Self {
        Self { weight, bias: None, adapter: None }
    }

    /// Shows its parameters but those of its adapter; `name` is the layer's.
    pub(crate) fn visit(&self, name: &str, visitor: &mut impl ParameterVisitor) {
        visitor.visit(&format!("{name}.weight"), &self.weight);
        if let Some(bias) = &self.bias {
            visitor.visit(&format!("{name}.bias"), bias);
        }
    }

    /// Replaces its parameters but those of its adapter.
    pub(crate) fn map(self, name: &str, map: &mut impl ParameterMap) -> Self {
        let weight = map.map(&format!("{name}.weight"), self.weight);
        Self { weight, bias: self.bias.map(|bias| map.map(&format!("{name}.bias"), bias)), ..self }
    }

    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let y = kernels::linear(x.clone(), self.weight.val());
        let y = self.bias.iter().fold(y, |y, bias| y + bias.val().unsqueeze());
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
