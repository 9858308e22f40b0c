//! The sum of the gradients of several passes, and its norm.

use adpo_model::kernels::sum_of_squares;
use adpo_model::{Llama, ParameterVisitor};
use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::{FloatDType, Tensor};

use crate::optimizer::to_host;

/// `sum` and `more` of the same model, added in f32 whatever they are: of many small numbers bf16 would keep the first ones.
pub(crate) fn add(model: &Llama, sum: GradientsParams, more: GradientsParams) -> GradientsParams {
    struct Add {
        sum: GradientsParams,
        more: GradientsParams,
    }
    impl ParameterVisitor for Add {
        fn visit<const D: usize>(&mut self, _name: &str, param: &Param<Tensor<D>>) {
            let Some(more) = self.more.remove::<D>(param.id) else { return };
            let sum = match self.sum.remove::<D>(param.id) {
                Some(sum) => sum.cast(FloatDType::F32) + more.cast(FloatDType::F32),
                None => more,
            };
            self.sum.register(param.id, sum);
        }
    }
    let mut add = Add { sum, more };
    model.visit_trained_parameters(&mut add);
    add.sum
}

/// The global L2 norm of all gradients, in f64 over per-tensor f32 sums of squares.
pub(crate) fn norm(model: &Llama, gradients: &GradientsParams) -> f64 {
    struct Squares<'a> {
        gradients: &'a GradientsParams,
        sums: Vec<Tensor<1>>,
    }
    impl ParameterVisitor for Squares<'_> {
        fn visit<const D: usize>(&mut self, _name: &str, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.gradients.get::<D>(param.id) {
                self.sums.push(sum_of_squares(gradient.flatten(0, D - 1)));
            }
        }
    }
    let mut squares = Squares { gradients, sums: Vec::new() };
    model.visit_parameters(&mut squares);
    if squares.sums.is_empty() {
        return 0.0;
    }
    // One read-back for all tensors: on a GPU each one is a synchronisation.
    to_host(Tensor::cat(squares.sums, 0)).into_iter().map(f64::from).sum::<f64>().sqrt()
}

/// torch's `clip_grad_norm_` factor.
pub(crate) fn clip_factor(norm: f64, max_norm: f64) -> f64 {
    if max_norm == 0.0 { 1.0 } else { (max_norm / (norm + 1e-6)).min(1.0) }
}
