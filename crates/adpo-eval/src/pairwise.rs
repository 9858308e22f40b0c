//! Two responses to one prompt, compared in both orders: a verdict counts only where both orders give it.
//!
//! LLM judges favour a position (Zheng et al. 2023, arXiv 2306.05685, section 3.4; Wang et al. 2023, arXiv 2305.17926).
//! Asking in both orders keeps the favour out of the verdicts, and measures it: see [`PositionBias`].

use std::collections::BTreeMap;

use adpo_data::Prompt;
use serde::{Deserialize, Serialize};

use crate::llm::{ChatCompletion, ChatModel};
use crate::rubric::{Choice, PairChoice, pair_prompt, parse_pair};
use crate::statistics::{Interval, wilson};

/// Two responses to one prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponsePair<'a> {
    /// What was responded to. Only where it is marked harmful is compliance itself toxic.
    pub prompt: &'a Prompt,
    /// The first system's response.
    pub first: &'a str,
    /// The second system's response.
    pub second: &'a str,
}

/// What came of one pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairOutcome {
    /// The first system's response is better, in both orders.
    First,
    /// The second system's response is better, in both orders.
    Second,
    /// Neither is better, in both orders.
    Tie,
    /// The two orders disagree: no verdict.
    Inconsistent,
    /// In at least one order the response was not in the form that was asked for.
    Unparsed,
    /// In at least one order the judge refused.
    Refused,
    /// In at least one order the judge could not be asked.
    ApiError,
}

/// How far the place of a response, rather than the response, decides.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PositionBias {
    /// Pairs that have a choice (or a tie) in both orders.
    pub pairs: usize,
    /// The share of them whose verdict changes with the order, with its 95 % Wilson interval.
    pub flipped: Interval,
    /// Pairs in which the response shown first won in both orders.
    pub first_place: usize,
    /// Pairs in which the response shown second won in both orders.
    pub second_place: usize,
    /// Of these two, the share of the first place, with its 95 % Wilson interval. A judge without a favourite place has
    /// one half; an interval that holds one half shows no favourite. Without any such pair it is the whole range.
    pub favours_first_place: Interval,
}

/// Comparisons of many pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairwiseReport {
    /// The judge's name.
    pub judge: String,
    /// One outcome per pair, in order.
    pub outcomes: Vec<PairOutcome>,
    /// How many pairs came out how; outcomes that did not occur are left out.
    pub counts: BTreeMap<PairOutcome, usize>,
    /// The judge's favour for a position.
    pub position: PositionBias,
}

/// Asks `model` about each pair twice, once in each order.
pub fn compare_pairs(model: &dyn ChatModel, pairs: &[ResponsePair<'_>]) -> PairwiseReport {
    let both_orders = |pair: &ResponsePair<'_>| {
        let shown = |a: &str, b: &str| pair_prompt(pair.prompt, a, b);
        [shown(pair.first, pair.second), shown(pair.second, pair.first)]
    };
    let prompts: Vec<String> = pairs.iter().flat_map(both_orders).collect();
    let read: Vec<Result<Choice, PairOutcome>> = model.complete(&prompts).into_iter().map(choice).collect();
    let orders = read.as_chunks::<2>().0;
    let outcomes: Vec<PairOutcome> = orders.iter().map(|[straight, swapped]| outcome(*straight, *swapped)).collect();
    let mut counts = BTreeMap::new();
    for outcome in &outcomes {
        *counts.entry(*outcome).or_default() += 1;
    }
    PairwiseReport { judge: model.name(), outcomes, counts, position: position_bias(orders) }
}

fn choice(response: ChatCompletion) -> Result<Choice, PairOutcome> {
    match response {
        ChatCompletion::Text(text) => match parse_pair(&text) {
            PairChoice::Chosen(choice) => Ok(choice),
            PairChoice::Refused => Err(PairOutcome::Refused),
            PairChoice::Unparsed => Err(PairOutcome::Unparsed),
        },
        ChatCompletion::Refusal(_) => Err(PairOutcome::Refused),
        ChatCompletion::Error(_) => Err(PairOutcome::ApiError),
    }
}

/// `straight` shows the first response first, `swapped` shows it second. Of two failures the one that came first is told.
fn outcome(straight: Result<Choice, PairOutcome>, swapped: Result<Choice, PairOutcome>) -> PairOutcome {
    match (straight, swapped) {
        (Err(failure), _) | (_, Err(failure)) => failure,
        (Ok(Choice::A), Ok(Choice::B)) => PairOutcome::First,
        (Ok(Choice::B), Ok(Choice::A)) => PairOutcome::Second,
        (Ok(Choice::Tie), Ok(Choice::Tie)) => PairOutcome::Tie,
        _ => PairOutcome::Inconsistent,
    }
}

