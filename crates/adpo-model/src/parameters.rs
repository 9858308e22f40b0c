//! What looks at parameters and what replaces them, by the names that Hugging Face checkpoints give them.

use burn::module::Param;
use burn::tensor::Tensor;

/// Replaces each parameter.
pub trait ParameterMap {
    /// Gets the parameter under its Hugging Face name, gives its replacement (same shape, same id).
    fn map<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>>;
}

/// Looks at each parameter.
pub trait ParameterVisitor {
    /// Gets the parameter under its Hugging Face name.
    fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>);
}
