//! The log-probs that objectives read.

use burn::tensor::{DType, Tensor};

use crate::error::ObjectiveError;

/// One model's log-probs of every role's response, each `[examples]`, f32, in nats, **summed** over
/// the response's tokens (the end-of-sequence token included, the prompt excluded).
#[derive(Debug, Clone)]
pub struct RoleLogProbs {
    /// `log π(y_w|x)`.
    pub chosen: Tensor<1>,
    /// `log π(y_l|x)`.
    pub rejected: Tensor<1>,
    /// `log π(y_t|x)`, on the plain prompt: without the control token.
    pub toxic: Option<Tensor<1>>,
}

/// Response lengths in tokens, as many as were summed: each `[examples]`, float, at least 1.
#[derive(Debug, Clone)]
pub struct Lengths {
    /// `|y_w|`.
    pub chosen: Tensor<1>,
    /// `|y_l|`.
    pub rejected: Tensor<1>,
    /// `|y_t|`.
    pub toxic: Option<Tensor<1>>,
}

/// What the reference model thinks of responses when the prompt carries the control token,
/// `log πref(y | x ⊕ [TOXIC])`, each `[examples]`: the inner toxic model of ADPO's anchor `tox`.
#[derive(Debug, Clone)]
pub struct ToxAnchor {
    /// For `y_w`; only ADPO's link `pair` reads it.
    pub chosen: Option<Tensor<1>>,
    /// For `y_t`.
    pub toxic: Tensor<1>,
}

/// A batch as every objective sees it.
///
/// Gradients flow into [`policy`](Self::policy) alone: everything else counts as a constant, whether
/// it lies on an autodiff device or not.
#[derive(Debug, Clone)]
pub struct LogProbs {
    /// πθ, the model in training.
    pub policy: RoleLogProbs,
    /// πref, the frozen starting checkpoint. Not needed by the reference-free objectives.
    pub reference: Option<RoleLogProbs>,
    /// Only needed by ADPO with anchor `tox`.
    pub tox_anchor: Option<ToxAnchor>,
    /// Needed where a loss, or its NLL term, is an average over tokens.
    pub lengths: Lengths,
}

impl LogProbs {
    /// Every tensor with its name, `policy.chosen` first.
    fn named(&self) -> Vec<(&'static str, &Tensor<1>)> {
        let mut all = vec![
            ("policy.chosen", &self.policy.chosen),
            ("policy.rejected", &self.policy.rejected),
            ("lengths.chosen", &self.lengths.chosen),
            ("lengths.rejected", &self.lengths.rejected),
        ];
        let mut add = |name, tensor| all.extend(Option::map(tensor, |tensor| (name, tensor)));
        add("policy.toxic", self.policy.toxic.as_ref());
        add("lengths.toxic", self.lengths.toxic.as_ref());
        if let Some(reference) = &self.reference {
            add("reference.chosen", Some(&reference.chosen));
            add("reference.rejected", Some(&reference.rejected));
            add("reference.toxic", reference.toxic.as_ref());
        }
        if let Some(anchor) = &self.tox_anchor {
            add("tox_anchor.chosen", anchor.chosen.as_ref());
            add("tox_anchor.toxic", Some(&anchor.toxic));
        }
        all
    }

    /// Refuses what would otherwise panic inside Burn, broadcast silently, or drown in rounding.
    pub(crate) fn check(&self) -> Result<(), ObjectiveError> {
        let [expected] = self.policy.chosen.dims();
        if expected == 0 {
            return Err(ObjectiveError::Empty);
        }
        let device = self.policy.chosen.device();
        for (input, tensor) in self.named() {
            let [found] = tensor.dims();
            if found != expected {
                return Err(ObjectiveError::Shape { input, expected, found });
            }
            if !matches!(tensor.dtype(), DType::F32 | DType::F64) {
                return Err(ObjectiveError::Precision { input, found: tensor.dtype() });
            }
            // Device equality ignores autodiff, which may well differ.
            if tensor.device() != device {
                return Err(ObjectiveError::OtherDevice { input });
            }
        }
        Ok(())
    }

    /// The same batch with the policy a constant too: metrics must not hold on to the graph.
    pub(crate) fn detached(&self) -> Self {
        let policy = RoleLogProbs {
            chosen: constant(&self.policy.chosen),
            rejected: constant(&self.policy.rejected),
            toxic: self.policy.toxic.as_ref().map(constant),
        };
        Self { policy, ..self.clone() }
    }
}

