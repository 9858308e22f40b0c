//! What every objective supplies, one file each.

use burn::tensor::Tensor;

use crate::error::ObjectiveError;
use crate::log_probs::Roles;
use crate::metrics::RewardScale;

/// What one file per family supplies.
pub(crate) trait Family {
    /// Name in a recipe; equal to the variant's serialised name.
    fn name(&self) -> &'static str;

    fn validate(&self) -> Result<(), ObjectiveError>;

    fn needs(&self) -> Needs;

    fn terms(&self, roles: &Roles) -> Result<Terms, ObjectiveError>;

    fn reward_scale(&self) -> RewardScale;

    /// Weight of the mean token NLL of the chosen response, which is added to the terms.
    fn nll_weight(&self) -> f64;
}

/// Which log-probs the loss reads beside `policy.chosen`.
#[derive(Default)]
#[allow(clippy::struct_excessive_bools, reason = "five independent inputs, each there or not")]
pub(crate) struct Needs {
    pub(crate) reference: bool,
    pub(crate) rejected: bool,
    pub(crate) toxic: bool,
    pub(crate) tox_anchor: bool,
    pub(crate) tox_anchor_chosen: bool,
}

impl Needs {
    /// A pair and its reference: DPO and its closest relatives.
    pub(crate) const PAIR: Self = Self { reference: true, rejected: true, toxic: false, tox_anchor: false, tox_anchor_chosen: false };
}

/// A loss as the sum that it is.
pub(crate) struct Terms {
    pub(crate) main: Tensor<1>,
    /// A penalty on the toxic response that is a term of its own.
    pub(crate) penalty: Option<Tensor<1>>,
    /// `γ·t`, the penalty that the policy implies.
    pub(crate) implicit_penalty: Option<Tensor<1>>,
}

impl From<Tensor<1>> for Terms {
    fn from(main: Tensor<1>) -> Self {
        Self { main, penalty: None, implicit_penalty: None }
    }
}
