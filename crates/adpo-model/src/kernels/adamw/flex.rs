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
        let (size, root, kept) = step.factors();
        let [size, root, kept, epsilon] = [size, 1.0 / root, kept, step.epsilon].map(|factor| factor as f32);
        let [b1, b2, scale] = [step.beta1, step.beta2, step.gradient_scale].map(|factor| factor as f32);
        let [c1, c2] = [1.0 - step.beta1, 1.0 - step.beta2].map(|factor| factor as f32);
        let pieces = parameter.storage_mut::<f32>().par_chunks_mut(PIECE).zip(floats(&gradient).par_chunks(PIECE));
        let moments = first.storage_mut::<f32>().par_chunks_mut(PIECE).zip(second.storage_mut::<f32>().par_chunks_mut(PIECE));
        pieces.zip(moments).for_each(|((parameter, gradient), (first, second))| {
            vectorised(|| {
                for (((p, g), m), v) in parameter.iter_mut().zip(gradient).zip(first).zip(second) {
                    let g = g * scale;
                    *m = b1 * *m + c1 * g;
                    *v = b2 * *v + c2 * (g * g);
                    *p = *p * kept - size * (*m / (v.sqrt() * root + epsilon));
                }
            });
        });
        (parameter, first, second)
    }

    fn fused_sum_of_squares(x: FloatTensor<Self>) -> FloatTensor<Self> {
        if !all_f32(&[&x]) {
            return composed_sum_of_squares::<Self>(x);
        }
        let x = contiguous(x);
        // The pieces are fixed, and so is the order in which they are added.
        let pieces: Vec<f32> = floats(&x).par_chunks(PIECE).map(|x| vectorised(|| sum(x.len(), |i| x[i] * x[i]))).collect();
        tensor(vec![pieces.iter().map(|piece| f64::from(*piece)).sum::<f64>() as f32], [1])
    }
}
