//! Rows are copied by all threads; for the gradient the cells are sorted by id, and each thread sums for its own part of the
//! table, in the order of the cells.

use burn::backend::Flex;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::{FloatTensor, IntTensor};

use super::{EmbeddingOps, composed_backward};
use crate::kernels::composed::shape;
use crate::kernels::cpu::{all_f32, contiguous, floats, for_rows, ids, tensor};

impl EmbeddingOps for Flex {
    fn fused_embedding(weight: FloatTensor<Self>, cells: IntTensor<Self>) -> FloatTensor<Self> {
        if !all_f32(&[&weight]) {
            return Self::float_select(weight, 0, cells);
        }
        let ([_, d], weight, ids) = (shape::<Self, 2>(&weight), contiguous(weight), ids(&cells));
        let weight = floats(&weight);
        let mut y = vec![0.0; ids.len() * d];
        for_rows(&mut y, d, |first, y| {
            for (y, id) in y.chunks_exact_mut(d).zip(&ids[first..]) {
                y.copy_from_slice(&weight[id * d..][..d]);
            }
        });
        tensor(y, [ids.len(), d])
    }

    fn fused_embedding_backward(grad: FloatTensor<Self>, cells: IntTensor<Self>, vocab: usize) -> FloatTensor<Self> {
        if !all_f32(&[&grad]) {
            return composed_backward::<Self>(grad, cells, vocab);
        }
        let ([_, d], grad, ids) = (shape::<Self, 2>(&grad), contiguous(grad), ids(&cells));
        let grad = floats(&grad);
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_by_key(|cell| ids[*cell]);
        let mut dw = vec![0.0; vocab * d];
        for_rows(&mut dw, d, |first, dw| {
            let from = order.partition_point(|cell| ids[*cell] < first);
            let to = order.partition_point(|cell| ids[*cell] < first + dw.len() / d);
            for cell in &order[from..to] {
                let row = &mut dw[(ids[*cell] - first) * d..][..d];
                row.iter_mut().zip(&grad[cell * d..]).for_each(|(sum, grad)| *sum += grad);
            }
        });
        tensor(dw, [vocab, d])
    }
}
