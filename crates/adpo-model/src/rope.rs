//! Rotary positions in the split-half form of Hugging Face checkpoints (`RoFormer`, arXiv 2104.09864).

use burn::tensor::{Device, Tensor, TensorData};

use crate::config::LlamaConfig;
use crate::kernels;

/// The angle per position of each pair of dimensions.
#[derive(Debug, Clone)]
pub(crate) struct RotaryTable {
    frequencies: Vec<f64>,
}

/// cos and sin of a batch's positions, `[cells, head_dim / 2]`.
#[derive(Clone)]
pub(crate) struct Rotary {
    cos: Tensor<2>,
    sin: Tensor<2>,
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

    pub(crate) fn at(&self, positions: &[u32], device: &Device) -> Rotary {
        let shape = [positions.len(), self.frequencies.len()];
        let angles = positions.iter().flat_map(|position| self.frequencies.iter().map(move |frequency| f64::from(*position) * frequency));
        let (sin, cos): (Vec<f32>, Vec<f32>) = angles.map(|angle| (angle.sin() as f32, angle.cos() as f32)).unzip();
        Rotary { cos: Tensor::from_data(TensorData::new(cos, shape), device), sin: Tensor::from_data(TensorData::new(sin, shape), device) }
    }
}

impl Rotary {
    /// Rotates `[cells, heads · head_dim]`, as `[cells, heads, head_dim]`.
    pub(crate) fn apply(&self, x: Tensor<2>, heads: usize) -> Tensor<3> {
        let [cells, width] = x.dims();
        kernels::rope(x.reshape([cells, heads, width / heads]), self.cos.clone(), self.sin.clone())
    }
}
