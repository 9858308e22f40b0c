//! The definition, scores and all, on any backend.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{DType, IntDType, Shape, Slice};

use crate::kernels::composed::{narrow, shape, widen};

/// Added to the score of a cell that is not seen. Not −∞: a query that sees nothing would give NaN.
const HIDDEN: f64 = -1e30;

pub(super) fn forward<B: Backend>(
    q: FloatTensor<B>,
    k: FloatTensor<B>,
    v: FloatTensor<B>,
    segments: IntTensor<B>,
    branches: IntTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let [rows, width, heads, dim] = shape::<B, 4>(&q);
    let kv_heads = shape::<B, 4>(&k)[2];
    let (v, dtype) = by_head::<B>(v, kv_heads);
    let scores = scores::<B>(q, k, segments, branches);
    let (weights, lse) = softmax::<B>(scores);
    let o = B::float_matmul(weights, v);
    let o = B::float_swap_dims(B::float_reshape(o, Shape::from([rows, heads, width, dim])), 1, 2);
    (narrow::<B>(o, dtype), B::float_reshape(lse, Shape::from([rows, heads, width])))
}

#[expect(clippy::too_many_arguments, reason = "what the forward pass had and gave")]
pub(super) fn backward<B: Backend>(
    q: FloatTensor<B>,
    k: FloatTensor<B>,
    v: FloatTensor<B>,
    o: FloatTensor<B>,
    lse: FloatTensor<B>,
    grad: FloatTensor<B>,
    segments: IntTensor<B>,
    branches: IntTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let [rows, width, heads, dim] = shape::<B, 4>(&q);
    let kv_heads = shape::<B, 4>(&k)[2];
    let lse = B::float_reshape(lse, Shape::from([rows, kv_heads, heads / kv_heads * width, 1]));
    let weights = B::float_exp(B::float_sub(scores::<B>(q.clone(), k.clone(), segments, branches), lse));
    let [(q, dtype), (o, _), (grad, _)] = [q, o, grad].map(|tensor| by_head::<B>(tensor, kv_heads));
    let [(k, _), (v, _)] = [k, v].map(|tensor| by_head::<B>(tensor, kv_heads));
    let along = B::float_sum_dim(B::float_mul(grad.clone(), o), 3);
    let d_weights = B::float_matmul(grad.clone(), B::float_transpose(v));
    let d_scores = B::float_mul(weights.clone(), B::float_sub(d_weights, along));
    let d_scores = B::float_mul_scalar(d_scores, (dim as f64).powf(-0.5).into());
    let dq = B::float_matmul(d_scores.clone(), k);
    let dk = B::float_matmul(B::float_transpose(d_scores), q);
    let dv = B::float_matmul(B::float_transpose(weights), grad);
    let back = |tensor: FloatTensor<B>, heads: usize| {
        let tensor = B::float_reshape(tensor, Shape::from([rows, heads, width, dim]));
        narrow::<B>(B::float_swap_dims(tensor, 1, 2), dtype)
    };
    (back(dq, heads), back(dk, kv_heads), back(dv, kv_heads))
}

pub(super) fn cached<B: Backend>(
    q: FloatTensor<B>,
    keys: FloatTensor<B>,
    values: FloatTensor<B>,
    first: IntTensor<B>,
    used: usize,
) -> FloatTensor<B> {
    let [rows, heads, dim] = shape::<B, 3>(&q);
    let [_, _, kv_heads, _] = shape::<B, 4>(&keys);
    let device = q.device();
    let filled = |cache| B::float_slice(cache, &[0..rows, 0..used, 0..kv_heads, 0..dim].map(Slice::from));
    let (q, dtype) = by_head::<B>(B::float_reshape(q, Shape::from([rows, 1, heads, dim])), kv_heads);
    let [(keys, _), (values, _)] = [keys, values].map(|cache| by_head::<B>(filled(cache), kv_heads));
    let scores = B::float_mul_scalar(B::float_matmul(q, B::float_transpose(keys)), (dim as f64).powf(-0.5).into());
    let column = as_float::<B>(B::int_arange(0..used as i64, &device, IntDType::I32), scores.dtype(), [1, 1, 1, used]);
    let first = as_float::<B>(first, scores.dtype(), [rows, 1, 1, 1]);
    let early = B::float_clamp(B::float_sub(first, column), 0.0.into(), 1.0.into());
    let (weights, _) = softmax::<B>(B::float_add(scores, B::float_mul_scalar(early, HIDDEN.into())));
    narrow::<B>(B::float_reshape(B::float_matmul(weights, values), Shape::from([rows, heads, dim])), dtype)
}

