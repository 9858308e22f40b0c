use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;

use super::LinearOps;

#[derive(Debug)]
struct Linear;

impl<B: LinearOps> Backward<B, 2> for Linear {
    /// `x` where the weight is trained, the weight where `x` is: a frozen weight keeps no activations alive.
    type State = [Option<FloatTensor<B>>; 2];

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let grad = gradients.consume::<B>(&ops.node);
        let ([x, weight], [to_x, to_weight]) = (ops.state, ops.parents);
        if let Some((node, x)) = to_weight.zip(x) {
            gradients.register::<B>(node.id, B::fused_linear_backward_weight(grad.clone(), x));
        }
        if let Some((node, weight)) = to_x.zip(weight) {
            gradients.register::<B>(node.id, B::fused_linear_backward_input(grad, weight));
        }
    }
}

impl<B: LinearOps, C: CheckpointStrategy> LinearOps for Autodiff<B, C> {
    fn fused_linear(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x_tracked, weight_tracked) = (x.is_tracked(), weight.is_tracked());
        let prepared = Linear.prepare::<C>([x.node(), weight.node()]).compute_bound().stateful();
        let (x, weight) = (x.into_primitive(), weight.into_primitive());
        let y = B::fused_linear(x.clone(), weight.clone());
        match prepared {
            OpsKind::Tracked(prepared) => prepared.finish([weight_tracked.then_some(x), x_tracked.then_some(weight)], y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }
}