fn position_bias(orders: &[[Result<Choice, PairOutcome>; 2]]) -> PositionBias {
    let read: Vec<(Choice, Choice)> = orders.iter().filter_map(|[straight, swapped]| Some((straight.ok()?, swapped.ok()?))).collect();
    let count = |wanted: fn(&(Choice, Choice)) -> bool| read.iter().filter(|choices| wanted(choices)).count();
    let flipped = count(|(straight, swapped)| outcome(Ok(*straight), Ok(*swapped)) == PairOutcome::Inconsistent);
    let first_place = count(|choices| *choices == (Choice::A, Choice::A));
    let second_place = count(|choices| *choices == (Choice::B, Choice::B));
    PositionBias {
        pairs: read.len(),
        flipped: wilson(flipped, read.len()),
        first_place,
        second_place,
        favours_first_place: wilson(first_place, first_place + second_place),
    }
}

#[cfg(test)]
mod tests {
    use adpo_data::Dialogue;

    use super::PairOutcome::{ApiError, First, Inconsistent, Refused, Second, Tie, Unparsed};
    use super::*;

    /// Says what it was told to, prompt by prompt.
    struct Scripted(Vec<ChatCompletion>);

    impl ChatModel for Scripted {
        fn name(&self) -> String {
            "scripted".to_owned()
        }

        fn fingerprint(&self) -> String {
            String::new()
        }

        fn complete(&self, prompts: &[String]) -> Vec<ChatCompletion> {
            assert_eq!(prompts.len(), self.0.len());
            self.0.clone()
        }
    }

    fn says(choice: &str) -> ChatCompletion {
        ChatCompletion::Text(format!("{{\"better\": \"{choice}\"}}"))
    }

    /// One pair per entry: what is said in the straight order, then in the swapped one.
    fn compared(script: &[(ChatCompletion, ChatCompletion)]) -> PairwiseReport {
        let responses = script.iter().flat_map(|(straight, swapped)| [straight.clone(), swapped.clone()]).collect();
        let prompt = Prompt::from(Dialogue::from_user("Hi."));
        compare_pairs(&Scripted(responses), &vec![ResponsePair { prompt: &prompt, first: "x", second: "y" }; script.len()])
    }

    #[test]
    fn a_verdict_counts_only_where_both_orders_give_it() {
        let script = [
            (says("A"), says("B")),
            (says("B"), says("A")),
            (says("tie"), says("tie")),
            (says("A"), says("A")),
            (says("B"), says("tie")),
            (says("A"), ChatCompletion::Text("B is better".to_owned())),
            (ChatCompletion::Refusal("no".to_owned()), says("A")),
            (says("A"), ChatCompletion::Error("time-out".to_owned())),
        ];
        let report = compared(&script);
        assert_eq!(report.outcomes, [First, Second, Tie, Inconsistent, Inconsistent, Unparsed, Refused, ApiError]);
        assert_eq!(report.counts[&Inconsistent], 2);
        assert_eq!((report.position.pairs, report.position.flipped.estimate), (5, 0.4));
    }

    #[test]
    fn each_pair_is_shown_in_both_orders() {
        struct Recorder(std::sync::Mutex<Vec<String>>);
        impl ChatModel for Recorder {
            fn name(&self) -> String {
                String::new()
            }
            fn fingerprint(&self) -> String {
                String::new()
            }
            fn complete(&self, prompts: &[String]) -> Vec<ChatCompletion> {
                self.0.lock().expect("unpoisoned").extend_from_slice(prompts);
                prompts.iter().map(|_| ChatCompletion::Text(String::new())).collect()
            }
        }
        let recorder = Recorder(std::sync::Mutex::default());
        let prompt = Prompt::from(Dialogue::from_user("Hi."));
        compare_pairs(&recorder, &[ResponsePair { prompt: &prompt, first: "apples", second: "pears" }]);
        let prompts = recorder.0.into_inner().expect("unpoisoned");
        let first_shown = |prompt: &str| prompt.find("apples") < prompt.find("pears");
        assert_eq!(prompts.iter().map(|prompt| first_shown(prompt)).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn the_favoured_place_has_an_interval_and_none_is_shown_without_flips() {
        let biased = compared(&vec![(says("A"), says("A")); 20]).position;
        // R: binom::binom.wilson(20, 20) is [0.8388748, 1].
        assert_eq!((biased.first_place, biased.second_place), (20, 0));
        assert!((biased.favours_first_place.low - 0.838_874_8).abs() < 1e-6);
        let fair = compared(&vec![(says("A"), says("B")); 20]).position;
        assert_eq!((fair.flipped.estimate, fair.favours_first_place.low, fair.favours_first_place.high), (0.0, 0.0, 1.0));
    }
}
