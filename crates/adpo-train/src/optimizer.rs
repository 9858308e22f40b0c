//! AdamW as torch computes it, with its state keyed by parameter name.
//!
//! burn-optim's own AdamW keys its state by `ParamId`, which is drawn anew in every process, keeps the
//! moments in the gradient's dtype, and has no global clipping; an exact resume needs all three otherwise.

use std::collections::BTreeMap;

use adpo_model::kernels::{AdamWState, AdamWStep, adamw, sum_of_squares};
use adpo_model::{Llama, ParameterMap, ParameterVisitor};
use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::TrainOptions;

/// First and second moment of one parameter, flattened, f32.
struct Moments {
    first: Tensor<1>,
    second: Tensor<1>,
}

/// AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101, algorithm 2) in the arithmetic of `torch.optim.AdamW`:
/// decay `p ← p·(1 − lr·λ)`, then `p ← p − lr/(1−β₁ᵗ) · m / (√v/√(1−β₂ᵗ) + ε)`.
pub(crate) struct AdamW {
    beta1: f64,
    beta2: f64,
    epsilon: f64,
    weight_decay: f64,
    steps: u64,
    moments: BTreeMap<String, Moments>,
}

/// A tensor of the optimiser's state as host data, to be written to a checkpoint.
pub(crate) struct StateTensor {
    pub name: String,
    pub values: Vec<f32>,
}

impl AdamW {
    pub(crate) fn new(options: &TrainOptions) -> Self {
        Self {
            beta1: options.adam_beta1,
            beta2: options.adam_beta2,
            epsilon: options.adam_epsilon,
            weight_decay: options.weight_decay,
            steps: 0,
            moments: BTreeMap::new(),
        }
    }

    /// One step; gradients are scaled by `gradient_scale` first (the clipping factor).
    pub(crate) fn step(&mut self, model: Llama, gradients: GradientsParams, learning_rate: f64, gradient_scale: f64) -> Llama {
        self.steps += 1;
        model.map_parameters(&mut Update { optimizer: self, gradients, learning_rate, gradient_scale })
    }

    /// The state, in the order of the names: `first.<parameter>` and `second.<parameter>`.
    pub(crate) fn state(&self) -> Vec<StateTensor> {
        let host =
            |kind: &str, name: &str, tensor: &Tensor<1>| StateTensor { name: format!("{kind}.{name}"), values: to_host(tensor.clone()) };
        self.moments.iter().flat_map(|(name, m)| [host("first", name, &m.first), host("second", name, &m.second)]).collect()
    }

    /// Puts back what [`AdamW::state`] gave after `steps` steps of training `model`. The error lists every tensor that
    /// is missing, of another length than its parameter, or unexpected.
    pub(crate) fn restore(&mut self, steps: u64, state: Vec<StateTensor>, model: &Llama) -> Result<(), String> {
        let values = state.into_iter().map(|tensor| (tensor.name, tensor.values)).collect();
        let mut restore = Restore { values, moments: BTreeMap::new(), problems: Vec::new() };
        model.visit_trained_parameters(&mut restore);
        restore.problems.extend(restore.values.keys().map(|name| format!("`{name}` is unexpected")));
        if !restore.problems.is_empty() {
            return Err(restore.problems.join("; "));
        }
        self.moments = restore.moments;
        self.steps = steps;
        Ok(())
    }

    fn update(&mut self, name: &str, parameter: Tensor<1>, gradient: Tensor<1>, learning_rate: f64, gradient_scale: f64) -> Tensor<1> {
        let zeros = || Tensor::zeros(parameter.dims(), &parameter.device());
        let Moments { first, second } = self.moments.remove(name).unwrap_or_else(|| Moments { first: zeros(), second: zeros() });
        let step = AdamWStep {
            learning_rate,
            beta1: self.beta1,
            beta2: self.beta2,
            epsilon: self.epsilon,
            // Norms are the parameters of rank one; like everybody, we do not decay them.
            weight_decay: if name.ends_with("norm.weight") { 0.0 } else { self.weight_decay },
            step: self.steps,
            gradient_scale,
        };
        let AdamWState { parameter, first, second } = adamw(AdamWState { parameter, first, second }, gradient, step);
        self.moments.insert(name.to_owned(), Moments { first, second });
        parameter
    }
}

struct Restore {
    values: BTreeMap<String, Vec<f32>>,
    moments: BTreeMap<String, Moments>,
    problems: Vec<String>,
}

impl Restore {
    fn take(&mut self, name: &str, length: usize, device: &Device) -> Option<Tensor<1>> {
        match self.values.remove(name) {
            None => self.problems.push(format!("`{name}` is missing")),
            Some(values) if values.len() != length => {
                self.problems.push(format!("`{name}` holds {} values, not {length}", values.len()));
            }
            Some(values) => return Some(Tensor::from_data(TensorData::new(values, [length]), device)),
        }
        None
    }
}

impl ParameterVisitor for Restore {
    fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
        let (length, device) = (param.lazy_shape().num_elements(), param.val().device());
        let first = self.take(&format!("first.{name}"), length, &device);
        let second = self.take(&format!("second.{name}"), length, &device);
        if let (Some(first), Some(second)) = (first, second) {
            self.moments.insert(name.to_owned(), Moments { first, second });
        }
    }
}

struct Update<'a> {
    optimizer: &'a mut AdamW,
    gradients: GradientsParams,
    learning_rate: f64,
    gradient_scale: f64,
}

impl ParameterMap for Update<'_> {
    fn map<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = self.gradients.remove::<D>(param.id) else {
            return param;
        };
        param.map(|tensor| {
            let shape = tensor.shape();
            let value = tensor.inner().flatten::<1>(0, D - 1);
            let gradient = gradient.flatten::<1>(0, D - 1);
            let value = self.optimizer.update(name, value, gradient, self.learning_rate, self.gradient_scale);
            Tensor::from_inner(value.reshape(shape)).require_grad()
        })
    }
}

/// The global L2 norm of all gradients, in f64 over per-tensor f32 sums of squares.
pub(crate) fn gradient_norm(model: &Llama, gradients: &GradientsParams) -> f64 {
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

/// A tensor's values on the host as f32, whatever its dtype.
pub(crate) fn to_host(tensor: Tensor<1>) -> Vec<f32> {
    let data = tensor.into_data();
    let data = if data.dtype() == DType::F32 { data } else { data.convert_dtype(DType::F32) };
    data.iter::<f32>().collect()
}
