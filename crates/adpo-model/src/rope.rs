//! Rotary positions in the split-half form of Hugging Face checkpoints (`RoFormer`, arXiv 2104.09864).

use burn::tensor::{Device, Tensor, TensorData};

use crate::config::LlamaConfig;

/// The angle per position of each pair of dimensions.
#[derive(Debug, Clone)]
pub(crate) struct RotaryTable {
    frequencies: Vec<f64>,
}

/// cos and sin of a batch's positions, `[rows, 1, width, head_dim]`; the sine carries the rotation's sign.
#[derive(Clone)]
pub(crate) struct Rotary {
    cos: Tensor<4>,
    sin: Tensor<4>,
}

impl RotaryTable {
    pub(crate) fn new(config: &LlamaConfig) -> Self {
        let dim = config.head_dim as f64;
        let frequency = |i: usize| config.rope_theta.powf(-2.0 * i as f64 / dim);
        let scaled = |i| config.rope_scaling.map_or(frequency(i), |scaling| scaling.apply(frequency(i)));
        Self { frequencies: (0..config.head_dim / 2).map(scaled).collect() }
    }

    #[cfg(test)]
    pub(crate) fn round_to_bf16(&mut self) {
        self.frequencies.iter_mut().for_each(|f| *f = half::bf16::from_f64(*f).to_f64());
    }

    pub(crate) fn at(&self, positions: &[u32], rows: usize, width: usize, device: &Device) -> Rotary {
        let dim = self.frequencies.len() * 2;
        let (mut cos, mut sin) = (Vec::with_capacity(positions.len() * dim), Vec::with_capacity(positions.len() * dim));
        for position in positions {
            for sign in [-1.0, 1.0] {
                for frequency in &self.frequencies {
                    let angle = f64::from(*position) * frequency;
                    cos.push(angle.cos() as f32);
                    sin.push((sign * angle.sin()) as f32);
                }
            }
        }
        let tensor = |values| Tensor::from_data(TensorData::new(values, [rows, 1, width, dim]), device);
        Rotary { cos: tensor(cos), sin: tensor(sin) }
    }
}

impl Rotary {
    /// Rotates `[rows, heads, width, head_dim]`: `x · cos + (x₂, x₁) · (−sin, sin)` with `x = (x₁, x₂)`.
    pub(crate) fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        let dim = x.dims()[3];
        let swapped = Tensor::cat(vec![x.clone().slice_dim(3, dim / 2..dim), x.clone().slice_dim(3, 0..dim / 2)], 3);
        x * self.cos.clone() + swapped * self.sin.clone()
    }
}
