use burn::backend::AutodiffBackend;
use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;

use super::RmsNormOps;
use crate::kernels::autodiff::register;

#[derive(Debug)]
struct RmsNorm;

impl<B: RmsNormOps> Backward<B, 2> for RmsNorm {
    type State = [FloatTensor<B>; 3];

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let grad = gradients.consume::<B>(&ops.node);
        let [x, weight, scale] = ops.state;
        let (dx, dw) = B::fused_rms_norm_backward(x, weight, scale, grad);
        register::<B, 2>(gradients, ops.parents.map(|node| node.map(|node| node.id)), [dx, dw]);
    }
}

impl<B: RmsNormOps, C: CheckpointStrategy> RmsNormOps for Autodiff<B, C> {
    fn fused_rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f64) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let prepared = RmsNorm.prepare::<C>([x.node(), weight.node()]).compute_bound().stateful();
        let (x, weight) = (x.into_primitive(), weight.into_primitive());
        let (y, scale) = B::fused_rms_norm(x.clone(), weight.clone(), epsilon);
        let y = match prepared {
            OpsKind::Tracked(prepared) => prepared.finish([x, weight, scale.clone()], y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        };
        (y, <Self as AutodiffBackend>::from_inner(scale))
    }
}
