//! Causal self-attention, multi-head or grouped-query, and the memory of it that a sampler keeps.

use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor};

use crate::kernels::{self, AttentionMask};
use crate::layers::{Linear, RmsNorm};
use crate::rope::Rotary;

#[derive(Module, Debug)]
pub(crate) struct Attention {
    pub(crate) q_proj: Linear,
    pub(crate) k_proj: Linear,
    pub(crate) v_proj: Linear,
    pub(crate) o_proj: Linear,
    /// Norms of every head of queries and of keys, before they are rotated; in few families.
    pub(crate) q_norm: Option<RmsNorm>,
    pub(crate) k_norm: Option<RmsNorm>,
    #[module(skip)]
    pub(crate) heads: usize,
    #[module(skip)]
    pub(crate) kv_heads: usize,
    #[module(skip)]
    pub(crate) head_dim: usize,
}

impl Attention {
    /// `x` is `[cells, hidden]`; `mix` turns `q`, `k`, `v` `[cells, heads, head_dim]` into one value per query head.
    pub(crate) fn forward(
        &self,
        x: Tensor<2>,
        rotary: &Rotary,
        mix: impl FnOnce(Tensor<3>, Tensor<3>, Tensor<3>) -> Tensor<3>,
    ) -> Tensor<2> {
        let cells = x.dims()[0];
        let q = rotary.apply(self.normed(self.q_norm.as_ref(), self.q_proj.forward(x.clone())), self.heads);
        let k = rotary.apply(self.normed(self.k_norm.as_ref(), self.k_proj.forward(x.clone())), self.kv_heads);
        let v = self.v_proj.forward(x).reshape([cells, self.kv_heads, self.head_dim]);
        self.o_proj.forward(mix(q, k, v).reshape([cells, self.heads * self.head_dim]))
    }

    /// `[cells, heads · head_dim]` with each head normed by itself, where there is a norm.
    fn normed(&self, norm: Option<&RmsNorm>, x: Tensor<2>) -> Tensor<2> {
        let Some(norm) = norm else { return x };
        let [cells, width] = x.dims();
        norm.forward(x.reshape([cells * width / self.head_dim, self.head_dim])).reshape([cells, width])
    }
}

/// Attention among the cells of `rows` packed rows.
pub(crate) fn attend(q: Tensor<3>, k: Tensor<3>, v: Tensor<3>, rows: usize, mask: &AttentionMask) -> Tensor<3> {
    let shape = q.dims();
    let by_row = |x: Tensor<3>| {
        let [cells, heads, dim] = x.dims();
        x.reshape([rows, cells / rows, heads, dim])
    };
    kernels::attention(by_row(q), by_row(k), by_row(v), mask).reshape(shape)
}

/// Keys and values of one layer, `[rows, capacity, kv_heads, head_dim]`, of which the first `used` columns are filled.
pub(crate) struct Cache {
    keys: Tensor<4>,
    values: Tensor<4>,
    used: usize,
}

impl Cache {
    pub(crate) fn new(shape: [usize; 4], device: &Device, dtype: DType) -> Self {
        let zeros = || Tensor::zeros(shape, (device, dtype));
        Self { keys: zeros(), values: zeros(), used: 0 }
    }

    /// Appends `[cells, kv_heads, head_dim]`, the same number of columns to each row.
    pub(crate) fn extend(&mut self, k: Tensor<3>, v: Tensor<3>) {
        let [rows, _, heads, dim] = self.keys.dims();
        let width = k.dims()[0] / rows;
        let device = k.device();
        let fresh = [0..rows, self.used..self.used + width, 0..heads, 0..dim];
        // Taken out first: a tensor with one owner is written in place.
        let write = |slot: &mut Tensor<4>, value: Tensor<3>| {
            let owned = std::mem::replace(slot, Tensor::empty([1, 1, 1, 1], &device));
            *slot = owned.slice_assign(fresh.clone(), value.reshape([rows, width, heads, dim]));
        };
        write(&mut self.keys, k);
        write(&mut self.values, v);
        self.used += width;
    }

    /// Attention of one new cell per row, which [`Cache::extend`] has been given, over row r's columns from `first[r]` on.
    pub(crate) fn attend(&self, q: Tensor<3>, first: Tensor<1, Int>) -> Tensor<3> {
        kernels::attention_cached(q, self.keys.clone(), self.values.clone(), first, self.used)
    }

    /// Keeps these rows, in this order.
    pub(crate) fn select(&mut self, rows: &Tensor<1, Int>) {
        self.keys = self.keys.clone().select(0, rows.clone());
        self.values = self.values.clone().select(0, rows.clone());
    }
    /// The rows of both, `self`'s first, with room for `capacity` columns. Of each the last `kept` filled columns go along, and all rows
    /// end at the same column again.
    pub(crate) fn join(self, other: Self, kept: [usize; 2], capacity: usize) -> Self {
        let ([a, _, heads, dim], b) = (self.keys.dims(), other.keys.dims()[0]);
        let used = kept[0].max(kept[1]);
        let merge = |old: Tensor<4>, new: Tensor<4>| {
            let both = Tensor::zeros([a + b, capacity, heads, dim], (&old.device(), old.dtype()));
            let filled = |cache: Tensor<4>, rows: usize, end: usize, kept: usize| cache.slice([0..rows, end - kept..end, 0..heads, 0..dim]);
            both.slice_assign([0..a, used - kept[0]..used, 0..heads, 0..dim], filled(old, a, self.used, kept[0]))
                .slice_assign([a..a + b, used - kept[1]..used, 0..heads, 0..dim], filled(new, b, other.used, kept[1]))
        };
        Self { keys: merge(self.keys, other.keys), values: merge(self.values, other.values), used }
    }
}