/// `[rows, width, heads, dim]` as `[rows, kv_heads, heads / kv_heads · width, dim]`: the queries that share a key head lie one
/// after the other, so that grouped keys need no copies.
fn by_head<B: Backend>(x: FloatTensor<B>, kv_heads: usize) -> (FloatTensor<B>, DType) {
    let [rows, width, heads, dim] = shape::<B, 4>(&x);
    let (x, dtype) = widen::<B>(x);
    (B::float_reshape(B::float_swap_dims(x, 1, 2), Shape::from([rows, kv_heads, heads / kv_heads * width, dim])), dtype)
}

/// `q·kᵀ/√dim`, lowered where a cell is not seen: `[rows, kv_heads, heads / kv_heads · width, width]`.
fn scores<B: Backend>(q: FloatTensor<B>, k: FloatTensor<B>, segments: IntTensor<B>, branches: IntTensor<B>) -> FloatTensor<B> {
    let [rows, width, heads, dim] = shape::<B, 4>(&q);
    let kv_heads = shape::<B, 4>(&k)[2];
    let device = q.device();
    let ((q, _), (k, _)) = (by_head::<B>(q, kv_heads), by_head::<B>(k, kv_heads));
    let scores = B::float_mul_scalar(B::float_matmul(q, B::float_transpose(k)), (dim as f64).powf(-0.5).into());
    let dtype = scores.dtype();
    // 0 where the integer is 0, else at least 1.
    let some = |difference: FloatTensor<B>| B::float_mul(difference.clone(), difference);
    let [segment_q, segment_k] = [[rows, width, 1], [rows, 1, width]].map(|shape| as_float::<B>(segments.clone(), dtype, shape));
    let [branch_q, branch_k] = [[rows, width, 1], [rows, 1, width]].map(|shape| as_float::<B>(branches.clone(), dtype, shape));
    let column = B::int_arange(0..width as i64, &device, IntDType::I32);
    let [q_at, k_at] = [[1, width, 1], [1, 1, width]].map(|shape| as_float::<B>(column.clone(), dtype, shape));
    let other_segment = some(B::float_sub(segment_q, segment_k));
    let other_branch = some(B::float_mul(branch_k.clone(), B::float_sub(branch_k, branch_q)));
    let later = B::float_clamp_min(B::float_sub(k_at, q_at), 0.0.into());
    let hidden = B::float_clamp_max(B::float_add(B::float_add(other_segment, other_branch), later), 1.0.into());
    let bias = B::float_reshape(B::float_mul_scalar(hidden, HIDDEN.into()), Shape::from([rows, 1, width, width]));
    let scores = B::float_add(B::float_reshape(scores, Shape::from([rows, heads, width, width])), bias);
    B::float_reshape(scores, Shape::from([rows, kv_heads, heads / kv_heads * width, width]))
}

fn as_float<B: Backend>(ints: IntTensor<B>, dtype: DType, shape: impl Into<Shape>) -> FloatTensor<B> {
    B::float_reshape(B::int_into_float(ints, dtype.into()), shape.into())
}

/// Over the last dimension; and log Σ exp.
fn softmax<B: Backend>(scores: FloatTensor<B>) -> (FloatTensor<B>, FloatTensor<B>) {
    let top = B::float_max_dim(scores.clone(), 3);
    let weights = B::float_exp(B::float_sub(scores, top.clone()));
    let sum = B::float_sum_dim(weights.clone(), 3);
    (B::float_div(weights, sum.clone()), B::float_add(B::float_log(sum), top))
}
