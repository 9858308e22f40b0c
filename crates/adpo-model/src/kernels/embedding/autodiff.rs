use burn::backend::TensorMetadata;
use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::{FloatTensor, IntTensor};

use super::EmbeddingOps;

#[derive(Debug)]
struct Embedding;

impl<B: EmbeddingOps> Backward<B, 1> for Embedding {
    type State = (IntTensor<B>, usize);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let (ids, vocab) = ops.state;
        unary::<B, _>(ops.parents, ops.node, gradients, |grad| B::fused_embedding_backward(grad, ids, vocab));
    }
}

impl<B: EmbeddingOps, C: CheckpointStrategy> EmbeddingOps for Autodiff<B, C> {
    fn fused_embedding(weight: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self> {
        let prepared = Embedding.prepare::<C>([weight.node()]).compute_bound().stateful();
        let vocab = weight.shape()[0];
        let y = B::fused_embedding(weight.into_primitive(), ids.clone());
        match prepared {
            OpsKind::Tracked(prepared) => prepared.finish((ids, vocab), y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }
}
