//! Unigram, bigram and trigram models, as baselines for a neural model's bits per byte.

use std::collections::HashMap;

/// Counts of single tokens, of pairs and of triples.
#[derive(Default)]
pub(crate) struct NgramCounts {
    vocab: usize,
    total: u64,
    unigrams: HashMap<u32, u64>,
    /// For each context: how often it was seen, and how many different tokens followed it.
    contexts: HashMap<u32, (u64, u64)>,
    bigrams: HashMap<(u32, u32), u64>,
    trigrams: HashMap<(u32, u32, u32), u64>,
}

/// Mean negative log-likelihoods in nats per predicted token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NgramNll {
    pub(crate) unigram: f64,
    pub(crate) bigram: f64,
    pub(crate) trigram: f64,
}

impl NgramCounts {
    pub(crate) fn new(vocab: usize) -> Self {
        Self { vocab, ..Self::default() }
    }

    /// Counts the predicted tokens of a sequence; the first one is only a context.
    pub(crate) fn observe(&mut self, ids: &[u32]) {
        for (before, context, token) in self.triples(ids) {
            self.total += 1;
            *self.unigrams.entry(token).or_default() += 1;
            let seen = self.bigrams.entry((context, token)).or_default();
            let entry = self.contexts.entry(context).or_default();
            entry.0 += 1;
            entry.1 += u64::from(*seen == 0);
            *seen += 1;
            *self.trigrams.entry((before, context, token)).or_default() += 1;
        }
    }

    /// Each predicted token after its two predecessors. Before a sequence stands an id that no token has.
    fn triples<'a>(&self, ids: &'a [u32]) -> impl Iterator<Item = (u32, u32, u32)> + use<'a> {
        let start = self.vocab as u32;
        ids.windows(2).enumerate().map(move |(i, pair)| (if i == 0 { start } else { ids[i - 1] }, pair[0], pair[1]))
    }

    /// Add-one smoothed unigram probability.
    fn unigram(&self, token: u32) -> f64 {
        let seen = self.unigrams.get(&token).copied().unwrap_or(0);
        (seen + 1) as f64 / (self.total + self.vocab as u64) as f64
    }

    /// Bigram probability with Witten–Bell smoothing (Witten & Bell 1991, method C): the weight of the unigram
    /// model grows with the number of different tokens seen after the context.
    fn bigram(&self, context: u32, token: u32) -> f64 {
        let (count, kinds) = self.contexts.get(&context).copied().unwrap_or((0, 1));
        let seen = self.bigrams.get(&(context, token)).copied().unwrap_or(0);
        (seen as f64 + kinds as f64 * self.unigram(token)) / (count + kinds) as f64
    }

    /// Means over the predicted tokens of some sequences.
    pub(crate) fn mean_nll<'a>(&self, sequences: impl Iterator<Item = &'a [u32]>) -> NgramNll {
        let trigrams = KneserNey::new(self);
        let mut sum = NgramNll { unigram: 0.0, bigram: 0.0, trigram: 0.0 };
        let mut count = 0_u64;
        for (before, context, token) in sequences.flat_map(|ids| self.triples(ids)) {
            sum.unigram -= self.unigram(token).ln();
            sum.bigram -= self.bigram(context, token).ln();
            sum.trigram -= trigrams.probability(before, context, token).ln();
            count += 1;
        }
        let count = count.max(1) as f64;
        NgramNll { unigram: sum.unigram / count, bigram: sum.bigram / count, trigram: sum.trigram / count }
    }
}

/// An interpolated Kneser–Ney trigram model (Kneser & Ney 1995; Chen & Goodman 1999, equation 26) with one discount for each order.
struct KneserNey<'a> {
    counts: &'a NgramCounts,
    /// Of (u, v): how often a token followed it, and how many different ones.
    after_pair: HashMap<(u32, u32), (u64, u64)>,
    /// Of (v, w): how many different tokens stood before it.
    before_pair: HashMap<(u32, u32), u64>,
    /// Of v: the sum of these over all w, and how many different w there are.
    after_token: HashMap<u32, (u64, u64)>,
    /// Of w: how many different tokens stood before it.
    before_token: HashMap<u32, u64>,
    /// Different pairs.
    pairs: u64,
    /// Of triples, pairs, tokens: n1 / (n1 + 2 n2), with n1 and n2 the numbers of those counted once and twice.
    discounts: [f64; 3],
}

impl<'a> KneserNey<'a> {
    fn new(counts: &'a NgramCounts) -> Self {
        let mut after_pair: HashMap<(u32, u32), (u64, u64)> = HashMap::new();
        let mut before_pair: HashMap<(u32, u32), u64> = HashMap::new();
        for (&(u, v, w), n) in &counts.trigrams {
            let entry = after_pair.entry((u, v)).or_default();
            *entry = (entry.0 + n, entry.1 + 1);
            *before_pair.entry((v, w)).or_default() += 1;
        }
        let mut after_token: HashMap<u32, (u64, u64)> = HashMap::new();
        let mut before_token: HashMap<u32, u64> = HashMap::new();
        for (&(v, w), n) in &before_pair {
            let entry = after_token.entry(v).or_default();
            *entry = (entry.0 + n, entry.1 + 1);
            *before_token.entry(w).or_default() += 1;
        }
        let discounts = [discount(counts.trigrams.values()), discount(before_pair.values()), discount(before_token.values())];
        Self { counts, after_pair, pairs: before_pair.len() as u64, before_pair, after_token, before_token, discounts }
    }

