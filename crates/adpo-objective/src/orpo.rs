//! Odds Ratio Preference Optimization: no reference.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::{ObjectiveError, not_negative};
use crate::family::{Family, Needs, Terms};
use crate::log_probs::Roles;
use crate::metrics::RewardScale;
use crate::numerics::{log1mexp, neg_log_sigmoid};

const NAME: &str = "orpo";

/// Odds Ratio Preference Optimization, `[objective.orpo]`: Hong, Lee, Thorne 2024, arXiv 2403.07691, Eq. 6
/// (the sum) and 7 (its odds-ratio term). It needs no reference; the NLL is part of it.
///
/// ```text
/// loss = −p_w − λ·log σ(o(p_w) − o(p_l))        p_i = log πθ(y_i|x)/|y_i|,  o(p) = p − log(1 − eᵖ)
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Orpo {
    /// λ, the weight of the odds ratio beside the NLL (TRL calls it β); not negative. Default 0.1.
    pub lambda: f64,
}

impl Default for Orpo {
    fn default() -> Self {
        Self { lambda: 0.1 }
    }
}

impl Family for Orpo {
    fn name(&self) -> &'static str {
        NAME
    }

    fn validate(&self) -> Result<(), ObjectiveError> {
        not_negative(NAME, "lambda", self.lambda)
    }

    fn needs(&self) -> Needs {
        Needs { rejected: true, ..Needs::default() }
    }

    fn terms(&self, roles: &Roles) -> Result<Terms, ObjectiveError> {
        let odds_ratio = log_odds(roles.mean_chosen()) - log_odds(roles.mean_rejected());
        Ok((neg_log_sigmoid(odds_ratio) * self.lambda).into())
    }

    fn reward_scale(&self) -> RewardScale {
        RewardScale::MeanLogProb(self.lambda)
    }

    fn nll_weight(&self) -> f64 {
        1.0
    }
}

/// `log(eᵖ / (1 − eᵖ))`.
fn log_odds(p: Tensor<1>) -> Tensor<1> {
    p.clone() - log1mexp(p)
}
