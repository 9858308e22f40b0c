//! Causal attention over packed rows, multi-head or grouped-query, with online softmax.
//!
//! The scores of a whole row never exist: blocks of them are made, used and made again in the backward pass
//! (Dao 2023, FlashAttention-2, arXiv 2307.08691, algorithms 1 and 2).

mod autodiff;
mod composed;
#[cfg(feature = "_cube")]
mod cube;
mod flex;

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{Device, Int, Tensor, TensorData};

#[cfg(feature = "_source")]
pub(in crate::kernels) use cube::sources;

/// Who sees whom in a batch of packed rows.
///
/// Cell q sees cell k of its row iff k ≤ q, both are of one segment, and k's branch is 0 or q's own. With all branches 0 that is
/// causal attention within each packed sequence; with a prompt on branch 0 and its completions on branches 1, 2, …, every completion
/// sees the prompt and itself.
#[derive(Debug, Clone)]
pub struct AttentionMask {
    segments: Tensor<2, Int>,
    branches: Tensor<2, Int>,
}

impl AttentionMask {
    /// From row-major arrays of `rows · width` cells.
    ///
    /// # Panics
    /// If an array is not of `rows · width` cells.
    pub fn new(segments: &[u32], branches: &[u32], rows: usize, width: usize, device: &Device) -> Self {
        assert!([segments.len(), branches.len()] == [rows * width; 2], "segments and branches need {} cells each", rows * width);
        let ints = |values: &[u32]| {
            let values: Vec<i32> = values.iter().map(|value| *value as i32).collect();
            Tensor::from_data(TensorData::new(values, [rows, width]), device)
        };
        Self { segments: ints(segments), branches: ints(branches) }
    }

    /// The same segments with other branches, row-major.
    ///
    /// # Panics
    /// If there is not one per cell.
    #[must_use]
    pub fn with_branches(self, branches: &[u32]) -> Self {
        let [rows, width] = self.segments.dims();
        assert!(branches.len() == rows * width, "branches need {} cells", rows * width);
        let branches: Vec<i32> = branches.iter().map(|branch| *branch as i32).collect();
        let branches = Tensor::from_data(TensorData::new(branches, [rows, width]), &self.segments.device());
        Self { branches, ..self }
    }
}

/// `softmax(q·kᵀ/√dim + mask)·v`: `q` `[rows, width, heads, dim]`, `k` and `v` `[rows, width, kv_heads, dim]`, the result as `q`.
/// Head h attends to the key head `h / (heads / kv_heads)`. Softmax in f32 at least.
pub fn attention(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, mask: &AttentionMask) -> Tensor<4> {
    let (segments, branches) = (mask.segments.clone().into_dispatch(), mask.branches.clone().into_dispatch());
    let (o, _) = <Dispatch as AttentionOps>::fused_attention(q.into_dispatch(), k.into_dispatch(), v.into_dispatch(), segments, branches);
    Tensor::from_dispatch(o)
}

/// One new cell per row against a cache that is read where it lies: `q` `[rows, heads, dim]`, `keys` and `values`
/// `[rows, capacity, kv_heads, dim]`, of which row r sees the cells `first[r]..used`. Not differentiable.
pub fn attention_cached(q: Tensor<3>, keys: Tensor<4>, values: Tensor<4>, first: Tensor<1, Int>, used: usize) -> Tensor<3> {
    let (keys, values) = (keys.into_dispatch(), values.into_dispatch());
    Tensor::from_dispatch(<Dispatch as AttentionOps>::fused_attention_cached(q.into_dispatch(), keys, values, first.into_dispatch(), used))
}

/// Whether [`attention`] with such queries, `[rows, width, heads, dim]`, multiplies with a GPU's matrix instructions, forward and
/// backward: in f16 or bf16, where the device has them.
pub fn attention_on_matrix_instructions(q: Tensor<4>) -> bool {
    <Dispatch as AttentionOps>::on_matrix_instructions(q.into_dispatch())
}

/// The backend's side of [`attention`] and [`attention_cached`]; the bodies here define them.
#[backend_extension(Autodiff, Flex, Cube: cfg(feature = "_cube"))]
pub trait AttentionOps: Backend {
    /// (the result, log Σ exp of each query's scores `[rows, heads, width]`).
    fn fused_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        segments: IntTensor<Self>,
        branches: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        composed::forward::<Self>(q, k, v, segments, branches)
    }

    /// (`dq`, `dk`, `dv`) from `o`, `lse` and `grad` = dO: with `P = exp(S − lse)` and `D = Σ dO·O` per query,
    /// `dV = Pᵀ·dO`, `dS = P·(dO·Vᵀ − D)`, `dQ = dS·K/√dim`, `dK = dSᵀ·Q/√dim`.
    #[allow(clippy::too_many_arguments, reason = "what the forward pass had and gave; the macro copies this to places without it")]
    fn fused_attention_backward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        o: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        segments: IntTensor<Self>,
        branches: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        composed::backward::<Self>(q, k, v, o, lse, grad, segments, branches)
    }

    /// See [`attention_on_matrix_instructions`].
    fn on_matrix_instructions(q: FloatTensor<Self>) -> bool {
        let _ = q;
        false
    }

    /// `[rows, heads, dim]`.
    fn fused_attention_cached(
        q: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        first: IntTensor<Self>,
        used: usize,
    ) -> FloatTensor<Self> {
        composed::cached::<Self>(q, keys, values, first, used)
    }
}
