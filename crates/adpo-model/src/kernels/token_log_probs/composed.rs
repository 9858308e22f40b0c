//! The definition, logits and all, on any backend.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{IndexingUpdateOp, IntDType, Shape};

use crate::kernels::composed::{narrow, shape, widen};

type Five<B> = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>);

fn logits<B: Backend>(hidden: FloatTensor<B>, weight: FloatTensor<B>) -> FloatTensor<B> {
    B::float_matmul(hidden, B::float_transpose(weight))
}

pub(super) fn forward<B: Backend>(hidden: FloatTensor<B>, weight: FloatTensor<B>, targets: IntTensor<B>) -> Five<B> {
    let [n, _] = shape::<B, 2>(&hidden);
    let flat = |tensor| B::float_reshape(tensor, Shape::from([n]));
    let logits = logits::<B>(widen::<B>(hidden).0, widen::<B>(weight).0);
    let top = B::float_max_dim(logits.clone(), 1);
    let shifted = B::float_sub(logits.clone(), top.clone());
    let weights = B::float_exp(shifted.clone());
    let sum = B::float_sum_dim(weights.clone(), 1);
    let log_sum = B::float_log(sum.clone());
    let entropy = B::float_sub(log_sum.clone(), B::float_div(B::float_sum_dim(B::float_mul(weights, shifted), 1), sum));
    let lse = B::float_add(log_sum, top);
    let targets = B::int_reshape(targets, Shape::from([n, 1]));
    let log_probs = B::float_sub(B::float_gather(1, logits.clone(), targets.clone()), lse.clone());
    // 1 where the two ids are one: their difference is an integer.
    let dtype = logits.dtype().into();
    let best = B::int_into_float(B::float_argmax(logits.clone(), 1, IntDType::I32), dtype);
    let apart = B::float_clamp_max(B::float_abs(B::float_sub(best, B::int_into_float(targets, dtype))), 1.0.into());
    let correct = B::float_add_scalar(B::float_neg(apart), 1.0.into());
    (flat(log_probs), flat(lse), flat(entropy), flat(correct), flat(B::float_mean_dim(logits, 1)))
}

pub(super) fn backward<B: Backend>(
    hidden: FloatTensor<B>,
    weight: FloatTensor<B>,
    targets: IntTensor<B>,
    lse: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let [n, _] = shape::<B, 2>(&hidden);
    let column = |tensor| B::float_reshape(tensor, Shape::from([n, 1]));
    let ((hidden, hidden_dtype), (weight, weight_dtype)) = (widen::<B>(hidden), widen::<B>(weight));
    let (lse, grad) = (column(widen::<B>(lse).0), column(widen::<B>(grad).0));
    let probs = B::float_exp(B::float_sub(logits::<B>(hidden.clone(), weight.clone()), lse));
    let d_logits = B::float_neg(B::float_mul(probs, grad.clone()));
    let targets = B::int_reshape(targets, Shape::from([n, 1]));
    let d_logits = B::float_scatter(1, d_logits, targets, grad, IndexingUpdateOp::Add);
    let d_hidden = B::float_matmul(d_logits.clone(), weight);
    let d_weight = B::float_matmul(B::float_transpose(d_logits), hidden);
    (narrow::<B>(d_hidden, hidden_dtype), narrow::<B>(d_weight, weight_dtype))
}
