//! Hinge loss on DPO's margin.

use burn::tensor::activation::relu;
use serde::{Deserialize, Serialize};

use crate::error::{ObjectiveError, not_negative, positive};
use crate::family::{Family, Needs, Terms};
use crate::log_probs::Roles;
use crate::metrics::RewardScale;

const NAME: &str = "hinge";

/// Hinge loss on DPO's margin, `[objective.hinge]`: SLiC-HF (Zhao et al. 2023, arXiv 2305.10425) with
/// log-ratios to the reference, as RSO (Liu et al. 2023, arXiv 2309.06657) normalises it.
///
/// ```text
/// loss = max(0, 1 − β(h_w − h_l))
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hinge {
    /// β, the inverse of the margin asked for; above 0. Default 0.1.
    pub beta: f64,
    /// Weight of the mean token NLL of the chosen response (TRL's `rpo_alpha`); not negative.
    /// Default 0.
    pub nll_weight: f64,
}

impl Default for Hinge {
    fn default() -> Self {
        Self { beta: 0.1, nll_weight: 0.0 }
    }
}

impl Family for Hinge {
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
        let shortfall = (roles.h_margin()? * -self.beta).add_scalar(1.0);
        Ok(relu(shortfall).into())
    }

    fn reward_scale(&self) -> RewardScale {
        RewardScale::LogRatio(self.beta)
    }

    fn nll_weight(&self) -> f64 {
        self.nll_weight
    }
}
