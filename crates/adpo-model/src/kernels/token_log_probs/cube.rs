//! Burn's matrix product makes the logits of a chunk of the vocabulary; a kernel folds them into what is known of each row.
//!
//! So there are never more than `n` times [`CHUNK`] logits: f32 whatever the weights are, and beside them, in the backward pass,
//! their gradients in the weights' dtype.
#![expect(clippy::used_underscore_binding, reason = "what `#[cube]` makes of a kernel's dtypes")]

use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{DType, Slice};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{TokenLogProbOps, composed};
use crate::kernels::composed::{narrow, shape};
#[cfg(feature = "_source")]
use crate::kernels::cube::source::{Sources, buffer};
#[cfg(feature = "_source")]
use crate::kernels::cube::vector;
use crate::kernels::cube::{UNITS, contiguous, each, element, empty, grid, supported, width};

/// Columns of the vocabulary at once.
const CHUNK: usize = 16 * 1024;

/// What is known of a row: largest logit, Σ exp(l − max), Σ (l − max)·exp(l − max), Σ l, where the largest is, the target's logit.
const FACTS: usize = 6;

impl TokenLogProbOps for CubeBackend {
    fn fused_token_log_probs(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        if !fused(&hidden, &weight) {
            return composed::forward::<Self>(hidden, weight, targets);
        }
        let ([n, _], [vocab, _]) = (shape::<Self, 2>(&hidden), shape::<Self, 2>(&weight));
        let (client, int, targets) = (hidden.client.clone(), element(&targets), contiguous(targets));
        let facts = empty(&hidden, [n, FACTS], DType::F32);
        for chunk in chunks(vocab) {
            let logits = logits(&hidden, rows(&weight, &chunk));
            let vector = width(&[&logits], chunk.len());
            fold::launch(
                &client,
                grid(n),
                CubeDim::new_1d(UNITS),
                vector,
                logits.into_buffer_arg(),
                targets.clone().into_buffer_arg(),
                facts.clone().into_buffer_arg(),
                n as u32,
                (chunk.len() / vector) as u32,
                chunk.start as u32,
                int,
            );
        }
        let [log_probs, lse, entropy, correct, mean_logit] = [(); 5].map(|()| empty(&hidden, [n], DType::F32));
        let (cubes, units) = each(n);
        conclude::launch(
            &client,
            cubes,
            units,
            facts.into_buffer_arg(),
            targets.into_buffer_arg(),
            log_probs.clone().into_buffer_arg(),
            lse.clone().into_buffer_arg(),
            entropy.clone().into_buffer_arg(),
            correct.clone().into_buffer_arg(),
            mean_logit.clone().into_buffer_arg(),
            n as u32,
            vocab as f32,
            int,
        );
        (log_probs, lse, entropy, correct, mean_logit)
    }

    fn fused_token_log_probs_backward(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        lse: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if !fused(&hidden, &weight) || grad.dtype != DType::F32 {
            return composed::backward::<Self>(hidden, weight, targets, lse, grad);
        }
        let d_weight = empty(&weight, shape::<Self, 2>(&weight), weight.dtype);
        let (d_hidden, d_weight) = backward(hidden, weight, targets, lse, grad, Some(d_weight));
        (d_hidden, d_weight.expect("given, and so given back"))
    }

    fn fused_token_log_probs_backward_hidden(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        lse: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        if !fused(&hidden, &weight) || grad.dtype != DType::F32 {
            return composed::backward::<Self>(hidden, weight, targets, lse, grad).0;
        }
        backward(hidden, weight, targets, lse, grad, None).0
    }
}

/// `dhidden`, and `dweight` where there is memory for it.
fn backward(
    hidden: CubeTensor,
    weight: CubeTensor,
    targets: CubeTensor,
    lse: CubeTensor,
    grad: CubeTensor,
    mut d_weight: Option<CubeTensor>,
) -> (CubeTensor, Option<CubeTensor>) {
    let ([n, d], [vocab, _]) = (shape::<CubeBackend, 2>(&hidden), shape::<CubeBackend, 2>(&weight));
    let (client, dtypes) = (hidden.client.clone(), [element(&hidden), element(&targets)]);
    let [targets, lse, grad] = [targets, lse, grad].map(contiguous);
    let mut d_hidden: Option<CubeTensor> = None;
    for chunk in chunks(vocab) {
        let weight = rows(&weight, &chunk);
        let logits = logits(&hidden, weight.clone());
        let d_logits = empty(&hidden, [n, chunk.len()], hidden.dtype);
        let vector = width(&[&logits], chunk.len());
        let (cubes, units) = each(n * chunk.len() / vector);
        slopes::launch(
            &client,
            cubes,
            units,
            vector,
            logits.into_buffer_arg(),
            targets.clone().into_buffer_arg(),
            lse.clone().into_buffer_arg(),
            grad.clone().into_buffer_arg(),
            d_logits.clone().into_buffer_arg(),
            (n * chunk.len() / vector) as u32,
            (chunk.len() / vector) as u32,
            chunk.start as u32,
            dtypes,
        );
        let share = product(d_logits.clone(), weight, DType::F32);
        d_hidden = Some(match d_hidden {
            Some(sum) => CubeBackend::float_add(sum, share),
            None => share,
        });
        d_weight = d_weight.map(|d_weight| {
            let share = product(CubeBackend::float_transpose(d_logits), hidden.clone(), d_weight.dtype);
            CubeBackend::float_slice_assign(d_weight, &[Slice::from(chunk), Slice::from(0..d)], share)
        });
    }
    let d_hidden = d_hidden.unwrap_or_else(|| empty(&hidden, [n, d], DType::F32));
    (narrow::<CubeBackend>(d_hidden, hidden.dtype), d_weight)
}

