//! Direct Preference Optimization.

use serde::{Deserialize, Serialize};

use crate::error::{ObjectiveError, not_negative, positive};
use crate::family::{Family, Needs, Terms};
use crate::log_probs::Roles;
use crate::metrics::RewardScale;
use crate::numerics::neg_log_sigmoid;

const NAME: &str = "dpo";

/// Direct Preference Optimization, `[objective.dpo]`: Rafailov et al. 2023, arXiv 2305.18290, Eq. 7.
///
/// ```text
/// loss = −log σ(β(h_w − h_l))
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dpo {
    /// β, the weight of the distance to the reference (the KL coefficient); above 0. Default 0.1, TRL's.
    pub beta: f64,
    /// Weight of the mean token NLL of the chosen response (TRL's `rpo_alpha`); not negative.
    /// Default 0.
    pub nll_weight: f64,
}

impl Default for Dpo {
    fn default() -> Self {
        Self { beta: 0.1, nll_weight: 0.0 }
    }
}

impl Family for Dpo {
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
        Ok(neg_log_sigmoid(roles.h_margin()? * self.beta).into())
    }

    fn reward_scale(&self) -> RewardScale {
        RewardScale::LogRatio(self.beta)
    }

    fn nll_weight(&self) -> f64 {
        self.nll_weight
    }
}
