//! What the same judge says of replies whose worth is known: without them nobody can tell what a figure is worth.

use super::build::{Reply, first_replies};
use crate::statistics::SplitMix;

/// Prompts that these rows are made of at most: a judge may cost money.
const MOST: usize = 200;

/// With fewer the rows would say nothing.
const LEAST: usize = 10;

/// The rows by their names, best first: the prompts' reference replies where most prompts have one, a reply that belongs to another
/// prompt, and a reply with its words shuffled. Without references the last two are made of `replies` themselves.
pub(super) fn sanity_rows(replies: &[Reply], seed: u64) -> Vec<(&'static str, Vec<Reply>)> {
    let mut random = SplitMix::new(seed);
    let prompts: Vec<&Reply> = first_replies(replies).into_iter().map(|(_, reply)| reply).collect();
    let with_reference: Vec<&Reply> = prompts.iter().copied().filter(|reply| reply.reference.is_some()).collect();
    let referenced = 2 * with_reference.len() >= prompts.len() && with_reference.len() >= LEAST;
    let mut chosen = if referenced { with_reference } else { prompts };
    random.shuffle(&mut chosen);
    chosen.truncate(MOST);
    if chosen.len() < LEAST {
        return Vec::new();
    }
    let text = |reply: &Reply| reply.reference.clone().filter(|_| referenced).unwrap_or_else(|| reply.exchange.response.clone());
    let row = |texts: Vec<String>| -> Vec<Reply> {
        let told = |(reply, response): (&&Reply, String)| {
            let mut told = (*reply).clone();
            told.exchange.response = response;
            told
        };
        chosen.iter().zip(texts).map(told).collect()
    };
    let texts: Vec<String> = chosen.iter().map(|reply| text(reply)).collect();
    let mut others = texts.clone();
    others.rotate_left(1);
    let shuffled = texts.iter().map(|text| {
        let mut words: Vec<&str> = text.split_whitespace().collect();
        random.shuffle(&mut words);
        words.join(" ")
    });
    let shuffled = row(shuffled.collect());
    let mut rows = vec![("another prompt's reply", row(others)), ("shuffled words", shuffled)];
    if referenced {
        rows.insert(0, ("reference replies", row(texts)));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::Exchange;
    use adpo_data::Dialogue;

    fn replies(n: usize, reference: bool) -> Vec<Reply> {
        let one = |i: usize| Reply {
            prompt_id: format!("p{i}"),
            exchange: Exchange { prompt: Dialogue::from_user(format!("prompt {i}")), response: format!("own reply {i}"), harmful: false },
            category: None,
            reference: reference.then(|| format!("a good reply of six words {i}")),
        };
        (0..n).map(one).collect()
    }

    #[test]
    fn rows_are_made_of_references_where_there_are_some() {
        let rows = sanity_rows(&replies(20, true), 1);
        assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), ["reference replies", "another prompt's reply", "shuffled words"]);
        for (good, other) in rows[0].1.iter().zip(&rows[1].1) {
            assert!(good.exchange.response.starts_with("a good reply") && good.prompt_id == other.prompt_id);
            assert_ne!(good.exchange.response, other.exchange.response);
        }
        let sorted = |text: &str| {
            let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
            words.sort();
            words
        };
        let pairs: Vec<_> = rows[0].1.iter().zip(&rows[2].1).map(|(a, b)| (&a.exchange.response, &b.exchange.response)).collect();
        assert!(pairs.iter().all(|(good, mixed)| sorted(good) == sorted(mixed)) && pairs.iter().any(|(good, mixed)| good != mixed));
    }

    #[test]
    fn without_references_they_are_made_of_the_replies_and_a_handful_of_prompts_has_none() {
        let rows = sanity_rows(&replies(20, false), 1);
        assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), ["another prompt's reply", "shuffled words"]);
        assert!(rows[0].1.iter().all(|reply| reply.exchange.response.starts_with("own reply")));
        assert!(sanity_rows(&replies(9, true), 1).is_empty());
    }

    #[test]
    fn a_prompt_with_several_samples_counts_once() {
        let twice = [replies(12, true), replies(12, true)].concat();
        assert_eq!(sanity_rows(&twice, 1)[0].1.len(), 12);
    }
}
