//! Vocabularies that grow and shrink.

use burn::module::Param;
use burn::tensor::{FloatDType, Tensor};

use super::Llama;
use crate::layers::Linear;

impl Llama {
    /// Another vocabulary. New rows of embedding and head start as the mean of the old ones, which makes a new token
    /// as likely as an average one (Hewitt 2021); rows beyond a smaller vocabulary are cut off. Adapters are merged first.
    #[must_use]
    pub fn resize_vocab(self, vocab: usize) -> Self {
        let mut model = self.merge_lora();
        let resize = |param: Param<Tensor<2>>| {
            param.map(|rows| {
                let rows = rows.without_autodiff();
                let old = rows.dims()[0];
                if vocab <= old {
                    return rows.slice(0..vocab);
                }
                let mean = mean_row(&rows).repeat_dim(0, vocab - old);
                Tensor::cat(vec![rows, mean], 0)
            })
        };
        model.embed_tokens = resize(model.embed_tokens);
        model.lm_head = model.lm_head.map(|head| Linear::new(resize(head.weight)));
        model.config.vocab_size = vocab;
        model
    }

    /// The model with a new token: it starts as the mean of all others, see [`Llama::resize_vocab`], also where the
    /// checkpoint has a spare row for its id.
    #[must_use]
    pub fn with_new_token(self, id: u32) -> Self {
        let id = id as usize;
        if id < self.config.vocab_size { self.with_mean_row(id) } else { self.resize_vocab(id + 1) }
    }

    /// The model without a token. Its rows of embedding and head are cut off where they are the last ones; elsewhere
    /// they become the mean of all others, which says nothing of it.
    #[must_use]
    pub fn without_token(self, id: u32) -> Self {
        let id = id as usize;
        if id + 1 == self.config.vocab_size { self.resize_vocab(id) } else { self.with_mean_row(id) }
    }

    /// Makes an id one of those that end a sequence for `generate` of transformers.
    #[must_use]
    pub fn ending_at(mut self, id: u32) -> Self {
        if !self.config.eos_token_ids.contains(&id) {
            self.config.eos_token_ids.push(id);
        }
        self
    }

    fn with_mean_row(self, id: usize) -> Self {
        let vocab = self.config.vocab_size;
        if id >= vocab {
            return self;
        }
        let replace = |param: Param<Tensor<2>>| {
            param.map(|rows| {
                let rows = rows.without_autodiff();
                let others = Tensor::cat(vec![rows.clone().slice(0..id), rows.clone().slice(id + 1..vocab)], 0);
                let mean = mean_row(&others);
                Tensor::cat(vec![rows.clone().slice(0..id), mean, rows.slice(id + 1..vocab)], 0)
            })
        };
        let mut model = self.merge_lora();
        model.embed_tokens = replace(model.embed_tokens);
        model.lm_head = model.lm_head.map(|head| Linear::new(replace(head.weight)));
        model
    }
}

/// The mean of rows, `[1, hidden]`, in their type; summed in f32, since in bf16 the sum of a vocabulary would stand still.
fn mean_row(rows: &Tensor<2>) -> Tensor<2> {
    rows.clone().cast(FloatDType::F32).mean_dim(0).cast(rows.dtype())
}
