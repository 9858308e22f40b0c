//! Noise Contrastive Alignment on pairs.

use serde::{Deserialize, Serialize};

use crate::error::{ObjectiveError, not_negative, positive};
use crate::family::{Family, Needs, Terms};
use crate::log_probs::Roles;
use crate::metrics::RewardScale;
use crate::numerics::neg_log_sigmoid;

const NAME: &str = "nca_pair";

/// Noise Contrastive Alignment on pairs, `[objective.nca_pair]`: Chen et al. 2024, arXiv 2402.05369, the
/// NCA loss of two responses with hard labels.
///
/// ```text
/// loss = −log σ(β·h_w) − ½·log σ(−β·h_w) − ½·log σ(−β·h_l)
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NcaPair {
    /// β, the weight of the distance to the reference (the KL coefficient); above 0. Default 0.1.
    pub beta: f64,
    /// Weight of the mean token NLL of the chosen response (TRL's `rpo_alpha`); not negative.
    /// Default 0.
    pub nll_weight: f64,
}

impl Default for NcaPair {
    fn default() -> Self {
        Self { beta: 0.1, nll_weight: 0.0 }
    }
}

impl Family for NcaPair {
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
        let chosen = roles.h_chosen()? * self.beta;
        let rejected = roles.h_rejected()? * self.beta;
        let noise = neg_log_sigmoid(chosen.clone().neg()) + neg_log_sigmoid(rejected.neg());
        Ok((neg_log_sigmoid(chosen) + noise * 0.5).into())
    }

    fn reward_scale(&self) -> RewardScale {
        RewardScale::LogRatio(self.beta)
    }

    fn nll_weight(&self) -> f64 {
        self.nll_weight
    }
}
