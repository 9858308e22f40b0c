//! Conservative DPO: labels that may be wrong.

use serde::{Deserialize, Serialize};

use crate::error::{ObjectiveError, flip_probability, not_negative, positive};
use crate::family::{Family, Needs, Terms};
use crate::log_probs::Roles;
use crate::metrics::RewardScale;
use crate::numerics::neg_log_sigmoid;

const NAME: &str = "cdpo";

/// Conservative DPO, `[objective.cdpo]`: Mitchell, *A note on DPO with noisy preferences and relationship
/// to IPO*, 2023; the cross-entropy of DPO (arXiv 2305.18290, Eq. 7) with smoothed labels.
///
/// ```text
/// loss = −(1 − ε)·log σ(z) − ε·log σ(−z)        z = β(h_w − h_l)
/// ```
///
/// At ε = 0 it is DPO.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cdpo {
    /// β, the weight of the distance to the reference (the KL coefficient); above 0. Default 0.1.
    pub beta: f64,
    /// ε, the share of labels believed to be flipped; at least 0, below 0.5. Default 0.1.
    pub label_smoothing: f64,
    /// Weight of the mean token NLL of the chosen response (TRL's `rpo_alpha`); not negative.
    /// Default 0.
    pub nll_weight: f64,
}

impl Default for Cdpo {
    fn default() -> Self {
        Self { beta: 0.1, label_smoothing: 0.1, nll_weight: 0.0 }
    }
}

impl Family for Cdpo {
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
        let kept = neg_log_sigmoid(z.clone()) * (1.0 - self.label_smoothing);
        let flipped = neg_log_sigmoid(z.neg()) * self.label_smoothing;
        Ok((kept + flipped).into())
    }

    fn reward_scale(&self) -> RewardScale {
        RewardScale::LogRatio(self.beta)
    }

    fn nll_weight(&self) -> f64 {
        self.nll_weight
    }
}
