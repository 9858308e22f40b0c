//! Identity Preference Optimization.

use serde::{Deserialize, Serialize};

use crate::error::{ObjectiveError, not_negative, positive};
use crate::family::{Family, Needs, Terms};
use crate::log_probs::Roles;
use crate::metrics::RewardScale;

const NAME: &str = "ipo";

/// Identity Preference Optimization, `[objective.ipo]`: Azar et al. 2023, arXiv 2310.12036, Eq. 17.
///
/// ```text
/// averaged: loss = (h_w/|y_w| − h_l/|y_l| − 1/(2β))²     TRL, HALOs
/// summed:   loss = (h_w − h_l − 1/(2β))²                 the paper, the original DPO repository
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ipo {
    /// β, the paper's τ: the log-ratio gap aimed at is 1/(2β); above 0. Default 0.1.
    pub beta: f64,
    /// Whether a log-ratio is averaged or summed over its tokens. Default `averaged`, as in TRL.
    pub tokens: IpoTokens,
    /// Weight of the mean token NLL of the chosen response (TRL's `rpo_alpha`); not negative.
    /// Default 0.
    pub nll_weight: f64,
}

impl Default for Ipo {
    fn default() -> Self {
        Self { beta: 0.1, tokens: IpoTokens::Averaged, nll_weight: 0.0 }
    }
}

/// What IPO squares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IpoTokens {
    /// Log-ratios per token, so that long responses weigh no more than short ones.
    #[default]
    Averaged,
    /// Log-ratios of whole responses, as the formula of the paper reads.
    Summed,
}

impl Family for Ipo {
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
        let margin = match self.tokens {
            IpoTokens::Averaged => roles.mean_h_margin()?,
            IpoTokens::Summed => roles.h_margin()?,
        };
        Ok(margin.sub_scalar(0.5 / self.beta).square().into())
    }

    fn reward_scale(&self) -> RewardScale {
        RewardScale::LogRatio(self.beta)
    }

    fn nll_weight(&self) -> f64 {
        self.nll_weight
    }
}
