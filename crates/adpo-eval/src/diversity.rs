//! Diversity of a set of responses.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::text::{Text, hash_pair, hash_token};

/// Diversity of the responses of one system.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Diversity {
    /// Distinct words divided by words (Li et al. 2016), within the token budget.
    pub distinct_1: f64,
    /// The same for pairs of adjacent words.
    pub distinct_2: f64,
    /// The same for runs of three words.
    pub distinct_3: f64,
    /// Mean BLEU-4 of each response against the others (Zhu et al. 2018): high means that all sound alike.
    pub self_bleu_4: f64,
    /// The share of responses that no other response equals, letter case and punctuation aside, counting each text once.
    pub unique: f64,
    /// Words that the distinct-n figures rest on. Compare systems only at equal budgets: the figures fall with length.
    pub budget: usize,
}

/// Responses used for self-BLEU; beyond this many the first are taken, as its cost grows with the square.
const SELF_BLEU_RESPONSES: usize = 200;

/// How many words a set of responses has: what [`diversity`] can be given as a budget.
pub fn count_words(responses: &[&str]) -> usize {
    responses.iter().map(|response| Text::new(response).count_words()).sum()
}

/// Measures `responses`, the distinct-n figures on their first `budget` words in the order given.
///
/// Take the smallest [`count_words`] of the systems that are to be compared as the budget.
pub fn diversity(responses: &[&str], budget: usize) -> Diversity {
    let hashed: Vec<Vec<u64>> = responses.iter().map(|response| Text::new(response).words().map(hash_token).collect()).collect();
    let mut left = budget;
    let mut within: Vec<&[u64]> = Vec::new();
    for words in &hashed {
        let take = words.len().min(left);
        within.push(&words[..take]);
        left -= take;
    }
    let distinct = |n: usize| {
        let total: usize = within.iter().map(|words| words.windows(n).len()).sum();
        let set: HashSet<&[u64]> = within.iter().flat_map(|words| words.windows(n)).collect();
        if total == 0 { 0.0 } else { set.len() as f64 / total as f64 }
    };
    let texts: HashSet<&Vec<u64>> = hashed.iter().collect();
    Diversity {
        distinct_1: distinct(1),
        distinct_2: distinct(2),
        distinct_3: distinct(3),
        self_bleu_4: self_bleu(&hashed[..hashed.len().min(SELF_BLEU_RESPONSES)]),
        unique: if hashed.is_empty() { 0.0 } else { texts.len() as f64 / hashed.len() as f64 },
        budget: budget - left,
    }
}

/// Mean over responses of BLEU-4 with all other responses as references.
///
/// Clipped n-gram precision (Papineni et al. 2002) with add-one smoothing of orders 2 to 4 (Lin & Och 2004) and the
/// brevity penalty against the reference closest in length.
fn self_bleu(responses: &[Vec<u64>]) -> f64 {
    let responses: Vec<&Vec<u64>> = responses.iter().filter(|words| !words.is_empty()).collect();
    if responses.len() < 2 {
        return 0.0;
    }
    let counts: Vec<[HashMap<u64, u32>; 4]> = responses.iter().map(|words| std::array::from_fn(|n| count_ngrams(words, n + 1))).collect();
    // For each n-gram the two largest counts and who has the largest: the maximum over *other* responses in one look.
    let mut largest: [HashMap<u64, (u32, usize, u32)>; 4] = Default::default();
    for (who, orders) in counts.iter().enumerate() {
        for (order, grams) in orders.iter().enumerate() {
            for (&gram, &count) in grams {
                let entry = largest[order].entry(gram).or_insert((0, who, 0));
                if count > entry.0 {
                    *entry = (count, who, entry.0);
                } else {
                    entry.2 = entry.2.max(count);
                }
            }
        }
    }
    let mut total = 0.0;
    for (who, orders) in counts.iter().enumerate() {
        let mut log_precision = 0.0;
        for (order, grams) in orders.iter().enumerate() {
            let all: u32 = grams.values().sum();
            let clipped: u32 = grams
                .iter()
                .map(|(gram, &count)| {
                    let (top, owner, second) = largest[order][gram];
                    count.min(if owner == who { second } else { top })
                })
                .sum();
            let smoothing = if order == 0 { 0.0 } else { 1.0 };
            log_precision += ((f64::from(clipped) + smoothing) / (f64::from(all) + smoothing)).ln() / 4.0;
        }
        let length = responses[who].len();
        let others = responses.iter().enumerate().filter(|(other, _)| *other != who).map(|(_, words)| words.len());
        let closest = others.min_by_key(|&other| (other.abs_diff(length), other)).unwrap_or(length);
        let brevity = (1.0 - closest as f64 / length as f64).min(0.0);
        total += (log_precision + brevity).exp();
    }
    total / responses.len() as f64
}

fn count_ngrams(words: &[u64], n: usize) -> HashMap<u64, u32> {
    let mut counts = HashMap::new();
    for window in words.windows(n) {
        let hash = window.iter().fold(n as u64, |h, &word| hash_pair(6, h, word));
        *counts.entry(hash).or_insert(0) += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinct_counts_equal_those_done_by_hand() {
        let result = diversity(&["the cat sat", "the cat ran"], 100);
        assert_eq!(result.distinct_1, 4.0 / 6.0);
        assert_eq!(result.distinct_2, 3.0 / 4.0);
        assert_eq!(result.distinct_3, 1.0);
        assert_eq!(result.unique, 1.0);
        assert_eq!(result.budget, 6);
    }

    #[test]
    fn a_budget_makes_long_and_short_systems_comparable() {
        let long = ["one two three four five six", "one two three four five six"];
        assert_eq!(diversity(&long, 6).distinct_1, 1.0);
        assert_eq!(diversity(&long, 12).distinct_1, 0.5);
    }

    #[test]
    fn self_bleu_is_one_for_equal_and_zero_for_unrelated_responses() {
        let same = diversity(&["we sing in the old town", "We sing, in the old town!"], 100);
        assert!((same.self_bleu_4 - 1.0).abs() < 1e-12);
        assert_eq!(same.unique, 0.5);
        assert_eq!(diversity(&["a b c d", "e f g h"], 100).self_bleu_4, 0.0);
        assert_eq!(diversity(&[], 10).self_bleu_4, 0.0);
    }

    #[test]
    fn self_bleu_equals_a_value_computed_by_hand() {
        // Each response against the other: p1 = 3/4, p2 = (2+1)/(3+1), p3 = (1+1)/(2+1), p4 = (0+1)/(1+1), no penalty.
        let expected = (0.75_f64 * 0.75 * (2.0 / 3.0) * 0.5).powf(0.25);
        let found = diversity(&["a b c d", "a b c e"], 100).self_bleu_4;
        assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
    }
}
