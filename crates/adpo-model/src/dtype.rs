//! The type of a model's numbers: in memory, in a checkpoint, in a recipe.

use burn::module::Param;
use burn::tensor::{DType, Device, FloatDType, Tensor};
use serde::{Deserialize, Serialize};

use crate::parameters::ParameterMap;
use crate::{Llama, ModelError};

/// How numbers are held, in a checkpoint or in memory; named as PyTorch, transformers and vLLM do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// Single precision.
    #[default]
    #[cfg_attr(feature = "clap", value(alias = "f32"))]
    Float32,
    /// IEEE half precision.
    #[cfg_attr(feature = "clap", value(alias = "f16"))]
    Float16,
    /// 16 bits, the exponent of single precision.
    #[cfg_attr(feature = "clap", value(alias = "bf16"))]
    Bfloat16,
}

impl Dtype {
    /// What recipes, PyTorch and transformers call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Float16 => "float16",
            Self::Bfloat16 => "bfloat16",
        }
    }

    /// Bytes of one number.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Float32 => 4,
            Self::Float16 | Self::Bfloat16 => 2,
        }
    }

    /// Whether it is [`Dtype::Float32`], the default of every recipe.
    pub fn is_float32(&self) -> bool {
        *self == Self::Float32
    }

    /// Refuses a type that the device does not compute in.
    ///
    /// # Errors
    /// [`ModelError::Device`].
    pub fn check_device(self, device: &Device) -> Result<(), ModelError> {
        if device.supports_dtype(self.float()) {
            return Ok(());
        }
        let problem = format!("it does not compute in {} (WGSL has no bfloat16); use float32", self.name());
        Err(ModelError::Device { device: format!("{device:?}"), problem })
    }

    fn float(self) -> FloatDType {
        match self {
            Self::Float32 => FloatDType::F32,
            Self::Float16 => FloatDType::F16,
            Self::Bfloat16 => FloatDType::BF16,
        }
    }
}

impl Llama {
    /// The type of the weights in memory, which activations have as well. Adapters are float32 whatever they stand beside; sums,
    /// norms, softmax and log-probs are computed in float32 at least.
    pub fn dtype(&self) -> Dtype {
        match self.embed_tokens.val().dtype() {
            DType::BF16 => Dtype::Bfloat16,
            DType::F16 => Dtype::Float16,
            _ => Dtype::Float32,
        }
    }

    /// The model with weights of another type; adapters stay float32. One weight at a time is in memory twice, if nobody else
    /// holds the model.
    #[must_use]
    pub fn with_dtype(self, dtype: Dtype) -> Self {
        self.map_base(&mut Cast(dtype.float()))
    }
}

struct Cast(FloatDType);

impl ParameterMap for Cast {
    fn map<const D: usize>(&mut self, _: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| tensor.cast(self.0))
    }
}
