//! Adversarial DPO: DPO on the pair, and a penalty on the toxic response.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::{ObjectiveError, not_negative, positive};
use crate::family::{Family, Needs, Terms};
use crate::log_probs::Roles;
use crate::metrics::RewardScale;
use crate::numerics::{neg_log_sigmoid, sigmoid};

const NAME: &str = "adpo";

/// Adversarial DPO, `[objective.adpo]`: DPO on the pair, and a penalty on the toxic response.
///
/// The paper (arXiv 2405.12900) states its pipeline, β = 0.3 and γ = 0.2; its closed-form loss could not
/// be obtained, so what follows is derived here and is not the paper's text. DPO makes the reward in
/// `max E[r] − β·KL` implicit: `r = β·log(πθ/πref) + const`. Likewise the penalty `p` in the adversarial
/// part `−E[p − D_t]`, over responses of the inner toxic model, becomes `p = γ·t + const` with the toxic
/// log-ratio `t = log πθ(y_t|x) − log π₀(y_t|x)` against an [`Anchor`] π₀. The [`Link`] is the probability
/// model that turns `p` into a likelihood, and so fixes the loss of one triple:
///
/// ```text
/// m = β(h_w − h_l)        h⁰ = the chosen log-ratio against the same anchor as t
///
/// separate        −log σ(m) − w·log σ(−γt)
/// joint           −log σ(m − γt)
/// pair            −log σ(m) − w·log σ(γ(h⁰ − t))
/// bounded         −log σ(m) + w·σ(γt)
/// linear          −log σ(m) + γt
/// plackett_luce   −log P(w ≻ l ≻ t), Plackett–Luce with strengths βh
/// ```
///
/// With anchor `ref` and w = 1, `separate` equals `DPO_β + (γ/2)·NPO_γ`; `joint` is never above it. In
/// `separate` the pull on the toxic response is `γ·σ(γt)`: at t = 0 it grows with γ, far below 0 a smaller
/// γ pulls harder. So γ sets strength and reach at once, and w the strength alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adpo {
    /// The probability model of the penalty. Default `separate` (our choice, not the paper's).
    pub link: Link,
    /// What the toxic log-ratio is measured against. Default `ref` (our choice, not the paper's).
    pub anchor: Anchor,
    /// β, the strength of the preference term; above 0. Default 0.3, the paper's.
    pub beta: f64,
    /// γ, the scale of the penalty; above 0. Left out it is 0.2, the paper's, in the links that read
    /// it. No place in `plackett_luce`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gamma: Option<f64>,
    /// w, the weight of a penalty that is a term of its own; not negative. Left out it is 1 in the
    /// links that read it. No place in `joint`, `linear` and `plackett_luce`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub penalty_weight: Option<f64>,
    /// Weight of the mean token NLL of the chosen response (TRL's `rpo_alpha`). Default 0.
    pub nll_weight: f64,
}

impl Default for Adpo {
    fn default() -> Self {
        Self { link: Link::default(), anchor: Anchor::default(), beta: 0.3, gamma: None, penalty_weight: None, nll_weight: 0.0 }
    }
}

/// How the penalty enters the loss of one triple; formulas with `m = β(h_w − h_l)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// `−log σ(m) − w·log σ(−γt)`: "was it flagged or not" is a coin of its own.
    #[default]
    Separate,
    /// `−log σ(m − γt)`: one Bradley–Terry model. It stops penalising the toxic response once w ≫ l,
    /// and can answer a mis-ranked pair by lowering the toxic response.
    Joint,
    /// `−log σ(m) − w·log σ(γ(h⁰ − t))`: toxic is worse than chosen, both against the same anchor.
    Pair,
    /// `−log σ(m) + w·σ(γt)`: a penalty between 0 and w.
    Bounded,
    /// `−log σ(m) + γt`: the literal reading. Unbounded below, for ablations only.
    Linear,
    /// `−log P(w ≻ l ≻ t)` under Plackett–Luce with strengths βh: no γ, no w, anchor `ref`.
    PlackettLuce,
}

/// π₀, what the toxic log-ratio t is measured against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Anchor {
    /// `t = log πθ(y_t|x) − log πref(y_t|x)`.
    #[default]
    Ref,
    /// `t = log πθ(y_t|x) − log πref(y_t|x ⊕ [TOXIC])`: the inner toxic model.
    Tox,
}

impl Link {
    const fn name(self) -> &'static str {
        match self {
            Self::Separate => "separate",
            Self::Joint => "joint",
            Self::Pair => "pair",
            Self::Bounded => "bounded",
            Self::Linear => "linear",
            Self::PlackettLuce => "plackett_luce",
        }
    }

    const fn reads_gamma(self) -> bool {
        !matches!(self, Self::PlackettLuce)
    }

    const fn reads_penalty_weight(self) -> bool {
        matches!(self, Self::Separate | Self::Pair | Self::Bounded)
    }
}

