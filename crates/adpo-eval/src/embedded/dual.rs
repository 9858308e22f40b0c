//! The dual encoder of the coherence measure: does this response belong to that turn?

use super::features::bits;
use super::head::{Table, slot};
use crate::text::{Text, hash_token};

/// Width of an embedding.
pub(crate) const WIDTH: usize = 24;

/// Two towers of word embeddings: the mean over the words of a request against the mean over the words of a response.
#[derive(Debug, Clone)]
pub(crate) struct Dual {
    /// `WIDTH` numbers for each of 2^`bits::WORDS` hashed words, seen in the request.
    pub(crate) request: Table,
    /// The same for words of the response.
    pub(crate) response: Table,
}

/// The hashed words of a text, each once per occurrence.
pub(crate) fn word_slots(text: &Text) -> Vec<u32> {
    text.words().map(|word| slot(bits::WORDS, 0, hash_token(word))).collect()
}

impl Dual {
    /// The dot product of the two encodings, words weighted by rarity.
    pub(crate) fn affinity(&self, rarity: &Table, request: &[u32], response: &[u32]) -> f32 {
        let a = encode(&self.request, rarity, request);
        let b = encode(&self.response, rarity, response);
        a.iter().zip(&b).map(|(x, y)| x * y).sum()
    }
}

fn encode(table: &Table, rarity: &Table, words: &[u32]) -> [f32; WIDTH] {
    let mut sum = [0.0; WIDTH];
    for &word in words {
        let weight = rarity.get(word) / (words.len() as f32).sqrt();
        for (i, slot) in sum.iter_mut().enumerate() {
            *slot += weight * table.get(word * WIDTH as u32 + i as u32);
        }
    }
    sum
}
