//! Blocks of logits by gemm. A thread takes a part of the vocabulary, so that it alone writes that part of the weight's gradient.

use std::ops::Range;

use burn::backend::Flex;
use burn::backend::tensor::{FloatTensor, IntTensor};
use rayon::prelude::*;

use super::{TokenLogProbOps, composed};
use crate::kernels::PARTS;
use crate::kernels::composed::shape;
use crate::kernels::cpu::{
    LANES, Matrix, MatrixMut, Write, across, all_f32, contiguous, exp, floats, ids, max, multiply, sum, tensor, vectorised,
};

/// Rows of a block of logits.
const ROWS: usize = 512;
/// Tokens of a block of logits: with [`ROWS`] it is 1 MiB, half of a core's cache.
const TOKENS: usize = 512;

impl TokenLogProbOps for Flex {
    fn fused_token_log_probs(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        if !all_f32(&[&hidden, &weight]) {
            return composed::forward::<Self>(hidden, weight, targets);
        }
        let ([n, d], [vocab, _]) = (shape::<Self, 2>(&hidden), shape::<Self, 2>(&weight));
        let ([hidden, weight], targets) = ([hidden, weight].map(contiguous), ids(&targets));
        let head = Head { hidden: floats(&hidden), weight: floats(&weight), targets: &targets, d };
        let blocks: Vec<Range<usize>> = blocks(0..vocab, TOKENS).collect();
        let mut found = vec![Found::NOTHING; n];
        for rows in blocks_of_rows(n) {
            let partial: Vec<Vec<Found>> = blocks
                .par_iter()
                .map_init(|| vec![0.0; ROWS * TOKENS], |scratch, tokens| head.look(rows.clone(), tokens.clone(), scratch))
                .collect();
            for partial in partial {
                found[rows.clone()].iter_mut().zip(partial).for_each(|(found, more)| found.join(more));
            }
        }
        let output = |value: &dyn Fn(&Found, usize) -> f32| tensor(found.iter().zip(&targets).map(|(f, t)| value(f, *t)).collect(), [n]);
        (
            output(&|found, _| found.target - found.lse()),
            output(&|found, _| found.lse()),
            output(&|found, _| found.total.ln() - found.along / found.total),
            output(&|found, target| if found.best == target { 1.0 } else { 0.0 }),
            output(&|found, _| found.sum / vocab as f32),
        )
    }

    fn fused_token_log_probs_backward(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        lse: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if !all_f32(&[&hidden, &weight, &lse, &grad]) {
            return composed::backward::<Self>(hidden, weight, targets, lse, grad);
        }
        let ([_, d], [vocab, _]) = (shape::<Self, 2>(&hidden), shape::<Self, 2>(&weight));
        let mut d_weight = vec![0.0; vocab * d];
        let part = vocab.div_ceil(PARTS).max(1);
        let parts = d_weight.par_chunks_mut(part * d).map(Some);
        let d_hidden = backward(hidden, weight, targets, lse, grad, part, parts);
        (d_hidden, tensor(d_weight, [vocab, d]))
    }

    fn fused_token_log_probs_backward_hidden(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        lse: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        if !all_f32(&[&hidden, &weight, &lse, &grad]) {
            return composed::backward::<Self>(hidden, weight, targets, lse, grad).0;
        }
        let [vocab, _] = shape::<Self, 2>(&weight);
        let part = vocab.div_ceil(PARTS).max(1);
        let parts = (0..vocab.div_ceil(part)).into_par_iter().map(|_| None);
        backward(hidden, weight, targets, lse, grad, part, parts)
    }
}

/// `dhidden`; each part of `part` tokens of the vocabulary is a thread's, which adds its rows of `dweight` where they are wanted.
fn backward<'w>(
    hidden: FloatTensor<Flex>,
    weight: FloatTensor<Flex>,
    targets: IntTensor<Flex>,
    lse: FloatTensor<Flex>,
    grad: FloatTensor<Flex>,
    part: usize,
    parts: impl IndexedParallelIterator<Item = Option<&'w mut [f32]>>,
) -> FloatTensor<Flex> {
    let ([n, d], [vocab, _]) = (shape::<Flex, 2>(&hidden), shape::<Flex, 2>(&weight));
    let ([hidden, weight, lse, grad], targets) = ([hidden, weight, lse, grad].map(contiguous), ids(&targets));
    let [lse, grad] = [&lse, &grad].map(floats);
    let head = Head { hidden: floats(&hidden), weight: floats(&weight), targets: &targets, d };
    let shares: Vec<Vec<f32>> = parts
        .enumerate()
        .map(|(i, mut d_weight)| {
            let mut share = vec![0.0; n * d];
            let mut scratch = vec![0.0; ROWS * TOKENS];
            for rows in blocks_of_rows(n) {
                for tokens in blocks(i * part..vocab.min((i + 1) * part), TOKENS) {
                    let d_logits = head.d_logits(rows.clone(), tokens.clone(), lse, grad, &mut scratch);
                    if let Some(d_weight) = &mut d_weight {
                        let own = &mut d_weight[(tokens.start - i * part) * d..][..tokens.len() * d];
                        multiply(MatrixMut::new(own, tokens.len(), d), Write::Add, d_logits.t(), head.hidden(&rows));
                    }
                    let share = &mut share[rows.start * d..rows.end * d];
                    multiply(MatrixMut::new(share, rows.len(), d), Write::Add, d_logits, head.weight(&tokens));
                }
            }
            share
        })
        .collect();
    let mut d_hidden = vec![0.0; n * d];
    for share in shares {
        d_hidden.iter_mut().zip(share).for_each(|(sum, share)| *sum += share);
    }
    tensor(d_hidden, [n, d])
}

