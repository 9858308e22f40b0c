//! All parameters of a model by the names that Hugging Face checkpoints give them, and adapters by PEFT's.

use super::Llama;
use crate::block::Block;
use crate::layers::Linear;
use crate::lora::LINEAR_LAYERS;
use crate::parameters::{ParameterMap, ParameterVisitor};

const EMBED_ROWS: &str = "model.embed_tokens.token_adapter.trainable_tokens_delta";
const HEAD_ROWS: &str = "lm_head.token_adapter.trainable_tokens_delta";

impl Llama {
    /// Shows every parameter, in a fixed order: embedding, blocks, norm, head; then adapters.
    pub fn visit_parameters(&self, visitor: &mut impl ParameterVisitor) {
        visitor.visit("model.embed_tokens.weight", &self.embed_tokens);
        for (i, block) in self.layers.iter().enumerate() {
            for (name, linear) in LINEAR_LAYERS.iter().zip(block.linears()) {
                linear.visit(&format!("model.layers.{i}.{name}"), visitor);
            }
            for (name, norm) in block.norms() {
                norm.visit(&format!("model.layers.{i}.{name}"), visitor);
            }
        }
        self.norm.visit("model.norm", visitor);
        if let Some(head) = &self.lm_head {
            head.visit("lm_head", visitor);
        }
        self.visit_adapters(visitor);
    }

    /// Shows what training changes: the adapters where there are any, or else every parameter.
    pub fn visit_trained_parameters(&self, visitor: &mut impl ParameterVisitor) {
        if self.lora.is_some() { self.visit_adapters(visitor) } else { self.visit_parameters(visitor) }
    }

    /// Shows adapters alone: A and B of each layer, then rows of tokens. In a PEFT file `base_model.model.` stands before the names.
    pub(crate) fn visit_adapters(&self, visitor: &mut impl ParameterVisitor) {
        for (i, block) in self.layers.iter().enumerate() {
            for (name, linear) in LINEAR_LAYERS.iter().zip(block.linears()) {
                if let Some(adapter) = &linear.adapter {
                    visitor.visit(&format!("model.layers.{i}.{name}.lora_A.weight"), &adapter.a);
                    visitor.visit(&format!("model.layers.{i}.{name}.lora_B.weight"), &adapter.b);
                }
            }
        }
        for (name, rows) in [(EMBED_ROWS, &self.embed_rows), (HEAD_ROWS, &self.head_rows)] {
            if let Some(rows) = rows {
                visitor.visit(name, &rows.rows);
            }
        }
    }

    /// Replaces every parameter, in the order of [`Llama::visit_parameters`].
    #[must_use]
    pub fn map_parameters(self, map: &mut impl ParameterMap) -> Self {
        self.map_base(map).map_adapters(map)
    }

    /// Replaces every parameter but those of adapters.
    #[must_use]
    pub(crate) fn map_base(mut self, map: &mut impl ParameterMap) -> Self {
        // Moved in and out, never cloned: who has the only handle to a weight can write it in place.
        self.embed_tokens = map.map("model.embed_tokens.weight", self.embed_tokens);
        let blocks = self.layers.into_iter().enumerate();
        self.layers = blocks.map(|(i, block)| block.map_base(&format!("model.layers.{i}"), map)).collect();
        self.norm = self.norm.map("model.norm", map);
        self.lm_head = self.lm_head.map(|head| head.map("lm_head", map));
        self
    }

    /// Replaces adapters alone, in the order of [`Llama::visit_adapters`].
    #[must_use]
    pub(crate) fn map_adapters(mut self, map: &mut impl ParameterMap) -> Self {
        for (name, linear) in self.linears_mut() {
            if let Some(adapter) = &mut linear.adapter {
                adapter.a = map.map(&format!("{name}.lora_A.weight"), adapter.a.clone());
                adapter.b = map.map(&format!("{name}.lora_B.weight"), adapter.b.clone());
            }
        }
        for (name, rows) in [(EMBED_ROWS, &mut self.embed_rows), (HEAD_ROWS, &mut self.head_rows)] {
            if let Some(rows) = rows {
                rows.rows = map.map(name, rows.rows.clone());
            }
        }
        self
    }

    /// The linear layers of the blocks by their whole names.
    pub(crate) fn linears_mut(&mut self) -> impl Iterator<Item = (String, &mut Linear)> {
        let named = |(i, block): (usize, _)| {
            LINEAR_LAYERS.iter().zip(Block::linears_mut(block)).map(move |(name, linear)| (format!("model.layers.{i}.{name}"), linear))
        };
        self.layers.iter_mut().enumerate().flat_map(named)
    }
}
