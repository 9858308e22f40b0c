//! Batches for tests, on the default CPU device.

use adpo_objective::{ExampleLosses, Lengths, LogProbs, Objective, RoleLogProbs, ToxAnchor};
use burn::tensor::{Device, Tensor};
use serde::Deserialize;

/// The inputs of golden.json: log-probs of policy, reference and inner toxic model, by role.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Inputs {
    pub(crate) pol_w: Vec<f64>,
    pub(crate) pol_l: Vec<f64>,
    pub(crate) pol_t: Vec<f64>,
    pub(crate) ref_w: Vec<f64>,
    pub(crate) ref_l: Vec<f64>,
    pub(crate) ref_t: Vec<f64>,
    pub(crate) tox_w: Vec<f64>,
    pub(crate) tox_t: Vec<f64>,
    pub(crate) len_w: Vec<f64>,
    pub(crate) len_l: Vec<f64>,
    pub(crate) len_t: Vec<f64>,
}

pub(crate) fn golden() -> serde_json::Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/objective/golden.json");
    serde_json::from_str(&std::fs::read_to_string(path).expect("the fixture is committed")).expect("the fixture is JSON")
}

pub(crate) fn inputs() -> Inputs {
    serde_json::from_value(golden()["inputs"].clone()).expect("all eleven inputs")
}

pub(crate) fn numbers(value: &serde_json::Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).expect("a list of numbers")
}

impl Inputs {
    /// The policy tracked by autodiff; everything else deliberately on the plain device.
    pub(crate) fn batch(&self) -> LogProbs {
        let plain = |values: &[f64]| tensor(values, &Device::flex());
        let tracked = |values: &[f64]| tensor(values, &Device::flex().autodiff()).require_grad();
        LogProbs {
            policy: RoleLogProbs { chosen: tracked(&self.pol_w), rejected: tracked(&self.pol_l), toxic: Some(tracked(&self.pol_t)) },
            reference: Some(RoleLogProbs { chosen: plain(&self.ref_w), rejected: plain(&self.ref_l), toxic: Some(plain(&self.ref_t)) }),
            tox_anchor: Some(ToxAnchor { chosen: Some(plain(&self.tox_w)), toxic: plain(&self.tox_t) }),
            lengths: Lengths { chosen: plain(&self.len_w), rejected: plain(&self.len_l), toxic: Some(plain(&self.len_t)) },
        }
    }

    /// The same batch before the first step: πθ = πref.
    pub(crate) fn at_reference(&self) -> Self {
        let (pol_w, pol_l, pol_t) = (self.ref_w.clone(), self.ref_l.clone(), self.ref_t.clone());
        Self { pol_w, pol_l, pol_t, ..self.clone() }
    }
}

pub(crate) fn tensor(values: &[f64], device: &Device) -> Tensor<1> {
    let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    Tensor::from_floats(values.as_slice(), device)
}

pub(crate) fn read(tensor: &Tensor<1>) -> Vec<f64> {
    let values = tensor.to_data().try_to_vec::<f32>().expect("f32 on Flex");
    values.into_iter().map(f64::from).collect()
}

/// Per-example gradients of the losses with respect to the policy's (chosen, rejected, toxic).
pub(crate) fn gradients(outcome: &ExampleLosses, batch: &LogProbs) -> [Vec<f64>; 3] {
    let policy = &batch.policy;
    let toxic = policy.toxic.as_ref().expect("these batches carry toxic responses");
    let all = outcome.losses.clone().sum().backward();
    // A role that the loss does not read has no entry: its gradient is zero.
    [&policy.chosen, &policy.rejected, toxic].map(|role| {
        let [examples] = role.dims();
        role.grad(&all).map_or_else(|| vec![0.0; examples], |gradient| read(&gradient))
    })
}

/// The objective that a recipe with this text names.
pub(crate) fn objective(toml: &str) -> Result<Objective, toml::de::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Recipe {
        objective: Objective,
    }
    toml::from_str::<Recipe>(toml).map(|recipe| recipe.objective)
}

pub(crate) fn losses(toml: &str, inputs: &Inputs) -> Vec<f64> {
    let objective = objective(toml).expect("a valid recipe");
    read(&objective.evaluate(&inputs.batch()).expect("a complete batch").losses)
}

/// Within 1e-6 · max(1, |x|), element by element.
pub(crate) fn assert_close(what: &str, found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (&f, &e)) in found.iter().zip(expected).enumerate() {
        let bound = 1e-6 * e.abs().max(1.0);
        assert!((f - e).abs() <= bound, "{what}[{i}]: {f}, expected {e}");
    }
}
