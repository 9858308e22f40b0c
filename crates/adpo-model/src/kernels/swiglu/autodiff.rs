use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;

use super::SwiGluOps;
use crate::kernels::autodiff::register;

#[derive(Debug)]
struct SwiGlu;

impl<B: SwiGluOps> Backward<B, 2> for SwiGlu {
    type State = [FloatTensor<B>; 2];

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let grad = gradients.consume::<B>(&ops.node);
        let [gate, up] = ops.state;
        let (d_gate, d_up) = B::fused_swiglu_backward(gate, up, grad);
        register::<B, 2>(gradients, ops.parents.map(|node| node.map(|node| node.id)), [d_gate, d_up]);
    }
}

impl<B: SwiGluOps, C: CheckpointStrategy> SwiGluOps for Autodiff<B, C> {
    fn fused_swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let prepared = SwiGlu.prepare::<C>([gate.node(), up.node()]).compute_bound().stateful();
        let (gate, up) = (gate.into_primitive(), up.into_primitive());
        match prepared {
            OpsKind::Tracked(prepared) => {
                let y = B::fused_swiglu(gate.clone(), up.clone());
                prepared.finish([gate, up], y)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::fused_swiglu(gate, up)),
        }
    }
}
