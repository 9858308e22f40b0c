//! Every random stream of a run, derived from its one seed by name.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use sha1::{Digest, Sha1};

/// The seed of the random stream called `stream`: the first 8 bytes (little-endian) of SHA-1 over the seed's 8
/// little-endian bytes and the name.
///
/// ```
/// use adpo_data::derive_seed;
/// assert_eq!(derive_seed(42, "sample"), derive_seed(42, "sample"));
/// assert_ne!(derive_seed(42, "sample"), derive_seed(42, "order"));
/// ```
pub fn derive_seed(seed: u64, stream: &str) -> u64 {
    let mut hash = Sha1::new();
    hash.update(seed.to_le_bytes());
    hash.update(stream.as_bytes());
    hash.finalize().iter().take(8).rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// The order in which epoch `epoch` (counted from 0) visits `n` rows: a permutation of `0..n` that depends on nothing
/// but the three arguments.
///
/// `ChaCha8` and a Fisher–Yates shuffle in our own integer code, so that an upgrade of `rand` cannot change it.
pub fn epoch_order(n: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut key = [0; 32];
    for (i, part) in key.chunks_exact_mut(8).enumerate() {
        part.copy_from_slice(&derive_seed(seed, &format!("epoch/{epoch}/{i}")).to_le_bytes());
    }
    let mut random = ChaCha8Rng::from_seed(key);
    let mut order: Vec<usize> = (0..n).collect();
    for last in (1..n).rev() {
        order.swap(last, below(last as u64 + 1, &mut random) as usize);
    }
    order
}

/// Uniform in `0..bound`: draws that would favour small values are thrown away.
fn below(bound: u64, random: &mut ChaCha8Rng) -> u64 {
    let fair = u64::MAX - u64::MAX % bound;
    loop {
        let draw = random.next_u64();
        if draw < fair {
            return draw % bound;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_and_orders_are_the_same_on_every_machine_and_version() {
        // Both computed with another implementation of SHA-1 and ChaCha8 (Python).
        assert_eq!(derive_seed(42, "sample"), 14_257_627_557_526_293_118);
        assert_eq!(epoch_order(8, 42, 0), [6, 0, 7, 1, 2, 4, 3, 5]);
    }

    #[test]
    fn every_epoch_visits_every_row_once_in_an_order_of_its_own() {
        for n in [0, 1, 2, 3, 100] {
            let mut order = epoch_order(n, 7, 3);
            order.sort_unstable();
            assert_eq!(order, (0..n).collect::<Vec<_>>());
        }
        assert_ne!(epoch_order(100, 7, 0), epoch_order(100, 7, 1));
        assert_ne!(epoch_order(100, 7, 0), epoch_order(100, 8, 0));
    }

    #[test]
    fn every_row_comes_first_about_equally_often() {
        let mut first = [0; 5];
        for seed in 0..5000 {
            first[epoch_order(5, seed, 0)[0]] += 1;
        }
        assert!(first.iter().all(|n| (850..1150).contains(n)), "{first:?}");
    }
}
