//! Robust DPO: unbiased under flipped labels.

use serde::{Deserialize, Serialize};

use crate::error::{ObjectiveError, flip_probability, not_negative, positive};
use crate::family::{Family, Needs, Terms};
use crate::log_probs::Roles;
use crate::metrics::RewardScale;
use crate::numerics::neg_log_sigmoid;

const NAME: &str = "robust";

/// Robust DPO, `[objective.robust]`: Chowdhury, Kini, Natarajan, *Provably Robust DPO*, 2024, arXiv
/// 2403.00409, the estimate of DPO's loss (arXiv 2305.18290, Eq. 7) that label flips leave unbiased.
///
/// ```text
/// loss = (−(1 − ε)·log σ(z) + ε·log σ(−z)) / (1 − 2ε)        z = β(h_w − h_l)
/// ```
///
/// At ε = 0 it is DPO; for ε > 0 it has no lower bound.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Robust {
    /// β, the weight of the distance to the reference (the KL coefficient); above 0. Default 0.1.
    pub beta: f64,
    /// ε, the share of labels believed to be flipped; at least 0, below 0.5. Default 0.1.
    pub label_smoothing: f64,
    /// Weight of the mean token NLL of the chosen response (TRL's `rpo_alpha`); not negative.
    /// Default 0.
    pub nll_weight: f64,
}

impl Default for Robust {
    fn default() -> Self {
        Self { beta: 0.1, label_smoothing: 0.1, nll_weight: 0.0 }
    }
}

impl Family for Robust {
    fn name(&self) -> &'static str {
        NAME
    }

    fn validate(&self) -> Result<(), ObjectiveError> {
        positive(NAME, "beta", self.beta)?;
        flip_probability(NAME, "label_smoothing", self.label_smoothing)?;
        not_negative(NAME, "nll_weight", self.nll_weight)
    }

    fn needs(&self) -> Needs {
        Needs::PAIR
    }

    fn terms(&self, roles: &Roles) -> Result<Terms, ObjectiveError> {
        let z = roles.h_margin()? * self.beta;
        let epsilon = self.label_smoothing;
        let kept = neg_log_sigmoid(z.clone()) * (1.0 - epsilon);
        let flipped = neg_log_sigmoid(z.neg()) * epsilon;
        Ok(((kept - flipped) / (1.0 - 2.0 * epsilon)).into())
    }

    fn reward_scale(&self) -> RewardScale {
        RewardScale::LogRatio(self.beta)
    }

    fn nll_weight(&self) -> f64 {
        self.nll_weight
    }
}
