//! Rows of a table by id, and the gradient of the table.

mod autodiff;
#[cfg(feature = "_cube")]
mod cube;
mod flex;

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, TensorMetadata, backend_extension};
use burn::tensor::{DType, FloatDType, IndexingUpdateOp, Int, Shape, Tensor};

use super::composed::{narrow, shape, widen};

#[cfg(feature = "_source")]
pub(in crate::kernels) use cube::sources;

/// `[n, d]`: the rows of `weight` `[vocab, d]` that `ids` `[n]` name. Ids outside the table are the caller's error.
pub fn embedding(weight: Tensor<2>, ids: Tensor<1, Int>) -> Tensor<2> {
    use burn::backend::Dispatch;
    Tensor::from_dispatch(<Dispatch as EmbeddingOps>::fused_embedding(weight.into_dispatch(), ids.into_dispatch()))
}

/// The backend's side of [`embedding`]; the bodies here define it.
#[backend_extension(Autodiff, Flex, Cube: cfg(feature = "_cube"))]
pub trait EmbeddingOps: Backend {
    /// `[n, d]`.
    fn fused_embedding(weight: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self> {
        Self::float_select(weight, 0, ids)
    }

    /// `[vocab, d]`: each row the sum of the rows of `grad` `[n, d]` with its id, summed in f32 at least.
    fn fused_embedding_backward(grad: FloatTensor<Self>, ids: IntTensor<Self>, vocab: usize) -> FloatTensor<Self> {
        composed_backward::<Self>(grad, ids, vocab)
    }
}

fn composed_backward<B: Backend>(grad: FloatTensor<B>, ids: IntTensor<B>, vocab: usize) -> FloatTensor<B> {
    let [_, d] = shape::<B, 2>(&grad);
    let device = grad.device();
    let (grad, dtype) = widen::<B>(grad);
    let wide = if grad.dtype() == DType::F64 { FloatDType::F64 } else { FloatDType::F32 };
    let zeros = B::float_zeros(Shape::from([vocab, d]), &device, wide);
    narrow::<B>(B::float_select_assign(zeros, 0, ids, grad, IndexingUpdateOp::Add), dtype)
}