fn fused(hidden: &CubeTensor, weight: &CubeTensor) -> bool {
    supported(&[hidden, weight]) && hidden.dtype == weight.dtype
}

fn chunks(vocab: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..vocab).step_by(CHUNK).map(move |first| first..vocab.min(first + CHUNK))
}

/// Some rows of a matrix, where they lie if the device can read from there.
fn rows(matrix: &CubeTensor, range: &std::ops::Range<usize>) -> CubeTensor {
    let [_, d] = shape::<CubeBackend, 2>(matrix);
    CubeBackend::float_slice(matrix.clone(), &[Slice::from(range.clone()), Slice::from(0..d)])
}

/// `hidden · weightᵀ`, contiguous.
fn logits(hidden: &CubeTensor, weight: CubeTensor) -> CubeTensor {
    contiguous(product(hidden.clone(), CubeBackend::float_transpose(weight), DType::F32))
}

fn product(left: CubeTensor, right: CubeTensor, dtype: DType) -> CubeTensor {
    matmul(left, right, None, MatmulStrategy::default(), dtype)
        .expect("matrices of fitting shapes multiply, as in Burn's own `float_matmul`")
}

/// One row's facts with those of another chunk, one cube per row.
#[cube(launch)]
fn fold<I: Int, N: Size>(
    logits: &[Vector<f32, N>],
    targets: &[I],
    facts: &mut [f32],
    rows: u32,
    pieces: u32,
    start: u32,
    #[define(I)] _dtype: ElemType,
) {
    let row = CUBE_POS;
    if row >= rows as usize {
        terminate!();
    }
    let (pieces, unit) = (pieces as usize, UNIT_POS as usize);
    let mut top = f32::new(-1e30f32);
    let mut sum = 0.0f32;
    let mut weighted = 0.0f32;
    let mut total = 0.0f32;
    let mut best = 0u32;
    let mut i = unit;
    while i < pieces {
        let piece = logits[row * pieces + i];
        total += piece.vector_sum();
        #[unroll]
        for lane in 0..N::value() {
            let logit = piece.extract(lane);
            if logit > top {
                let shrink = (top - logit).exp();
                weighted = shrink * (weighted + sum * (top - logit));
                sum = shrink * sum + 1.0f32;
                top = logit;
                best = (i * N::value() + lane) as u32;
            } else {
                let below = logit - top;
                let share = below.exp();
                weighted += share * below;
                sum += share;
            }
        }
        i += UNITS as usize;
    }
    let mut tops = Shared::<[f32]>::new_slice(UNITS as usize);
    let mut sums = Shared::<[f32]>::new_slice(UNITS as usize);
    let mut weights = Shared::<[f32]>::new_slice(UNITS as usize);
    let mut totals = Shared::<[f32]>::new_slice(UNITS as usize);
    let mut bests = Shared::<[u32]>::new_slice(UNITS as usize);
    tops[unit] = top;
    sums[unit] = sum;
    weights[unit] = weighted;
    totals[unit] = total;
    bests[unit] = best;
    sync_cube();
    let mut step = (CUBE_DIM / 2) as usize;
    while step > 0 {
        if unit < step {
            let (mine, other) = (tops[unit], tops[unit + step]);
            let top = max(mine, other);
            let (shrink_mine, shrink_other) = ((mine - top).exp(), (other - top).exp());
            weights[unit] = shrink_mine * (weights[unit] + sums[unit] * (mine - top))
                + shrink_other * (weights[unit + step] + sums[unit + step] * (other - top));
            sums[unit] = shrink_mine * sums[unit] + shrink_other * sums[unit + step];
            totals[unit] += totals[unit + step];
            if other > mine || (other == mine && bests[unit + step] < bests[unit]) {
                bests[unit] = bests[unit + step];
            }
            tops[unit] = top;
        }
        sync_cube();
        step /= 2;
    }
    if unit == 0 {
        let at = row * FACTS;
        keep(facts, at, start, tops[0], sums[0], weights[0], totals[0], bests[0]);
        let wanted = u32::cast_from(targets[row]);
        if wanted >= start && ((wanted - start) as usize) < pieces * N::value() {
            let place = (wanted - start) as usize;
            let piece = logits[row * pieces + place / N::value()];
            #[unroll]
            for lane in 0..N::value() {
                if place % N::value() == lane {
                    facts[at + 5] = piece.extract(lane);
                }
            }
        }
    }
}

