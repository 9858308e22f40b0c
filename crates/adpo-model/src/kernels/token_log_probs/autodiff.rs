use burn::backend::AutodiffBackend;
use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};

use super::TokenLogProbOps;
use crate::kernels::autodiff::register;

#[derive(Debug)]
struct TokenLogProbs;

impl<B: TokenLogProbOps> Backward<B, 2> for TokenLogProbs {
    type State = ([FloatTensor<B>; 3], IntTensor<B>);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let grad = gradients.consume::<B>(&ops.node);
        let ([hidden, weight, lse], targets) = ops.state;
        if let [Some(to_hidden), None] = &ops.parents {
            gradients.register::<B>(to_hidden.id, B::fused_token_log_probs_backward_hidden(hidden, weight, targets, lse, grad));
            return;
        }
        let (d_hidden, d_weight) = B::fused_token_log_probs_backward(hidden, weight, targets, lse, grad);
        register::<B, 2>(gradients, ops.parents.map(|node| node.map(|node| node.id)), [d_hidden, d_weight]);
    }
}

impl<B: TokenLogProbOps, C: CheckpointStrategy> TokenLogProbOps for Autodiff<B, C> {
    fn fused_token_log_probs(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let prepared = TokenLogProbs.prepare::<C>([hidden.node(), weight.node()]).compute_bound().stateful();
        let (hidden, weight) = (hidden.into_primitive(), weight.into_primitive());
        let (log_probs, lse, entropy, correct, mean_logit) = B::fused_token_log_probs(hidden.clone(), weight.clone(), targets.clone());
        let log_probs = match prepared {
            OpsKind::Tracked(prepared) => prepared.finish(([hidden, weight, lse.clone()], targets), log_probs),
            OpsKind::UnTracked(prepared) => prepared.finish(log_probs),
        };
        let [lse, entropy, correct, mean_logit] = [lse, entropy, correct, mean_logit].map(<Self as AutodiffBackend>::from_inner);
        (log_probs, lse, entropy, correct, mean_logit)
    }
}
