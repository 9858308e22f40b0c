//! What each head sees of two embeddings.

use std::sync::Arc;

use crate::embedded::head::Features;

/// The embeddings of one exchange.
#[derive(Debug, Clone)]
pub(crate) struct EncodedExchange {
    /// Of the last turn, u.
    pub(crate) request: Arc<[f32]>,
    /// Of the response, v.
    pub(crate) response: Arc<[f32]>,
    /// Whether there is a turn to respond to.
    pub(crate) answers: bool,
}

/// v.
pub(crate) fn response(seen: &EncodedExchange) -> Features {
    let scale = scale(&seen.response);
    Features { hashed: Vec::new(), dense: seen.response.iter().map(|v| v * scale).collect() }
}

/// u, v, |u − v|, u ⊙ v (Conneau et al. 2017).
pub(crate) fn pair(seen: &EncodedExchange) -> Features {
    let scale = scale(&seen.response);
    let both = || seen.request.iter().zip(seen.response.iter());
    let mut dense: Vec<f32> = seen.request.iter().chain(seen.response.iter()).map(|x| x * scale).collect();
    dense.extend(both().map(|(u, v)| (u - v).abs() * scale));
    dense.extend(both().map(|(u, v)| u * v * scale * scale));
    Features { hashed: Vec::new(), dense }
}

/// Brings the numbers of a vector to a mean square of 1: one penalty then fits all features.
fn scale(vector: &[f32]) -> f32 {
    let square: f32 = vector.iter().map(|x| x * x).sum();
    (vector.len() as f32 / square.max(1e-12)).sqrt()
}
