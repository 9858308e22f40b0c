//! AdamW as torch computes it, with its state keyed by parameter name.
//!
//! Where weights are narrower than f32, the state holds them in f32 as well: these masters are what moves, and a step's weights
//! are their rounding. bf16 has 8 bits of precision: a step of 5e-6 would never move a weight above 2.6e-3.
//!
//! burn-optim's own AdamW keys its state by `ParamId`, which is drawn anew in every process, keeps the
//! moments in the gradient's dtype, and has no global clipping; an exact resume needs all three otherwise.

use std::collections::BTreeMap;

use adpo_model::kernels::{AdamWState, AdamWStep, adamw};
use adpo_model::{Dtype, Llama, ParameterMap, ParameterVisitor, StoredTensor};
use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};

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
    /// The weights in f32, flattened, by name; empty where the model's own are f32.
    masters: BTreeMap<String, Tensor<1>>,
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
            masters: BTreeMap::new(),
        }
    }

    /// The model with weights of this type. Trained ones that become narrower stay here in f32, unless [`AdamW::restore`] has
    /// brought them: a checkpoint's weights are their rounding.
    pub(crate) fn narrow(&mut self, model: Llama, dtype: Dtype) -> Llama {
        if has_masters(&model, dtype) && self.masters.is_empty() {
            model.visit_trained_parameters(&mut Keep(&mut self.masters));
        }
        model.with_dtype(dtype)
    }

    /// One step; gradients are scaled by `gradient_scale` first (the clipping factor).
    pub(crate) fn step(&mut self, model: Llama, gradients: GradientsParams, learning_rate: f64, gradient_scale: f64) -> Llama {
        self.steps += 1;
        model.map_parameters(&mut Update { optimizer: self, gradients, learning_rate, gradient_scale })
    }

    /// The state: `master.<parameter>` where there are masters, `first.<parameter>` and `second.<parameter>`.
    pub(crate) fn state(&self) -> Vec<StoredTensor> {
        let of = |kind: &str, name: &str, tensor: &Tensor<1>| StoredTensor::new(format!("{kind}.{name}"), tensor.clone(), Dtype::Float32);
        let masters = self.masters.iter().map(|(name, master)| of("master", name, master));
        masters.chain(self.moments.iter().flat_map(|(name, m)| [of("first", name, &m.first), of("second", name, &m.second)])).collect()
    }

    /// Puts back what [`AdamW::state`] gave after `steps` steps of training `model` in this type: little-endian f32 by the
    /// tensors' names. The error lists every tensor that is missing, of another length than its parameter, or unexpected.
    pub(crate) fn restore(&mut self, steps: u64, values: BTreeMap<String, &[u8]>, model: &Llama, dtype: Dtype) -> Result<(), String> {
        let has_masters = has_masters(model, dtype);
        let mut restore = Restore { values, has_masters, masters: BTreeMap::new(), moments: BTreeMap::new(), problems: Vec::new() };
        model.visit_trained_parameters(&mut restore);
        restore.problems.extend(restore.values.keys().map(|name| format!("`{name}` is unexpected")));
        if !restore.problems.is_empty() {
            return Err(restore.problems.join("; "));
        }
        (self.masters, self.moments) = (restore.masters, restore.moments);
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
            // Like everybody, we do not decay the parameters of rank one.
            weight_decay: if name.ends_with("norm.weight") || name.ends_with("proj.bias") { 0.0 } else { self.weight_decay },
            step: self.steps,
            gradient_scale,
        };
        let dtype = parameter.dtype();
        let master = self.masters.remove(name);
        let has_master = master.is_some();
        // Moved, so that what nobody else holds is written in place.
        let parameter = master.unwrap_or(parameter);
        let AdamWState { parameter, first, second } = adamw(AdamWState { parameter, first, second }, gradient, step);
        self.moments.insert(name.to_owned(), Moments { first, second });
        if has_master {
            self.masters.insert(name.to_owned(), parameter.clone());
        }
        parameter.cast(dtype)
    }
}

/// Adapters are f32 whatever they stand beside.
fn has_masters(model: &Llama, dtype: Dtype) -> bool {
    dtype != Dtype::Float32 && model.lora().is_none()
}

/// Takes the weights as they are before the model becomes narrower.
struct Keep<'a>(&'a mut BTreeMap<String, Tensor<1>>);

impl ParameterVisitor for Keep<'_> {
    fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
        let master = param.val().without_autodiff().flatten::<1>(0, D - 1).cast(FloatDType::F32);
        self.0.insert(name.to_owned(), master);
    }
}

struct Restore<'a> {
    values: BTreeMap<String, &'a [u8]>,
    has_masters: bool,
    masters: BTreeMap<String, Tensor<1>>,
    moments: BTreeMap<String, Moments>,
    problems: Vec<String>,
}

impl Restore<'_> {
    fn take(&mut self, name: &str, length: usize, device: &Device) -> Option<Tensor<1>> {
        match self.values.remove(name) {
            None => self.problems.push(format!("`{name}` is missing")),
            Some(bytes) if bytes.len() != 4 * length => {
                self.problems.push(format!("`{name}` holds {} values, not {length}", bytes.len() / 4));
            }
            Some(bytes) => {
                let values: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
                return Some(Tensor::from_data(TensorData::new(values, [length]), device));
            }
        }
        None
    }
}

impl ParameterVisitor for Restore<'_> {
    fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
        let (length, device) = (param.lazy_shape().num_elements(), param.val().device());
        if self.has_masters
            && let Some(master) = self.take(&format!("master.{name}"), length, &device)
        {
            self.masters.insert(name.to_owned(), master);
        }
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

/// A tensor's values on the host as f32, whatever its dtype.
pub(crate) fn to_host(tensor: Tensor<1>) -> Vec<f32> {
    let data = tensor.into_data();
    let data = if data.dtype() == DType::F32 { data } else { data.convert_dtype(DType::F32) };
    data.iter::<f32>().collect()
}
