//! The enum that a recipe names, and the one way to evaluate it.

use burn::tensor::Tensor;
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::ObjectiveError;
use crate::family::Family;
use crate::log_probs::{LogProbs, Roles};
use crate::metrics;
use crate::{Adpo, ApoZero, Cdpo, Dpo, Dpop, Hinge, Ipo, NcaPair, Npo, Orpo, Robust, Simpo};

/// An objective with its options; in TOML one table, such as `[objective.adpo]`.
///
/// Options that were left out take the default of the objective's own struct. Deserialising also
/// [validates](Self::validate).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// Adversarial DPO: preference and penalty.
    #[serde(deserialize_with = "validated")]
    Adpo(Adpo),
    /// Direct Preference Optimization.
    #[serde(deserialize_with = "validated")]
    Dpo(Dpo),
    /// Conservative DPO: label smoothing.
    #[serde(deserialize_with = "validated")]
    Cdpo(Cdpo),
    /// Identity preference optimization.
    #[serde(deserialize_with = "validated")]
    Ipo(Ipo),
    /// The hinge loss on DPO's margin.
    #[serde(deserialize_with = "validated")]
    Hinge(Hinge),
    /// Robust DPO: unbiased under flipped labels.
    #[serde(deserialize_with = "validated")]
    Robust(Robust),
    /// Anchored preference optimization, "zero".
    #[serde(deserialize_with = "validated")]
    ApoZero(ApoZero),
    /// Noise-contrastive alignment on pairs.
    #[serde(deserialize_with = "validated")]
    NcaPair(NcaPair),
    /// Simple preference optimization; no reference.
    #[serde(deserialize_with = "validated")]
    Simpo(Simpo),
    /// Odds-ratio preference optimization; no reference.
    #[serde(deserialize_with = "validated")]
    Orpo(Orpo),
    /// Negative preference optimization: the toxic side alone.
    #[serde(deserialize_with = "validated")]
    Npo(Npo),
    /// DPO-Positive: DPO that holds on to the chosen likelihood.
    #[serde(deserialize_with = "validated")]
    Dpop(Dpop),
}

/// What one evaluation yields. Nothing is averaged: how examples are weighted, across accumulated
/// or padded batches too, is the caller's business.
#[derive(Debug, Clone)]
pub struct ExampleLosses {
    /// The loss of each example, `[examples]`, differentiable with respect to the policy's log-probs.
    pub losses: Tensor<1>,
    /// Named measures of each example, `[examples]`, outside of any autodiff graph.
    ///
    /// Always: `logps/{chosen,rejected}` (summed log-probs), `rewards/{chosen,rejected,margins}`,
    /// `rewards/accuracies` (1 where the margin is above 0, so 0 at the start of training) and
    /// `rewards/ties` (1 where it is 0). The reward is `β·h`; for the reference-free objectives it
    /// is β (for ORPO λ) times the mean token log-prob.
    ///
    /// With a reference: `kl/{chosen,rejected}` = `h`, a log-ratio on given responses and no KL
    /// divergence, named as the paper names its curves. With toxic responses: `logps/toxic`, and if
    /// the reference scored them `kl/toxic` and `rewards/toxic` = `β·h_t`.
    ///
    /// For ADPO links with a γ: `penalties/toxic` = `γ·t` against the anchor in use; where the loss
    /// is a sum of two terms: `loss/preference` and `loss/penalty`, weights included. With an NLL
    /// term: `loss/nll`, its weight included.
    pub metrics: Vec<(&'static str, Tensor<1>)>,
}

impl Objective {
    /// The objective's name in a recipe, such as `apo_zero`.
    pub fn name(&self) -> &'static str {
        self.family().name()
    }

    /// Checks the options, without data.
    ///
    /// # Errors
    ///
    /// [`ObjectiveError::OutOfRange`], or [`ObjectiveError::NoPlace`] for an ADPO option that the
    /// chosen link does not read.
    pub fn validate(&self) -> Result<(), ObjectiveError> {
        self.family().validate()
    }

    /// Whether [`LogProbs::reference`] must be there.
    pub fn needs_reference(&self) -> bool {
        self.family().needs().reference
    }

    /// Whether the rejected response matters to the loss. Its tensor has to be there in any case;
    /// where this is false zeros will do.
    pub fn needs_rejected(&self) -> bool {
        self.family().needs().rejected
    }

    /// Whether `policy.toxic` must be there.
    pub fn needs_toxic(&self) -> bool {
        self.family().needs().toxic
    }

    /// Whether [`LogProbs::tox_anchor`] must be there.
    pub fn needs_tox_anchor(&self) -> bool {
        self.family().needs().tox_anchor
    }

    /// Whether [`ToxAnchor::chosen`](crate::ToxAnchor::chosen) must be there as well.
    pub fn needs_tox_anchor_chosen(&self) -> bool {
        self.family().needs().tox_anchor_chosen
    }

    /// The same objective with every default written out, as a run folder should record it.
    #[must_use]
    pub fn resolved(self) -> Self {
        match self {
            Self::Adpo(adpo) => Self::Adpo(adpo.resolved()),
            other => other,
        }
    }

    /// Losses and measures of a batch.
    ///
    /// # Errors
    ///
    /// What [`validate`](Self::validate) refuses; [`ObjectiveError::MissingInput`] for log-probs
    /// that the objective reads and the batch lacks; and batches that are empty, uneven, spread over
    /// devices, or in less than f32.
    pub fn evaluate(&self, log_probs: &LogProbs) -> Result<ExampleLosses, ObjectiveError> {
        let family = self.family();
        family.validate()?;
        log_probs.check()?;
        let roles = Roles::new(family.name(), log_probs);
        let terms = family.terms(&roles)?;
        let nll_weight = family.nll_weight();
        let nll = (nll_weight > 0.0).then(|| roles.mean_chosen().mul_scalar(-nll_weight));

        let mut losses = terms.main.clone();
        for term in terms.penalty.iter().chain(&nll) {
            losses = losses + term.clone();
        }
        let detached = log_probs.detached();
        let mut metrics = metrics::common(&Roles::new(family.name(), &detached), family.reward_scale())?;
        let mut add = |name, tensor: Tensor<1>| metrics.push((name, tensor.without_autodiff()));
        if let Some(penalty) = terms.penalty {
            add("loss/preference", terms.main);
            add("loss/penalty", penalty);
        }
        if let Some(implicit) = terms.implicit_penalty {
            add("penalties/toxic", implicit);
        }
        if let Some(nll) = nll {
            add("loss/nll", nll);
        }
        Ok(ExampleLosses { losses, metrics })
    }

    fn family(&self) -> &dyn Family {
        match self {
            Self::Adpo(family) => family,
            Self::Dpo(family) => family,
            Self::Cdpo(family) => family,
            Self::Ipo(family) => family,
            Self::Hinge(family) => family,
            Self::Robust(family) => family,
            Self::ApoZero(family) => family,
            Self::NcaPair(family) => family,
            Self::Simpo(family) => family,
            Self::Orpo(family) => family,
            Self::Npo(family) => family,
            Self::Dpop(family) => family,
        }
    }
}

/// Checks options where they are read, so that the error points into the recipe.
fn validated<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Family,
{
    let options = T::deserialize(deserializer)?;
    options.validate().map_err(serde::de::Error::custom)?;
    Ok(options)
}