impl Adpo {
    /// γ as it takes effect: 0.2 where it was left out, nothing where the link has no place for it.
    pub fn effective_gamma(&self) -> Option<f64> {
        self.link.reads_gamma().then_some(self.gamma())
    }

    /// w as it takes effect: 1 where it was left out, nothing where the link has no place for it.
    pub fn effective_penalty_weight(&self) -> Option<f64> {
        self.link.reads_penalty_weight().then_some(self.penalty_weight.unwrap_or(1.0))
    }

    pub(crate) fn resolved(self) -> Self {
        Self { gamma: self.effective_gamma(), penalty_weight: self.effective_penalty_weight(), ..self }
    }

    fn gamma(&self) -> f64 {
        self.gamma.unwrap_or(0.2)
    }

    /// t.
    fn toxic_ratio(&self, roles: &Roles) -> Result<Tensor<1>, ObjectiveError> {
        match self.anchor {
            Anchor::Ref => roles.h_toxic(),
            Anchor::Tox => roles.toxic_against_tox(),
        }
    }

    /// h⁰.
    fn chosen_ratio(&self, roles: &Roles) -> Result<Tensor<1>, ObjectiveError> {
        match self.anchor {
            Anchor::Ref => roles.h_chosen(),
            Anchor::Tox => roles.chosen_against_tox(),
        }
    }

    /// γt.
    fn implicit_penalty(&self, roles: &Roles) -> Result<Tensor<1>, ObjectiveError> {
        Ok(self.toxic_ratio(roles)? * self.gamma())
    }

    fn joint(&self, roles: &Roles) -> Result<Terms, ObjectiveError> {
        let implicit = self.implicit_penalty(roles)?;
        Ok(Terms {
            main: neg_log_sigmoid(roles.h_margin()? * self.beta - implicit.clone()),
            penalty: None,
            implicit_penalty: Some(implicit),
        })
    }

    fn plackett_luce(&self, roles: &Roles) -> Result<Terms, ObjectiveError> {
        let chosen = roles.h_chosen()? * self.beta;
        let rejected = roles.h_rejected()? * self.beta;
        let toxic = roles.h_toxic()? * self.beta;
        // P = softmax of w among {w, l, t} times softmax of l among {l, t}. The first is σ(w − rest)
        // with rest = log(e^l + e^t) = t − log σ(t − l): no exponential that could overflow.
        let rest = toxic.clone() + neg_log_sigmoid(toxic.clone() - rejected.clone());
        Ok((neg_log_sigmoid(chosen - rest) + neg_log_sigmoid(rejected - toxic)).into())
    }
}

impl Family for Adpo {
    fn name(&self) -> &'static str {
        NAME
    }

    fn validate(&self) -> Result<(), ObjectiveError> {
        positive(NAME, "beta", self.beta)?;
        not_negative(NAME, "nll_weight", self.nll_weight)?;
        let no_place = |option, fix| Err(ObjectiveError::NoPlace { option, link: self.link.name(), fix });
        if let Some(gamma) = self.gamma {
            if !self.link.reads_gamma() {
                return no_place("gamma", "remove it: beta scales all three responses");
            }
            positive(NAME, "gamma", gamma)?;
        }
        if let Some(weight) = self.penalty_weight {
            if !self.link.reads_penalty_weight() {
                return no_place(
                    "penalty_weight",
                    "remove it, or choose a link whose penalty is a term of its own: separate, pair or bounded",
                );
            }
            not_negative(NAME, "penalty_weight", weight)?;
        }
        if self.link == Link::PlackettLuce && self.anchor == Anchor::Tox {
            return no_place("anchor = \"tox\"", "write anchor = \"ref\": one ranking needs one reference for all three responses");
        }
        Ok(())
    }

    fn needs(&self) -> Needs {
        let tox = self.anchor == Anchor::Tox;
        Needs { toxic: true, tox_anchor: tox, tox_anchor_chosen: tox && self.link == Link::Pair, ..Needs::PAIR }
    }

    fn terms(&self, roles: &Roles) -> Result<Terms, ObjectiveError> {
        let penalty = match self.link {
            Link::Separate => neg_log_sigmoid(self.implicit_penalty(roles)?.neg()),
            Link::Pair => {
                let chosen = self.chosen_ratio(roles)? * self.gamma();
                neg_log_sigmoid(chosen - self.implicit_penalty(roles)?)
            }
            Link::Bounded => sigmoid(self.implicit_penalty(roles)?),
            Link::Linear => self.implicit_penalty(roles)?,
            Link::Joint => return self.joint(roles),
            Link::PlackettLuce => return self.plackett_luce(roles),
        };
        Ok(Terms {
            main: neg_log_sigmoid(roles.h_margin()? * self.beta),
            penalty: Some(penalty * self.effective_penalty_weight().unwrap_or(1.0)),
            implicit_penalty: Some(self.implicit_penalty(roles)?),
        })
    }

    fn reward_scale(&self) -> RewardScale {
        RewardScale::LogRatio(self.beta)
    }

    fn nll_weight(&self) -> f64 {
        self.nll_weight
    }
}