    fn probability(&self, u: u32, v: u32, w: u32) -> f64 {
        let [triple, pair, token] = self.discounts;
        let of = |seen: Option<&u64>| seen.copied().unwrap_or(0);
        let unigram = interpolated(of(self.before_token.get(&w)), Some((self.pairs, self.before_token.len() as u64)), token, || {
            1.0 / self.counts.vocab as f64
        });
        let bigram = || interpolated(of(self.before_pair.get(&(v, w))), self.after_token.get(&v).copied(), pair, || unigram);
        interpolated(of(self.counts.trigrams.get(&(u, v, w))), self.after_pair.get(&(u, v)).copied(), triple, bigram)
    }
}

/// The discounted share of what was seen, and what the discounts left over shared out by the shorter model. A context that was
/// never seen (`None`) leaves everything to that.
fn interpolated(seen: u64, context: Option<(u64, u64)>, discount: f64, shorter: impl Fn() -> f64) -> f64 {
    match context {
        Some((total, kinds)) if total > 0 => ((seen as f64 - discount).max(0.0) + discount * kinds as f64 * shorter()) / total as f64,
        _ => shorter(),
    }
}

/// Ney, Essen & Kneser's estimate; one half where nothing was counted once.
fn discount<'a>(counts: impl Iterator<Item = &'a u64>) -> f64 {
    let (mut once, mut twice) = (0_u64, 0_u64);
    for count in counts {
        once += u64::from(*count == 1);
        twice += u64::from(*count == 2);
    }
    if once == 0 { 0.5 } else { once as f64 / (once + 2 * twice) as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_models_are_probability_distributions() {
        let mut counts = NgramCounts::new(5);
        counts.observe(&[0, 1, 2, 1, 2, 3]);
        for context in 0..5 {
            let sum: f64 = (0..5).map(|token| counts.bigram(context, token)).sum();
            assert!((sum - 1.0).abs() < 1e-12, "context {context}: {sum}");
        }
        let sum: f64 = (0..5).map(|token| counts.unigram(token)).sum();
        assert!((sum - 1.0).abs() < 1e-12);
        let trigrams = KneserNey::new(&counts);
        for (before, context) in (0..=5).flat_map(|before| (0..5).map(move |context| (before, context))) {
            let sum: f64 = (0..5).map(|token| trigrams.probability(before, context, token)).sum();
            assert!((sum - 1.0).abs() < 1e-12, "{before}, {context}: {sum}");
        }
    }

    #[test]
    fn the_bigram_model_learns_what_follows_what() {
        let mut counts = NgramCounts::new(4);
        (0..50).for_each(|_| counts.observe(&[0, 1, 2, 3]));
        let found = counts.mean_nll([&[0_u32, 1, 2, 3][..]].into_iter());
        assert!(found.bigram < 0.2 && found.unigram > 1.0, "{found:?}");
    }

    #[test]
    fn two_tokens_before_tell_the_trigram_model_what_one_does_not() {
        let mut counts = NgramCounts::new(6);
        for _ in 0..50 {
            counts.observe(&[0, 1, 2, 3]);
            counts.observe(&[0, 4, 2, 5]);
        }
        let found = counts.mean_nll([&[0_u32, 1, 2, 3][..], &[0, 4, 2, 5]].into_iter());
        assert!(found.trigram < found.bigram - 0.1, "{found:?}");
    }

    #[test]
    fn the_trigram_model_gives_the_probabilities_of_the_formula() {
        let mut counts = NgramCounts::new(4);
        counts.observe(&[0, 1, 2]);
        counts.observe(&[0, 1, 3]);
        counts.observe(&[0, 2, 3]);
        // Triples, with s before a sequence: (s 0 1) twice, (s 0 2), (0 1 2), (0 1 3), (0 2 3) once: discount 4 / (4 + 2) = 2/3.
        // Different tokens before a pair: (0 1), (0 2), (1 2), (1 3), (2 3) have one each: discount 1.
        // Different tokens before a token: 1 has one, 2 and 3 have two: discount 1 / (1 + 4) = 1/5.
        let unigram = ((2.0 - 0.2) + 0.2 * 3.0 * 0.25) / 5.0;
        let bigram = 0.5 * (2.0 * unigram);
        let trigram = 0.5 * (1.0 - 2.0 / 3.0) + 0.5 * (2.0 / 3.0 * 2.0 * bigram);
        let found = KneserNey::new(&counts).probability(0, 1, 2);
        assert!((found - trigram).abs() < 1e-12, "{found} {trigram}");
    }
}
