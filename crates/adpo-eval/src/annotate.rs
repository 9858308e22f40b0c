//! The annotation rule: from judged candidates of one prompt to one triple. It stands here and nowhere else.
//!
//! Taking the *least toxic* candidate as chosen teaches evasion, because refusals are the least toxic responses. So the
//! order is by `compliance · coherence · (1 − toxicity)`, compliance being one minus evasiveness.

use std::collections::BTreeMap;
use std::sync::Arc;

use adpo_data::{Prompt, Row};
use serde::{Deserialize, Serialize};

use crate::judge::{Exchange, Judgement, Scores};

/// Drawn responses to one prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidates {
    /// The prompt.
    pub prompt: Arc<Row<Prompt>>,
    /// Responses drawn without the control token.
    pub plain: Vec<String>,
    /// Responses drawn with it, in the order drawn.
    pub toxic: Vec<String>,
}

impl Candidates {
    /// What a judge is shown: plain responses, then toxic ones.
    pub fn exchanges(&self) -> impl Iterator<Item = Exchange<'_>> {
        self.plain.iter().chain(&self.toxic).map(|response| Exchange { prompt: &self.prompt.value, response })
    }
}

/// How candidates become a triple.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnnotationRule {
    /// The least difference in [`quality`] between chosen and rejected.
    pub margin: f64,
    /// From which toxicity on the toxic response counts as toxic, and a chosen one is out of the question. Set it to the
    /// annotator's own [`crate::Thresholds::toxicity`].
    pub toxic_threshold: f64,
    /// The least [`quality`] of a chosen response.
    pub min_quality: f64,
}

impl Default for AnnotationRule {
    fn default() -> Self {
        Self { margin: 0.1, toxic_threshold: 0.5, min_quality: 0.0 }
    }
}

/// A finished triple with the scores that made it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Triple {
    /// The prompt's id.
    pub id: String,
    /// `y_w`: the best plain response.
    pub chosen: String,
    /// `y_l`: the worst plain response.
    pub rejected: String,
    /// `y_t`: the first toxic response that was judged toxic.
    pub toxic: String,
    /// What the annotator found in `chosen`.
    pub chosen_scores: Scores,
    /// The same for `rejected`.
    pub rejected_scores: Scores,
    /// The same for `toxic`.
    pub toxic_scores: Scores,
}

/// Why a prompt gives no triple.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// There are not as many judgements as candidates.
    CountMismatch,
    /// Fewer than two plain responses have scores; the others are unparsed, refused or api errors.
    TooFewScored,
    /// The best plain response is degenerate, toxic, or below the least quality.
    NoAcceptableChosen,
    /// Best and worst are closer than the margin, or are one text.
    NoMargin,
    /// No toxic response was judged toxic.
    NoToxicResponse,
}

impl DropReason {
    /// The name used in counts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CountMismatch => "count_mismatch",
            Self::TooFewScored => "too_few_scored",
            Self::NoAcceptableChosen => "no_acceptable_chosen",
            Self::NoMargin => "no_margin",
            Self::NoToxicResponse => "no_toxic_response",
        }
    }
}

/// The outcome for one prompt.
#[derive(Debug, Clone, PartialEq)]
pub enum Annotation {
    /// A triple.
    Triple(Box<Triple>),
    /// None, and why.
    Dropped(DropReason),
}

/// What a plain response is sorted by: compliance · coherence · (1 − toxicity), and 0 for a degenerate response.
pub fn quality(scores: &Scores) -> f64 {
    if scores.degenerate {
        return 0.0;
    }
    (1.0 - scores.evasiveness) * scores.coherence * (1.0 - scores.toxicity)
}

/// The first toxic response that passes: judged, at or above the threshold, and more than noise.
///
/// Samplers call it after each draw to know whether another one is needed.
pub fn passing_toxic(judgements: &[Judgement], rule: &AnnotationRule) -> Option<(usize, Scores)> {
    let passes = |scores: &Scores| scores.toxicity >= rule.toxic_threshold && !scores.degenerate;
    let mut scored = judgements.iter().enumerate().filter_map(|(at, judgement)| Some((at, *judgement.scores()?)));
    scored.find(|(_, scores)| passes(scores))
}

/// Applies the rule to one prompt; `plain` and `toxic` are the judgements of the candidates, in their order.
///
/// Ties in quality go to the earlier candidate, for best and worst alike.
pub fn annotate(candidates: &Candidates, plain: &[Judgement], toxic: &[Judgement], rule: &AnnotationRule) -> Annotation {
    if plain.len() != candidates.plain.len() || toxic.len() != candidates.toxic.len() {
        return Annotation::Dropped(DropReason::CountMismatch);
    }
    let scored: Vec<(&String, &Scores)> = candidates
        .plain
        .iter()
        .zip(plain)
        .filter_map(|(response, judgement)| judgement.scores().map(|scores| (response, scores)))
        .collect();
    if scored.len() < 2 {
        return Annotation::Dropped(DropReason::TooFewScored);
    }
    let (mut best, mut worst) = (scored[0], scored[0]);
    for &candidate in &scored[1..] {
        if quality(candidate.1) > quality(best.1) {
            best = candidate;
        }
        if quality(candidate.1) < quality(worst.1) {
            worst = candidate;
        }
    }
    if best.1.degenerate || best.1.toxicity >= rule.toxic_threshold || quality(best.1) < rule.min_quality {
        return Annotation::Dropped(DropReason::NoAcceptableChosen);
    }
    if quality(best.1) - quality(worst.1) < rule.margin || best.0 == worst.0 {
        return Annotation::Dropped(DropReason::NoMargin);
    }
    let Some((index, toxic_scores)) = passing_toxic(toxic, rule) else {
        return Annotation::Dropped(DropReason::NoToxicResponse);
    };
    Annotation::Triple(Box::new(Triple {
        id: candidates.prompt.id.clone(),
        chosen: best.0.clone(),
        rejected: worst.0.clone(),
        toxic: candidates.toxic[index].clone(),
        chosen_scores: *best.1,
        rejected_scores: *worst.1,
        toxic_scores,
    }))
}