/// Merges what the chunk from `start` on says of a row with what the ones before it said; `best` counts within the chunk.
#[cube]
fn keep(facts: &mut [f32], at: usize, start: u32, top: f32, sum: f32, weighted: f32, total: f32, best: u32) {
    // Exact: no vocabulary has 2²⁴ tokens.
    let best = f32::cast_from(start + best);
    if start == 0 {
        facts[at] = top;
        facts[at + 1] = sum;
        facts[at + 2] = weighted;
        facts[at + 3] = total;
        facts[at + 4] = best;
    } else {
        let before = facts[at];
        let both = max(before, top);
        let (shrink_before, shrink) = ((before - both).exp(), (top - both).exp());
        let weighted_before = facts[at + 2] + facts[at + 1] * (before - both);
        facts[at] = both;
        facts[at + 1] = shrink_before * facts[at + 1] + shrink * sum;
        facts[at + 2] = shrink_before * weighted_before + shrink * (weighted + sum * (top - both));
        facts[at + 3] += total;
        if top > before {
            facts[at + 4] = best;
        }
    }
}

#[cube(launch)]
fn conclude<I: Int>(
    facts: &[f32],
    targets: &[I],
    log_probs: &mut [f32],
    lse: &mut [f32],
    entropy: &mut [f32],
    correct: &mut [f32],
    mean_logit: &mut [f32],
    rows: u32,
    vocab: f32,
    #[define(I)] _dtype: ElemType,
) {
    let row = ABSOLUTE_POS;
    if row >= rows as usize {
        terminate!();
    }
    let at = row * FACTS;
    let sum = facts[at + 1];
    let log_sum_exp = facts[at] + sum.ln();
    log_probs[row] = facts[at + 5] - log_sum_exp;
    lse[row] = log_sum_exp;
    entropy[row] = sum.ln() - facts[at + 2] / sum;
    mean_logit[row] = facts[at + 3] / vocab;
    correct[row] = select(u32::cast_from(facts[at + 4]) == u32::cast_from(targets[row]), 1.0f32, 0.0f32);
}

/// `grad·(onehot − exp(logits − lse))`.
#[cube(launch)]
fn slopes<F: Float, I: Int, N: Size>(
    logits: &[Vector<f32, N>],
    targets: &[I],
    lse: &[f32],
    grad: &[f32],
    d_logits: &mut [Vector<F, N>],
    total: u32,
    pieces: u32,
    start: u32,
    #[define(F, I)] _dtypes: [ElemType; 2],
) {
    if ABSOLUTE_POS >= total as usize {
        terminate!();
    }
    let (row, piece) = (ABSOLUTE_POS / pieces as usize, ABSOLUTE_POS % pieces as usize);
    let wanted = u32::cast_from(targets[row]);
    let first = start + (piece * N::value()) as u32;
    let slope = grad[row];
    let probability = (logits[ABSOLUTE_POS] - Vector::new(lse[row])).exp();
    let mut d = probability * Vector::new(-slope);
    #[unroll]
    for lane in 0..N::value() {
        if wanted == first + lane as u32 {
            d.insert(lane, d.extract(lane) + slope);
        }
    }
    d_logits[ABSOLUTE_POS] = Vector::cast_from(d);
}

#[cfg(feature = "_source")]
pub(in crate::kernels) fn sources(sources: &mut Sources) {
    let (f, units) = (sources.element, CubeDim::new_1d(UNITS));
    let vector = vector(&sources.device, 4, CHUNK);
    sources.add("token_log_probs_fold", units, |(settings, device, target)| {
        fold::Fold::new(settings, device, target, buffer(), buffer(), buffer(), (), (), (), vector, Sources::INT)
    });
    sources.add("token_log_probs_conclude", units, |(settings, device, target)| {
        let [facts, targets, log_probs, lse, entropy, correct, mean_logit] = [(); 7].map(|()| buffer());
        let int = Sources::INT;
        conclude::Conclude::new(settings, device, target, facts, targets, log_probs, lse, entropy, correct, mean_logit, (), (), int)
    });
    sources.add("token_log_probs_slopes", units, |(settings, device, target)| {
        let [logits, targets, lse, grad, d_logits] = [(); 5].map(|()| buffer());
        slopes::Slopes::new(settings, device, target, logits, targets, lse, grad, d_logits, (), (), (), vector, [f, Sources::INT])
    });
}
