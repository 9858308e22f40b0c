//! Causal self-attention, multi-head or grouped-query, composed of Burn's operations.

use burn::module::Module;
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::llama::Linear;
use crate::rope::Rotary;

/// Added to the score of a key that a query must not see. Not −∞: a row of nothing else would give NaN.
pub(crate) const MASKED: f32 = -1e30;

#[derive(Module, Debug)]
pub(crate) struct Attention {
    pub(crate) q_proj: Linear,
    pub(crate) k_proj: Linear,
    pub(crate) v_proj: Linear,
    pub(crate) o_proj: Linear,
    #[module(skip)]
    pub(crate) heads: usize,
    #[module(skip)]
    pub(crate) kv_heads: usize,
    #[module(skip)]
    pub(crate) head_dim: usize,
}

impl Attention {
    /// `x` is `[rows · width, hidden]`, `bias` `[rows, 1, width, keys]`. With a cache, keys and values of earlier calls
    /// come first.
    pub(crate) fn forward(&self, x: Tensor<2>, rows: usize, rotary: &Rotary, bias: &Tensor<4>, cache: Option<&mut Cache>) -> Tensor<2> {
        let width = x.dims()[0] / rows;
        let by_head = |x: Tensor<2>, heads: usize| x.reshape([rows, width, heads, self.head_dim]).swap_dims(1, 2);
        let scale = (self.head_dim as f64).powf(-0.5);
        let q = rotary.apply(by_head(self.q_proj.forward(x.clone()), self.heads)).mul_scalar(scale);
        let k = rotary.apply(by_head(self.k_proj.forward(x.clone()), self.kv_heads));
        let v = by_head(self.v_proj.forward(x), self.kv_heads);
        let (k, v) = match cache {
            None => (k, v),
            Some(cache) => cache.extend(k, v),
        };
        let keys = k.dims()[2];
        // The queries that share a key head lie one after the other, so that grouped keys need no copies.
        let grouped = self.heads / self.kv_heads * width;
        let scores = q.reshape([rows, self.kv_heads, grouped, self.head_dim]).matmul(k.transpose());
        let scores = scores.reshape([rows, self.heads, width, keys]) + bias.clone();
        let weights = softmax(scores, 3).reshape([rows, self.kv_heads, grouped, keys]);
        let mixed = weights.matmul(v).reshape([rows, self.heads, width, self.head_dim]);
        self.o_proj.forward(mixed.swap_dims(1, 2).reshape([rows * width, self.heads * self.head_dim]))
    }
}

/// `[rows, 1, width, width]`: a query sees the cells of its own segment up to itself.
pub(crate) fn segment_bias(segments: &[u32], rows: usize, width: usize, device: &Device) -> Tensor<4> {
    let mut values = vec![0.0_f32; rows * width * width];
    for (query, seen) in values.chunks_exact_mut(width.max(1)).enumerate() {
        let row = &segments[query / width * width..][..width];
        let own = query % width;
        for (key, value) in seen.iter_mut().enumerate() {
            if key > own || row[key] != row[own] {
                *value = MASKED;
            }
        }
    }
    Tensor::from_data(TensorData::new(values, [rows, 1, width, width]), device)
}

/// Keys and values of one layer, `[rows, kv_heads, capacity, head_dim]`, of which the first `used` columns are filled.
pub(crate) struct Cache {
    keys: Tensor<4>,
    values: Tensor<4>,
    pub(crate) used: usize,
}

impl Cache {
    pub(crate) fn new(shape: [usize; 4], device: &Device) -> Self {
        Self { keys: Tensor::zeros(shape, device), values: Tensor::zeros(shape, device), used: 0 }
    }

    /// Appends, and gives everything so far.
    fn extend(&mut self, k: Tensor<4>, v: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let [rows, heads, width, dim] = k.dims();
        let device = k.device();
        let fresh = [0..rows, 0..heads, self.used..self.used + width, 0..dim];
        // Taken out first: a tensor with one owner is written in place.
        let write = |slot: &mut Tensor<4>, value: Tensor<4>| {
            let owned = std::mem::replace(slot, Tensor::empty([1, 1, 1, 1], &device));
            *slot = owned.slice_assign(fresh.clone(), value);
        };
        write(&mut self.keys, k);
        write(&mut self.values, v);
        self.used += width;
        let all = [0..rows, 0..heads, 0..self.used, 0..dim];
        (self.keys.clone().slice(all.clone()), self.values.clone().slice(all))
    }

    /// Keeps these rows, in this order.
    pub(crate) fn select(&mut self, rows: &Tensor<1, Int>) {
        self.keys = self.keys.clone().select(0, rows.clone());
        self.values = self.values.clone().select(0, rows.clone());
    }
}
