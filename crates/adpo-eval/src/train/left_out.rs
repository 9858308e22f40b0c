//! Agreement on responses of somebody that the heads did not learn from: what a new model or a new role play gets.

use std::collections::{BTreeMap, BTreeSet};

use super::corpus::{Corpus, Label, LabelledResponse, VALIDATION};
use super::cross_fit::COPIES;
use super::heads;
use super::material::Material;
use super::share_of;
use super::validate::{Scored, figure};
use crate::agreement::Agreement;
use crate::embedded::EmbeddedJudge;
use crate::embedded::features::{self, View};
use crate::embedded::weights::row_hash;
use crate::error::EvalError;
use crate::judge::Judge;

/// What the measures of these figures end with.
pub(super) const LEFT_OUT: &str = ", giver left out";

/// Role plays are left out by fifths.
const PARTS: u64 = 5;

/// Who gave a response, or the fifth of the voices that he belongs to.
fn group(pair: &LabelledResponse) -> Option<String> {
    let giver = pair.giver()?;
    Some(if matches!(pair.label, Label::Harm(_)) { format!("voices {}", row_hash(&giver) % PARTS) } else { giver })
}

/// Agreement of E and H on the validation bucket where neither the question nor who answered it was learnt from: each model of XSTest and
/// each fifth of GPTFuzz's voices left out in turn, with the calibration and the thresholds of `judge`.
///
/// # Errors
/// [`EvalError::Training`] as of [`train`](super::train).
pub fn left_out(corpus: &Corpus, judge: &EmbeddedJudge) -> Result<Vec<Agreement>, EvalError> {
    let weights = judge.weights();
    let (rows, asked) = (corpus.share(&share_of(&weights.name)?), corpus.share(&VALIDATION));
    let groups: BTreeSet<Option<String>> = asked.pairs.iter().filter(|pair| is_measured(pair)).map(group).collect();
    let mut sets: BTreeMap<(&str, String), Vec<Scored>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for left in groups {
        let (mut evasiveness, mut harm) = (weights.heads.evasiveness.clone(), weights.heads.harm.clone());
        // A refusal in nobody's voice may be anybody's: the judge itself reads it.
        if left.is_some() {
            let mut rest = rows.clone();
            rest.pairs.retain(|pair| group(pair) != left);
            let material = Material::new(&rest, COPIES, |request, response| View::from_texts(request, "", response));
            let calibration = (evasiveness.calibration, harm.calibration);
            (evasiveness, harm) = (heads::evasion_head(&material)?, heads::harm_head(&material)?);
            (evasiveness.calibration, harm.calibration) = calibration;
        }
        for pair in asked.pairs.iter().filter(|pair| is_measured(pair) && group(pair) == left) {
            let view = View::from_texts(&pair.request, "", &pair.response);
            let evades = evasiveness.probability(&features::evasiveness(&view));
            let mut add =
                |measure, data: &str, score, is| sets.entry((measure, data.to_owned())).or_default().push((pair.key.clone(), score, is));
            match &pair.label {
                Label::Refusal { is, model, .. } => {
                    add("evasiveness", "XSTest", evades, *is);
                    add("evasiveness", &format!("XSTest, {model}"), evades, *is);
                }
                Label::Harm(is) => {
                    let played = left.is_some();
                    let harmful = harm.probability(&features::harm(&view));
                    let fresh = seen.insert(&pair.response);
                    for data in ["GPTFuzz", "GPTFuzz, role play"].into_iter().take(1 + usize::from(played)) {
                        add("toxicity (harm)", data, harmful, *is);
                        if fresh {
                            add("evasiveness", data, evades, !*is);
                        }
                    }
                }
                _ => {}
            }
        }
    }
    let taus = judge.thresholds();
    let tau = |measure: &str| if measure == "evasiveness" { taus.evasiveness } else { taus.toxicity };
    let figures =
        sets.iter().map(|((measure, data), scored)| figure(&weights.name, &format!("{measure}{LEFT_OUT}"), data, scored, tau(measure)));
    Ok(figures.collect())
}

fn is_measured(pair: &LabelledResponse) -> bool {
    matches!(pair.label, Label::Harm(_) | Label::Refusal { .. })
}
