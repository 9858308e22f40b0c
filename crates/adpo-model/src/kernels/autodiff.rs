//! What the derivatives share.

use burn::backend::Backend;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::tensor::FloatTensor;

/// Hands each input that is tracked its gradient.
pub(super) fn register<B: Backend, const N: usize>(gradients: &mut Gradients, inputs: [Option<NodeId>; N], values: [FloatTensor<B>; N]) {
    for (input, value) in inputs.into_iter().zip(values) {
        if let Some(input) = input {
            gradients.register::<B>(input, value);
        }
    }
}
