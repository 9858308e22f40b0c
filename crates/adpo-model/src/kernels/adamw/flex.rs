//! One pass over parameter, gradient and moments, all threads, in place.

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use rayon::prelude::*;

use super::{AdamWOps, AdamWStep, composed, composed_sum_of_squares};
use crate::kernels::cpu::{PIECE, all_f32, contiguous, floats, sum, tensor, vectorised, writable};

impl AdamWOps for Flex {
    fn fused_adamw(
        parameter: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        step: AdamWStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        if !all_f32(&[&parameter, &gradient, &first, &second]) {
            return composed::<Self>(parameter, gradient, first, second, step);
        }
        let [mut parameter, mut first, mut second] = [parameter, first, second].map(writable);
        let gradient = contiguous(gradient);
        let factors = Factors::of(step);
        let pieces = parameter.storage_mut::<f32>().par_chunks_mut(PIECE).zip(floats(&gradient).par_chunks(PIECE));
        let moments = first.storage_mut::<f32>().par_chunks_mut(PIECE).zip(second.storage_mut::<f32>().par_chunks_mut(PIECE));
        pieces.zip(moments).for_each(|((parameter, gradient), (first, second))| update(parameter, gradient, first, second, factors));
        (parameter, first, second)
    }

    fn fused_sum_of_squares(x: FloatTensor<Self>) -> FloatTensor<Self> {
        if !all_f32(&[&x]) {
            return composed_sum_of_squares::<Self>(x);
        }
        let x = contiguous(x);
        // The pieces are fixed, and so is the order in which they are added.
        let pieces: Vec<f32> = floats(&x).par_chunks(PIECE).map(squares).collect();
        tensor(vec![pieces.iter().map(|piece| f64::from(*piece)).sum::<f64>() as f32], [1])
    }
}

/// [`AdamWStep`] in f32.
#[derive(Clone, Copy)]
struct Factors {
    gradient: f32,
    first: [f32; 2],
    second: [f32; 2],
    size: f32,
    root: f32,
    epsilon: f32,
    kept: f32,
}

impl Factors {
    fn of(step: AdamWStep) -> Self {
        let (size, root, kept) = step.factors();
        Self {
            gradient: step.gradient_scale as f32,
            first: [step.beta1 as f32, (1.0 - step.beta1) as f32],
            second: [step.beta2 as f32, (1.0 - step.beta2) as f32],
            size: size as f32,
            root: (1.0 / root) as f32,
            epsilon: step.epsilon as f32,
            kept: kept as f32,
        }
    }
}

vectorised! {
    fn update(parameter: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32], by: Factors) {
        for (((p, g), m), v) in parameter.iter_mut().zip(gradient).zip(first).zip(second) {
            let g = g * by.gradient;
            *m = by.first[0] * *m + by.first[1] * g;
            *v = by.second[0] * *v + by.second[1] * (g * g);
            *p = *p * by.kept - by.size * (*m / (v.sqrt() * by.root + by.epsilon));
        }
    }

    fn squares(x: &[f32]) -> f32 {
        sum(x.len(), |i| x[i] * x[i])
    }
}
