//! Rows of embedding and head that are trained while the rest of the matrix is frozen (PEFT's `trainable_token_indices`).

use burn::module::{Module, Param};
use burn::tensor::{FloatDType, Int, Tensor, TensorData};

use crate::kernels::{self, TokenScores};

/// So many rows are written one by one, without a second copy of the matrix; for more that would take for ever.
const FEW: usize = 16;

/// Rows that stand in the place of some of a matrix's.
#[derive(Module, Debug)]
pub(crate) struct TokenRows {
    /// `[tokens, hidden]`, f32: the rows themselves, not what they differ by.
    pub(crate) rows: Param<Tensor<2>>,
    /// Which rows of the matrix they are.
    #[module(skip)]
    ids: Vec<u32>,
}

impl TokenRows {
    /// The rows as `matrix` has them.
    pub(crate) fn copied(ids: Vec<u32>, matrix: &Param<Tensor<2>>) -> Option<Self> {
        if ids.is_empty() {
            return None;
        }
        let matrix = matrix.val().without_autodiff();
        let index: Vec<i32> = ids.iter().map(|id| *id as i32).collect();
        let index = Tensor::<1, Int>::from_data(TensorData::new(index, [ids.len()]), &matrix.device());
        Some(Self { rows: Param::from_tensor(matrix.select(0, index).cast(FloatDType::F32)), ids })
    }

    fn iter(&self) -> impl Iterator<Item = (usize, Tensor<2>)> {
        let rows = self.rows.val();
        self.ids.iter().zip(0..).map(move |(id, i)| (*id as usize, rows.clone().slice(i..i + 1)))
    }

    /// `x` `[n, hidden]`, the embeddings of `ids` `[n]`, with the rows in their place.
    pub(crate) fn embed(&self, x: Tensor<2>, ids: &Tensor<1, Int>) -> Tensor<2> {
        let [n, hidden] = x.dims();
        self.iter().fold(x, |x, (id, row)| {
            let here = ids.clone().equal_elem(id as i64).reshape([n, 1]).expand([n, hidden]);
            let row = row.cast(x.dtype());
            x.mask_where(here, row.expand([n, hidden]))
        })
    }

    /// The matrix `[vocab, hidden]` with the rows in their place; a copy of it.
    pub(crate) fn write(&self, matrix: Tensor<2>) -> Tensor<2> {
        if self.ids.len() > FEW {
            let vocab = matrix.dims()[0];
            let mut from: Vec<i32> = (0..vocab as i32).collect();
            self.ids.iter().zip(vocab as i32..).for_each(|(id, row)| from[*id as usize] = row);
            let from = Tensor::<1, Int>::from_data(TensorData::new(from, [vocab]), &matrix.device());
            return Tensor::cat(vec![matrix.clone(), self.rows.val().cast(matrix.dtype())], 0).select(0, from);
        }
        self.iter().fold(matrix, |matrix, (id, row)| {
            let hidden = row.dims()[1];
            let row = row.cast(matrix.dtype());
            matrix.slice_assign([id..id + 1, 0..hidden], row)
        })
    }

    /// Log-probs as of `head` with the rows in their place. Of the whole matrix no gradient is made: a row's own is
    /// `Σ (1[target is its token] − p)·hidden`, and is attached to a term whose value is 0.
    pub(crate) fn token_log_probs(&self, hidden: Tensor<2>, head: Tensor<2>, targets: Tensor<1, Int>) -> TokenScores {
        let (head, dtype) = (self.write(head).detach(), hidden.dtype());
        let fixed = hidden.clone().detach().cast(FloatDType::F32);
        let mut scores = kernels::token_log_probs(hidden, head.clone(), targets.clone());
        if !self.rows.val().is_require_grad() {
            return scores;
        }
        let log_probs = scores.log_probs.clone().detach();
        let log_sum =
            (fixed.clone() * kernels::embedding(head, targets.clone()).cast(FloatDType::F32)).sum_dim(1).flatten(0, 1) - log_probs;
        for (id, row) in self.iter() {
            let logit = |row: Tensor<2>| -> Tensor<1> { kernels::linear(fixed.clone(), row).flatten(0, 1) };
            // The head has the row in its own type.
            let value = logit(row.clone().detach().cast(dtype).cast(FloatDType::F32));
            let slope = targets.clone().equal_elem(id as i64).float() - (value - log_sum.clone()).exp();
            let logit = logit(row);
            scores.log_probs = scores.log_probs + (logit.clone() - logit.detach()) * slope;
        }
        scores
    }

    /// Logits `[n, vocab]` of the matrix, with the columns of the rows in their place.
    pub(crate) fn logits(&self, hidden: Tensor<2>, logits: Tensor<2>) -> Tensor<2> {
        let n = hidden.dims()[0];
        self.iter().fold(logits, |logits, (id, row)| {
            logits.slice_assign([0..n, id..id + 1], kernels::linear(hidden.clone(), row.cast(hidden.dtype())))
        })
    }
}