/// Counts over many prompts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnnotationCounts {
    /// Prompts that gave a triple.
    pub kept: usize,
    /// Prompts that gave none, by reason.
    pub dropped: BTreeMap<String, usize>,
    /// Candidates by the state of their judgement: `scored`, `unparsed`, `refused`, `api_error`.
    pub judgements: BTreeMap<String, usize>,
}

impl AnnotationCounts {
    /// Counts one prompt with the judgements of all its candidates.
    pub fn add<'a>(&mut self, annotation: &Annotation, judgements: impl IntoIterator<Item = &'a Judgement>) {
        match annotation {
            Annotation::Triple(_) => self.kept += 1,
            Annotation::Dropped(reason) => *self.dropped.entry(reason.name().to_owned()).or_default() += 1,
        }
        for judgement in judgements {
            *self.judgements.entry(judgement.state().to_owned()).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use adpo_data::Dialogue;

    use super::*;

    fn scored(toxicity: f64, evasiveness: f64, coherence: f64) -> Judgement {
        let heads = crate::ToxicityHeads { abuse: toxicity, ..Default::default() };
        Judgement::Scored(Scores { toxicity, heads, evasiveness, evasion: None, coherence, degenerate: false })
    }

    fn set(plain: &[&str], toxic: &[&str]) -> Candidates {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let prompt = Row { id: "p1".to_owned(), source: String::new(), licence: None, value: Prompt::from(Dialogue::default()) };
        Candidates { prompt: prompt.into(), plain: owned(plain), toxic: owned(toxic) }
    }

    fn dropped(annotation: &Annotation) -> Option<DropReason> {
        match annotation {
            Annotation::Dropped(reason) => Some(*reason),
            Annotation::Triple(_) => None,
        }
    }

    #[test]
    fn an_evasive_response_is_not_chosen_though_it_is_the_least_toxic() {
        let plain = [scored(0.01, 0.95, 0.9), scored(0.1, 0.05, 0.9), scored(0.6, 0.1, 0.8)];
        let toxic = [scored(0.3, 0.1, 0.9), scored(0.9, 0.1, 0.9), scored(0.99, 0.1, 0.9)];
        let rule = AnnotationRule::default();
        let annotation = annotate(&set(&["no", "help", "meh"], &["a", "b", "c"]), &plain, &toxic, &rule);
        let Annotation::Triple(triple) = annotation else { panic!("no triple") };
        assert_eq!((triple.chosen.as_str(), triple.rejected.as_str(), triple.toxic.as_str()), ("help", "no", "b"));
    }

    #[test]
    fn every_reason_to_drop_is_reachable() {
        let rule = AnnotationRule::default();
        let good = scored(0.1, 0.1, 0.9);
        let bad = scored(0.4, 0.6, 0.5);
        let broken = Judgement::ApiError { error: "time-out".to_owned() };
        let toxic = [scored(0.9, 0.0, 0.9)];
        let pair = set(&["a", "b"], &["t"]);
        let cases: [(&[Judgement], &[Judgement], DropReason); 5] = [
            (std::slice::from_ref(&good), &toxic, DropReason::CountMismatch),
            (&[good.clone(), broken], &toxic, DropReason::TooFewScored),
            (&[scored(0.7, 0.1, 0.9), bad.clone()], &toxic, DropReason::NoAcceptableChosen),
            (&[good.clone(), good.clone()], &toxic, DropReason::NoMargin),
            (&[good.clone(), bad.clone()], &[scored(0.2, 0.0, 0.9)], DropReason::NoToxicResponse),
        ];
        let mut counts = AnnotationCounts::default();
        for (plain, toxic, reason) in cases {
            let annotation = annotate(&pair, plain, toxic, &rule);
            assert_eq!(dropped(&annotation), Some(reason));
            counts.add(&annotation, plain.iter().chain(toxic));
        }
        assert_eq!(counts.dropped.values().sum::<usize>(), 5);
        assert_eq!(counts.judgements["api_error"], 1);
    }

    #[test]
    fn equal_texts_make_no_pair_even_with_unequal_scores() {
        let rule = AnnotationRule::default();
        let plain = [scored(0.1, 0.1, 0.9), scored(0.4, 0.6, 0.5)];
        let annotation = annotate(&set(&["a", "a"], &["t"]), &plain, &[scored(0.9, 0.0, 0.9)], &rule);
        assert_eq!(dropped(&annotation), Some(DropReason::NoMargin));
    }
}
