//! The weights by their Hugging Face names, as Hugging Face has them.

use std::collections::BTreeMap;

use burn::tensor::Device;
use rayon::prelude::*;

use super::header::Tensor;
use super::{Gguf, config};
use crate::checkpoint::{Stored, assemble};
use crate::{Dtype, Llama, ModelError};

pub(super) fn load(gguf: &Gguf<'_>, dtype: Dtype, device: &Device) -> Result<Llama, ModelError> {
    let config = config::of(gguf)?;
    let found: BTreeMap<_, _> = gguf
        .tensors
        .iter()
        .filter(|(name, _)| **name != config::ROPE_FACTORS)
        .map(|(name, tensor)| {
            let heads = match name.rsplit('.').nth(1) {
                Some("attn_q") => Some(config.num_attention_heads),
                Some("attn_k") => Some(config.num_key_value_heads),
                _ => None,
            };
            (hugging_face_name(name), Rows { tensor, heads })
        })
        .collect();
    assemble(&config, found, gguf.path, (dtype, device))
}

/// A name that is none of a Llama's stays as it is: it is then one error with whatever else does not fit.
fn hugging_face_name(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    let within = match parts.as_slice() {
        ["token_embd", "weight"] => return "model.embed_tokens.weight".to_owned(),
        ["output_norm", "weight"] => return "model.norm.weight".to_owned(),
        ["output", "weight"] => return "lm_head.weight".to_owned(),
        ["blk", _, "attn_q", "weight"] => "self_attn.q_proj",
        ["blk", _, "attn_k", "weight"] => "self_attn.k_proj",
        ["blk", _, "attn_v", "weight"] => "self_attn.v_proj",
        ["blk", _, "attn_output", "weight"] => "self_attn.o_proj",
        ["blk", _, "attn_norm", "weight"] => "input_layernorm",
        ["blk", _, "ffn_norm", "weight"] => "post_attention_layernorm",
        ["blk", _, "ffn_gate", "weight"] => "mlp.gate_proj",
        ["blk", _, "ffn_up", "weight"] => "mlp.up_proj",
        ["blk", _, "ffn_down", "weight"] => "mlp.down_proj",
        _ => return name.to_owned(),
    };
    format!("model.layers.{}.{within}.weight", parts[1])
}

/// A tensor, with its rows where Hugging Face has them.
struct Rows<'a> {
    tensor: &'a Tensor<'a>,
    /// Of queries or keys: rotary positions turn neighbours in llama.cpp, and a head's halves in transformers.
    heads: Option<usize>,
}

impl Stored for Rows<'_> {
    fn shape(&self) -> &[usize] {
        &self.tensor.shape
    }

    fn unsupported(&self) -> Option<String> {
        None
    }

    fn numbers<T: Default + Clone + Send>(&self, rounded: impl Fn(f32) -> T + Sync) -> Vec<T> {
        let Tensor { shape, encoding, bytes } = self.tensor;
        let rows = shape[..shape.len() - 1].iter().product::<usize>();
        let width = shape[shape.len() - 1];
        // As many bytes in every row: a block has numbers of one row.
        let row_bytes = bytes.len() / rows;
        let mut values = vec![T::default(); rows * width];
        values.par_chunks_mut(width).with_min_len(64).enumerate().for_each_init(
            || vec![0.0; width],
            |numbers, (row, values)| {
                let row = self.heads.map_or(row, |heads| among_neighbours(row, rows / heads));
                encoding.dequantise(&bytes[row * row_bytes..][..row_bytes], numbers);
                values.iter_mut().zip(numbers).for_each(|(value, number)| *value = rounded(*number));
            },
        );
        values
    }
}

/// Where the row is that Hugging Face has at `row`: the halves of a head of `width` rows are interleaved.
fn among_neighbours(row: usize, width: usize) -> usize {
    let (head, within, half) = (row / width, row % width, width / 2);
    head * width + 2 * (within % half) + within / half
}
