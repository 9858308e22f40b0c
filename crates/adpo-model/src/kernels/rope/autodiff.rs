use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::FloatTensor;

use super::RopeOps;

#[derive(Debug)]
struct Rope;

impl<B: RopeOps> Backward<B, 1> for Rope {
    type State = (FloatTensor<B>, FloatTensor<B>, bool);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let (cos, sin, inverse) = ops.state;
        unary::<B, _>(ops.parents, ops.node, gradients, |grad| B::fused_rope(grad, cos, sin, !inverse));
    }
}

impl<B: RopeOps, C: CheckpointStrategy> RopeOps for Autodiff<B, C> {
    fn fused_rope(x: FloatTensor<Self>, cos: FloatTensor<Self>, sin: FloatTensor<Self>, inverse: bool) -> FloatTensor<Self> {
        let prepared = Rope.prepare::<C>([x.node()]).compute_bound().stateful();
        let [x, cos, sin] = [x, cos, sin].map(<FloatTensor<Self>>::into_primitive);
        let y = B::fused_rope(x, cos.clone(), sin.clone(), inverse);
        match prepared {
            OpsKind::Tracked(prepared) => prepared.finish((cos, sin, inverse), y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }
}
