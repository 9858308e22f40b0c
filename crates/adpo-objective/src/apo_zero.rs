//! Anchored Preference Optimization, "zero".

use serde::{Deserialize, Serialize};

use crate::error::{ObjectiveError, not_negative, positive};
use crate::family::{Family, Needs, Terms};
use crate::log_probs::Roles;
use crate::metrics::RewardScale;
use crate::numerics::sigmoid;

const NAME: &str = "apo_zero";

/// Anchored Preference Optimization, "zero", `[objective.apo_zero]`: D'Oosterlinck et al. 2024, arXiv
/// 2408.06266, Eq. 7. For data whose chosen responses are better than what the model says by itself.
///
/// ```text
/// loss = 1 − σ(β·h_w) + σ(β·h_l)
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApoZero {
    /// β, the weight of the distance to the reference (the KL coefficient); above 0. Default 0.1.
    pub beta: f64,
    /// Weight of the mean token NLL of the chosen response (TRL's `rpo_alpha`); not negative.
    /// Default 0.
    pub nll_weight: f64,
}

impl Default for ApoZero {
    fn default() -> Self {
        Self { beta: 0.1, nll_weight: 0.0 }
    }
}

impl Family for ApoZero {
    fn name(&self) -> &'static str {
        NAME
    }

    fn validate(&self) -> Result<(), ObjectiveError> {
        positive(NAME, "beta", self.beta)?;
        not_negative(NAME, "nll_weight", self.nll_weight)
    }

    fn needs(&self) -> Needs {
        Needs::PAIR
    }

    fn terms(&self, roles: &Roles) -> Result<Terms, ObjectiveError> {
        // 1 − σ(z) = σ(−z), without the cancellation.
        let chosen = sigmoid(roles.h_chosen()? * -self.beta);
        let rejected = sigmoid(roles.h_rejected()? * self.beta);
        Ok((chosen + rejected).into())
    }

    fn reward_scale(&self) -> RewardScale {
        RewardScale::LogRatio(self.beta)
    }

    fn nll_weight(&self) -> f64 {
        self.nll_weight
    }
}
