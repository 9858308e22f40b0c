use burn::backend::AutodiffBackend;
use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};

use super::AttentionOps;
use crate::kernels::autodiff::register;

#[derive(Debug)]
struct Attention;

impl<B: AttentionOps> Backward<B, 3> for Attention {
    type State = ([FloatTensor<B>; 5], [IntTensor<B>; 2]);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let grad = gradients.consume::<B>(&ops.node);
        let ([q, k, v, o, lse], [segments, branches]) = ops.state;
        let (dq, dk, dv) = B::fused_attention_backward(q, k, v, o, lse, grad, segments, branches);
        register::<B, 3>(gradients, ops.parents.map(|node| node.map(|node| node.id)), [dq, dk, dv]);
    }
}

impl<B: AttentionOps, C: CheckpointStrategy> AttentionOps for Autodiff<B, C> {
    fn fused_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        segments: IntTensor<Self>,
        branches: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let prepared = Attention.prepare::<C>([q.node(), k.node(), v.node()]).compute_bound().stateful();
        let [q, k, v] = [q, k, v].map(<FloatTensor<Self>>::into_primitive);
        let (o, lse) = B::fused_attention(q.clone(), k.clone(), v.clone(), segments.clone(), branches.clone());
        let o = match prepared {
            OpsKind::Tracked(prepared) => prepared.finish(([q, k, v, o.clone(), lse.clone()], [segments, branches]), o),
            OpsKind::UnTracked(prepared) => prepared.finish(o),
        };
        (o, <Self as AutodiffBackend>::from_inner(lse))
    }

    fn on_matrix_instructions(q: FloatTensor<Self>) -> bool {
        B::on_matrix_instructions(q.into_primitive())
    }
}