fn blocks(range: Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(size).map(move |start| start..end.min(start + size))
}

fn blocks_of_rows(n: usize) -> impl Iterator<Item = Range<usize>> {
    blocks(0..n, ROWS)
}

struct Head<'a> {
    hidden: &'a [f32],
    weight: &'a [f32],
    targets: &'a [usize],
    d: usize,
}

impl<'a> Head<'a> {
    fn hidden(&self, rows: &Range<usize>) -> Matrix<'a> {
        Matrix::new(&self.hidden[rows.start * self.d..], rows.len(), self.d)
    }

    fn weight(&self, tokens: &Range<usize>) -> Matrix<'a> {
        Matrix::new(&self.weight[tokens.start * self.d..], tokens.len(), self.d)
    }

    fn logits<'s>(&self, rows: &Range<usize>, tokens: &Range<usize>, scratch: &'s mut [f32]) -> &'s mut [f32] {
        let logits = &mut scratch[..rows.len() * tokens.len()];
        multiply(MatrixMut::new(logits, rows.len(), tokens.len()), Write::Replace, self.hidden(rows), self.weight(tokens).t());
        logits
    }

    /// What a block of the vocabulary says of some rows.
    fn look(&self, rows: Range<usize>, tokens: Range<usize>, scratch: &mut [f32]) -> Vec<Found> {
        let logits = self.logits(&rows, &tokens, scratch);
        logits
            .chunks_exact(tokens.len())
            .zip(&self.targets[rows])
            .map(|(logits, target)| Found {
                // The target may be in another block.
                target: target.checked_sub(tokens.start).and_then(|i| logits.get(i)).copied().unwrap_or(0.0),
                ..look(logits, tokens.start)
            })
            .collect()
    }

    /// The gradients of a block of logits.
    fn d_logits<'s>(&self, rows: Range<usize>, tokens: Range<usize>, lse: &[f32], grad: &[f32], scratch: &'s mut [f32]) -> Matrix<'s> {
        let logits = self.logits(&rows, &tokens, scratch);
        for (row, logits) in rows.clone().zip(logits.chunks_exact_mut(tokens.len())) {
            slopes(logits, lse[row], grad[row]);
            if let Some(target) = self.targets[row].checked_sub(tokens.start).and_then(|i| logits.get_mut(i)) {
                *target += grad[row];
            }
        }
        Matrix::new(logits, rows.len(), tokens.len())
    }
}

/// What some of the vocabulary says of one row.
#[derive(Clone, Copy)]
struct Found {
    /// The largest logit and its token.
    top: f32,
    best: usize,
    /// Σ exp(logit − top).
    total: f32,
    /// Σ exp(logit − top)·(logit − top).
    along: f32,
    /// Σ logit.
    sum: f32,
    /// The target's logit, or 0 where it is elsewhere.
    target: f32,
}

impl Found {
    const NOTHING: Self = Self { top: f32::NEG_INFINITY, best: 0, total: 0.0, along: 0.0, sum: 0.0, target: 0.0 };

    fn lse(&self) -> f32 {
        self.top + self.total.ln()
    }

    /// Adds what later tokens say.
    fn join(&mut self, more: Self) {
        if self.total == 0.0 {
            *self = Self { sum: self.sum + more.sum, target: self.target + more.target, ..more };
            return;
        }
        let top = self.top.max(more.top);
        let shifted = |found: &Self| {
            let (by, factor) = (found.top - top, (found.top - top).exp());
            (factor * found.total, factor * (found.along + by * found.total))
        };
        let ((a, along_a), (b, along_b)) = (shifted(self), shifted(&more));
        *self = Self {
            top,
            best: if more.top > self.top { more.best } else { self.best },
            total: a + b,
            along: along_a + along_b,
            sum: self.sum + more.sum,
            target: self.target + more.target,
        };
    }
}

vectorised! {
    /// What logits say whose first token is `first`; not the target's.
    fn look(logits: &[f32], first: usize) -> Found {
        let n = logits.len();
        let top = max(n, |i| logits[i]);
        let best = first + logits.iter().position(|logit| *logit == top).unwrap_or(0);
        let (mut totals, mut alongs) = ([0.0; LANES], [0.0; LANES]);
        let (whole, rest) = logits.as_chunks::<LANES>();
        for logits in whole {
            for lane in 0..LANES {
                let by = logits[lane] - top;
                let weight = exp(by);
                totals[lane] += weight;
                alongs[lane] += weight * by;
            }
        }
        let (mut total, mut along) = (across(totals), across(alongs));
        for logit in rest {
            let weight = exp(logit - top);
            total += weight;
            along += weight * (logit - top);
        }
        Found { top, best, total, along, sum: sum(n, |i| logits[i]), target: 0.0 }
    }

    fn slopes(logits: &mut [f32], lse: f32, grad: f32) {
        for logit in logits {
            *logit = -grad * exp(*logit - lse);
        }
    }
}
