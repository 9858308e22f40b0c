//! In place where nobody else holds the input.

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;

use super::{RopeOps, composed};
use crate::kernels::composed::shape;
use crate::kernels::cpu::{all_f32, contiguous, floats, for_rows, vectorised, writable};

impl RopeOps for Flex {
    fn fused_rope(x: FloatTensor<Self>, cos: FloatTensor<Self>, sin: FloatTensor<Self>, inverse: bool) -> FloatTensor<Self> {
        let [_, heads, dim] = shape::<Self, 3>(&x);
        if dim == 0 || !all_f32(&[&x, &cos, &sin]) {
            return composed::<Self>(x, cos, sin, inverse);
        }
        let (mut y, [cos, sin]) = (writable(x), [cos, sin].map(contiguous));
        let [cos, sin] = [&cos, &sin].map(floats);
        let (half, sign) = (dim / 2, if inverse { -1.0 } else { 1.0 });
        for_rows(y.storage_mut(), heads * dim, |first, rows| {
            turn(rows, heads, &cos[first * half..], &sin[first * half..], half, sign);
        });
        y
    }
}

vectorised! {
    fn turn(rows: &mut [f32], heads: usize, cos: &[f32], sin: &[f32], half: usize, sign: f32) {
        let angles = cos.chunks_exact(half).zip(sin.chunks_exact(half));
        for (row, (cos, sin)) in rows.chunks_exact_mut(heads * half * 2).zip(angles) {
            for head in row.chunks_exact_mut(half * 2) {
                let (x1, x2) = head.split_at_mut(half);
                for (((x1, x2), cos), sin) in x1.iter_mut().zip(x2).zip(cos).zip(sin) {
                    let sin = sign * sin;
                    (*x1, *x2) = (*x1 * cos - *x2 * sin, *x2 * cos + *x1 * sin);
                }
            }
        }
    }
}
