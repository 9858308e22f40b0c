//! The measures that every objective reports, named as TRL names them.

use burn::tensor::Tensor;

use crate::error::ObjectiveError;
use crate::log_probs::Roles;

/// What an objective takes for a reward.
#[derive(Clone, Copy)]
pub(crate) enum RewardScale {
    /// `β·h`, summed over tokens: DPO's implicit reward. (TRL reports this for IPO as well,
    /// whose loss averages over tokens.)
    LogRatio(f64),
    /// `β·log πθ(y|x)/|y|`: the reference-free objectives.
    MeanLogProb(f64),
}

/// `roles` must be of a batch without autodiff.
pub(crate) fn common(roles: &Roles, scale: RewardScale) -> Result<Vec<(&'static str, Tensor<1>)>, ObjectiveError> {
    let (chosen, rejected) = match scale {
        RewardScale::LogRatio(beta) => (roles.h_chosen()? * beta, roles.h_rejected()? * beta),
        RewardScale::MeanLogProb(beta) => (roles.mean_chosen() * beta, roles.mean_rejected() * beta),
    };
    let mut metrics = vec![
        ("rewards/margins", chosen.clone() - rejected.clone()),
        ("rewards/accuracies", chosen.clone().greater(rejected.clone()).float()),
        ("rewards/ties", chosen.clone().equal(rejected.clone()).float()),
        ("rewards/chosen", chosen),
        ("rewards/rejected", rejected),
        ("logps/chosen", roles.policy().chosen.clone()),
        ("logps/rejected", roles.policy().rejected.clone()),
    ];
    if let Some(toxic) = &roles.policy().toxic {
        metrics.push(("logps/toxic", toxic.clone()));
    }
    if roles.has_reference() {
        metrics.push(("kl/chosen", roles.h_chosen()?));
        metrics.push(("kl/rejected", roles.h_rejected()?));
    }
    if roles.has_h_toxic() {
        let h_toxic = roles.h_toxic()?;
        if let RewardScale::LogRatio(beta) = scale {
            metrics.push(("rewards/toxic", h_toxic.clone() * beta));
        }
        metrics.push(("kl/toxic", h_toxic));
    }
    Ok(metrics)
}
