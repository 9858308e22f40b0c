//! Negative Preference Optimization: the toxic side alone.

use serde::{Deserialize, Serialize};

use crate::error::{ObjectiveError, positive};
use crate::family::{Family, Needs, Terms};
use crate::log_probs::Roles;
use crate::metrics::RewardScale;
use crate::numerics::neg_log_sigmoid;

const NAME: &str = "npo";

/// Negative Preference Optimization on the toxic response, `[objective.npo]`: Zhang, Lin, Bai, Mei 2024,
/// arXiv 2404.05868, Eq. 3. Nothing in it holds the rest of the policy in place.
///
/// ```text
/// loss = −(2/β)·log σ(−β·h_t)
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Npo {
    /// β, an inverse temperature: towards 0 the loss becomes plain gradient ascent; above 0. Default 0.1.
    pub beta: f64,
}

impl Default for Npo {
    fn default() -> Self {
        Self { beta: 0.1 }
    }
}

impl Family for Npo {
    fn name(&self) -> &'static str {
        NAME
    }

    fn validate(&self) -> Result<(), ObjectiveError> {
        positive(NAME, "beta", self.beta)
    }

    fn needs(&self) -> Needs {
        Needs { reference: true, toxic: true, ..Needs::default() }
    }

    fn terms(&self, roles: &Roles) -> Result<Terms, ObjectiveError> {
        let z = roles.h_toxic()? * -self.beta;
        Ok((neg_log_sigmoid(z) * (2.0 / self.beta)).into())
    }

    fn reward_scale(&self) -> RewardScale {
        RewardScale::LogRatio(self.beta)
    }

    fn nll_weight(&self) -> f64 {
        0.0
    }
}
