//! DPO-Positive: DPO that holds on to the chosen likelihood.

use burn::tensor::activation::relu;
use serde::{Deserialize, Serialize};

use crate::error::{ObjectiveError, not_negative, positive};
use crate::family::{Family, Needs, Terms};
use crate::log_probs::Roles;
use crate::metrics::RewardScale;
use crate::numerics::neg_log_sigmoid;

const NAME: &str = "dpop";

/// DPO-Positive, `[objective.dpop]`: Pal et al. 2024 (Smaug), arXiv 2402.13228, Eq. 3. The penalty stands
/// inside β, as in the paper; some codes put it outside.
///
/// ```text
/// loss = −log σ(β(h_w − h_l − λ·max(0, −h_w)))
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dpop {
    /// β, the weight of the distance to the reference (the KL coefficient); above 0. Default 0.3.
    pub beta: f64,
    /// λ, the price of a chosen log-prob below the reference's; not negative. Default 50.
    pub lambda: f64,
    /// Weight of the mean token NLL of the chosen response (TRL's `rpo_alpha`); not negative.
    /// Default 0.
    pub nll_weight: f64,
}

impl Default for Dpop {
    fn default() -> Self {
        Self { beta: 0.3, lambda: 50.0, nll_weight: 0.0 }
    }
}

impl Family for Dpop {
    fn name(&self) -> &'static str {
        NAME
    }

    fn validate(&self) -> Result<(), ObjectiveError> {
        positive(NAME, "beta", self.beta)?;
        not_negative(NAME, "lambda", self.lambda)?;
        not_negative(NAME, "nll_weight", self.nll_weight)
    }

    fn needs(&self) -> Needs {
        Needs::PAIR
    }

    fn terms(&self, roles: &Roles) -> Result<Terms, ObjectiveError> {
        let lost = relu(roles.h_chosen()?.neg()) * self.lambda;
        Ok(neg_log_sigmoid((roles.h_margin()? - lost) * self.beta).into())
    }

    fn reward_scale(&self) -> RewardScale {
        RewardScale::LogRatio(self.beta)
    }

    fn nll_weight(&self) -> f64 {
        self.nll_weight
    }
}
