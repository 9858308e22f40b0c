//! What the composed definitions share: they compute in the tensors' own dtype, in f32 where that is narrower.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{DType, FloatDType};

pub(super) fn shape<B: Backend, const D: usize>(tensor: &FloatTensor<B>) -> [usize; D] {
    tensor.shape().dims()
}

/// f16 and bf16 as f32, others as they are, and the dtype to go back to.
pub(super) fn widen<B: Backend>(tensor: FloatTensor<B>) -> (FloatTensor<B>, DType) {
    let dtype = tensor.dtype();
    let narrow = matches!(dtype, DType::F16 | DType::BF16);
    (if narrow { B::float_cast(tensor, FloatDType::F32) } else { tensor }, dtype)
}

/// Back from [`widen`].
pub(super) fn narrow<B: Backend>(tensor: FloatTensor<B>, dtype: DType) -> FloatTensor<B> {
    if tensor.dtype() == dtype { tensor } else { B::float_cast(tensor, dtype.into()) }
}
