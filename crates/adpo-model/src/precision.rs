//! The type of a model's numbers in memory.

use burn::module::Param;
use burn::tensor::{DType, Device, FloatDType, Tensor};

use crate::parameters::ParameterMap;
use crate::{Llama, ModelError, Storage};

impl Llama {
    /// The type of the weights in memory, which activations have as well. Adapters are f32 whatever they stand beside; sums,
    /// norms, softmax and log-probs are computed in f32 at least.
    pub fn precision(&self) -> Storage {
        match self.embed_tokens.val().dtype() {
            DType::BF16 => Storage::BF16,
            DType::F16 => Storage::F16,
            _ => Storage::F32,
        }
    }

    /// The model with weights of another type; adapters stay f32. One weight at a time is in memory twice, if nobody else
    /// holds the model.
    #[must_use]
    pub fn with_precision(self, precision: Storage) -> Self {
        self.map_base(&mut Cast(precision.float()))
    }
}

impl Storage {
    /// Refuses a type that the device does not compute in.
    ///
    /// # Errors
    /// [`ModelError::Device`].
    pub fn check_device(self, device: &Device) -> Result<(), ModelError> {
        if device.supports_dtype(self.float()) {
            return Ok(());
        }
        let problem = format!("it does not compute in {} (WGSL has no bf16); use f32", self.torch_name());
        Err(ModelError::Device { device: format!("{device:?}"), problem })
    }

    fn float(self) -> FloatDType {
        match self {
            Self::F32 => FloatDType::F32,
            Self::F16 => FloatDType::F16,
            Self::BF16 => FloatDType::BF16,
        }
    }
}

struct Cast(FloatDType);

impl ParameterMap for Cast {
    fn map<const D: usize>(&mut self, _: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| tensor.cast(self.0))
    }
}
