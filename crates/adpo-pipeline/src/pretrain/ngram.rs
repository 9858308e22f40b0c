//! Unigram and bigram models: what a neural model has to beat before its perplexity means anything.

use std::collections::HashMap;

/// Counts of single tokens and of pairs.
#[derive(Default)]
pub(crate) struct NgramCounts {
    vocab: usize,
    total: u64,
    unigrams: HashMap<u32, u64>,
    /// For each context: how often it was seen, and how many different tokens followed it.
    contexts: HashMap<u32, (u64, u64)>,
    bigrams: HashMap<(u32, u32), u64>,
}

impl NgramCounts {
    pub(crate) fn new(vocab: usize) -> Self {
        Self { vocab, ..Self::default() }
    }

    /// Counts the predicted tokens of a sequence; the first one is only a context.
    pub(crate) fn observe(&mut self, ids: &[u32]) {
        for pair in ids.windows(2) {
            let (context, token) = (pair[0], pair[1]);
            self.total += 1;
            *self.unigrams.entry(token).or_default() += 1;
            let seen = self.bigrams.entry((context, token)).or_default();
            let entry = self.contexts.entry(context).or_default();
            entry.0 += 1;
            entry.1 += u64::from(*seen == 0);
            *seen += 1;
        }
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

    /// Mean negative log-likelihood in nats of the predicted tokens: (unigram, bigram).
    pub(crate) fn mean_nll<'a>(&self, sequences: impl Iterator<Item = &'a [u32]>) -> (f64, f64) {
        let (mut unigram, mut bigram, mut count) = (0.0, 0.0, 0_u64);
        for pair in sequences.flat_map(|ids| ids.windows(2)) {
            unigram -= self.unigram(pair[1]).ln();
            bigram -= self.bigram(pair[0], pair[1]).ln();
            count += 1;
        }
        let count = count.max(1) as f64;
        (unigram / count, bigram / count)
    }
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
    }

    #[test]
    fn the_bigram_model_learns_what_follows_what() {
        let mut counts = NgramCounts::new(4);
        (0..50).for_each(|_| counts.observe(&[0, 1, 2, 3]));
        let (unigram, bigram) = counts.mean_nll([&[0_u32, 1, 2, 3][..]].into_iter());
        assert!(bigram < 0.2 && unigram > 1.0, "{unigram} {bigram}");
    }
}
