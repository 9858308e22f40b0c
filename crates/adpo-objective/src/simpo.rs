//! Simple Preference Optimization: no reference.

use serde::{Deserialize, Serialize};

use crate::error::{ObjectiveError, not_negative, positive};
use crate::family::{Family, Needs, Terms};
use crate::log_probs::Roles;
use crate::metrics::RewardScale;
use crate::numerics::neg_log_sigmoid;

const NAME: &str = "simpo";

/// Simple Preference Optimization, `[objective.simpo]`: Meng, Xia, Chen 2024, arXiv 2405.14734, Eq. 6. It
/// needs no reference.
///
/// ```text
/// loss = −log σ(β·log πθ(y_w|x)/|y_w| − β·log πθ(y_l|x)/|y_l| − γ)
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Simpo {
    /// β, the scale of the mean token log-prob; above 0. Default 2.
    pub beta: f64,
    /// γ, the margin asked for, on the scale of the rewards (not the ratio γ/β that some codes take); not
    /// negative. Default 1.
    pub gamma: f64,
    /// Weight of the mean token NLL of the chosen response (TRL's `rpo_alpha`); not negative.
    /// Default 0.
    pub nll_weight: f64,
}

impl Default for Simpo {
    fn default() -> Self {
        Self { beta: 2.0, gamma: 1.0, nll_weight: 0.0 }
    }
}

impl Family for Simpo {
    fn name(&self) -> &'static str {
        NAME
    }

    fn validate(&self) -> Result<(), ObjectiveError> {
        positive(NAME, "beta", self.beta)?;
        not_negative(NAME, "gamma", self.gamma)?;
        not_negative(NAME, "nll_weight", self.nll_weight)
    }

    fn needs(&self) -> Needs {
        Needs { rejected: true, ..Needs::default() }
    }

    fn terms(&self, roles: &Roles) -> Result<Terms, ObjectiveError> {
        let margin = (roles.mean_chosen() - roles.mean_rejected()) * self.beta;
        Ok(neg_log_sigmoid(margin.sub_scalar(self.gamma)).into())
    }

    fn reward_scale(&self) -> RewardScale {
        RewardScale::MeanLogProb(self.beta)
    }

    fn nll_weight(&self) -> f64 {
        self.nll_weight
    }
}
