//! The head: a linear map, log-softmax and the choice of one target per row, without the logits of a whole batch.
//!
//! Blocks of logits are made, reduced and dropped; the backward pass makes them again from the saved log Σ exp, one
//! matrix product more than keeping `[n, vocab]` would cost (as Liger's and Apple's cut cross-entropy do, arXiv 2411.09009).

mod autodiff;
mod composed;
#[cfg(feature = "_cube")]
mod cube;
mod flex;

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{Int, Tensor};

#[cfg(feature = "_source")]
pub(in crate::kernels) use cube::sources;

/// What the head says of `n` targets.
#[derive(Debug, Clone)]
pub struct TokenScores {
    /// `[n]`: log-probs of the targets in nats, f32, differentiable.
    pub log_probs: Tensor<1>,
    /// `[n]`: entropy of the predicted distribution in nats, outside of any graph.
    pub entropy: Tensor<1>,
    /// `[n]`: 1 where the likeliest token is the target, outside of any graph.
    pub correct: Tensor<1>,
    /// `[n]`: mean over the vocabulary of the logits, outside of any graph.
    pub mean_logit: Tensor<1>,
}

/// Log-probs of `targets` `[n]` under `log_softmax(hidden · weightᵀ)`: `hidden` `[n, d]`, `weight` `[vocab, d]`. Targets outside
/// the vocabulary are the caller's error.
pub fn token_log_probs(hidden: Tensor<2>, weight: Tensor<2>, targets: Tensor<1, Int>) -> TokenScores {
    let (hidden, weight, targets) = (hidden.into_dispatch(), weight.into_dispatch(), targets.into_dispatch());
    let (log_probs, _, entropy, correct, mean_logit) = <Dispatch as TokenLogProbOps>::fused_token_log_probs(hidden, weight, targets);
    let detached = |tensor| Tensor::from_dispatch(tensor).without_autodiff();
    TokenScores {
        log_probs: Tensor::from_dispatch(log_probs),
        entropy: detached(entropy),
        correct: detached(correct),
        mean_logit: detached(mean_logit),
    }
}

/// The backend's side of [`token_log_probs`]; the bodies here define it.
#[backend_extension(Autodiff, Flex, Cube: cfg(feature = "_cube"))]
pub trait TokenLogProbOps: Backend {
    /// (log-probs, log Σ exp of the logits, entropy, 1 where the first largest logit is the target's, mean logit), all `[n]`.
    fn fused_token_log_probs(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        composed::forward::<Self>(hidden, weight, targets)
    }

    /// (`dhidden` `[n, d]`, `dweight` `[vocab, d]`) from `lse` `[n]` and the log-probs' gradients `grad` `[n]`: with
    /// `dlogits = grad·(onehot − exp(logits − lse))`, `dhidden = dlogits · W` and `dweight = dlogitsᵀ · hidden`.
    fn fused_token_log_probs_backward(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        lse: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        composed::backward::<Self>(hidden, weight, targets, lse, grad)
    }

    /// `dhidden` alone, for a head that is frozen.
    fn fused_token_log_probs_backward_hidden(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        lse: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::fused_token_log_probs_backward(hidden, weight, targets, lse, grad).0
    }
}