/// The quantities that formulas speak of, or the error that names the missing tensor.
pub(crate) struct Roles<'a> {
    objective: &'static str,
    log_probs: &'a LogProbs,
}

type Quantity = Result<Tensor<1>, ObjectiveError>;

impl<'a> Roles<'a> {
    pub(crate) fn new(objective: &'static str, log_probs: &'a LogProbs) -> Self {
        Self { objective, log_probs }
    }

    pub(crate) fn policy(&self) -> &RoleLogProbs {
        &self.log_probs.policy
    }

    /// `h_w`.
    pub(crate) fn h_chosen(&self) -> Quantity {
        Ok(self.policy().chosen.clone() - constant(&self.reference()?.chosen))
    }

    /// `h_l`.
    pub(crate) fn h_rejected(&self) -> Quantity {
        Ok(self.policy().rejected.clone() - constant(&self.reference()?.rejected))
    }

    /// `h_w − h_l`.
    pub(crate) fn h_margin(&self) -> Quantity {
        Ok(self.h_chosen()? - self.h_rejected()?)
    }

    /// `h_t`, against the reference.
    pub(crate) fn h_toxic(&self) -> Quantity {
        let reference = self
            .reference()?
            .toxic
            .as_ref()
            .ok_or_else(|| self.missing("reference.toxic", "score the toxic responses with the reference model too"))?;
        Ok(self.policy_toxic()?.clone() - constant(reference))
    }

    /// `log πθ(y_t|x) − log πref(y_t|x ⊕ [TOXIC])`.
    pub(crate) fn toxic_against_tox(&self) -> Quantity {
        Ok(self.policy_toxic()?.clone() - constant(&self.tox_anchor()?.toxic))
    }

    /// `log πθ(y_w|x) − log πref(y_w|x ⊕ [TOXIC])`.
    pub(crate) fn chosen_against_tox(&self) -> Quantity {
        let anchor = self.tox_anchor()?.chosen.as_ref().ok_or_else(|| {
            self.missing(
                "tox_anchor.chosen",
                "score the chosen responses with the reference model on the control-token prompt, or set anchor = \"ref\"",
            )
        })?;
        Ok(self.policy().chosen.clone() - constant(anchor))
    }

    /// `log πθ(y_w|x) / |y_w|`.
    pub(crate) fn mean_chosen(&self) -> Tensor<1> {
        self.policy().chosen.clone() / constant(&self.log_probs.lengths.chosen)
    }

    /// `log πθ(y_l|x) / |y_l|`.
    pub(crate) fn mean_rejected(&self) -> Tensor<1> {
        self.policy().rejected.clone() / constant(&self.log_probs.lengths.rejected)
    }

    /// `h_w/|y_w| − h_l/|y_l|`.
    pub(crate) fn mean_h_margin(&self) -> Quantity {
        let lengths = &self.log_probs.lengths;
        Ok(self.h_chosen()? / constant(&lengths.chosen) - self.h_rejected()? / constant(&lengths.rejected))
    }

    pub(crate) fn has_reference(&self) -> bool {
        self.log_probs.reference.is_some()
    }

    /// Whether `h_t` can be formed.
    pub(crate) fn has_h_toxic(&self) -> bool {
        let reference = self.log_probs.reference.as_ref();
        self.policy().toxic.is_some() && reference.is_some_and(|r| r.toxic.is_some())
    }

    fn policy_toxic(&self) -> Result<&Tensor<1>, ObjectiveError> {
        self.policy().toxic.as_ref().ok_or_else(|| {
            self.missing("policy.toxic", "train on triples that have a toxic response, or choose an objective that needs none, such as dpo")
        })
    }

    fn reference(&self) -> Result<&RoleLogProbs, ObjectiveError> {
        self.log_probs
            .reference
            .as_ref()
            .ok_or_else(|| self.missing("reference", "supply the frozen starting checkpoint's log-probs, or choose simpo or orpo"))
    }

    fn tox_anchor(&self) -> Result<&ToxAnchor, ObjectiveError> {
        self.log_probs.tox_anchor.as_ref().ok_or_else(|| {
            self.missing("tox_anchor", "supply the reference model's log-probs on control-token prompts, or set anchor = \"ref\"")
        })
    }

    fn missing(&self, input: &'static str, fix: &'static str) -> ObjectiveError {
        ObjectiveError::MissingInput { objective: self.objective, input, fix }
    }
}

/// The tensor without its graph; Burn treats it as a constant beside tracked tensors.
fn constant(tensor: &Tensor<1>) -> Tensor<1> {
    tensor.clone().without_autodiff()
}
