//! Responses whose quality is known, through the same judge: a reader compares the systems' figures with theirs.

use crate::response::{Response, first_to_each_prompt};
use crate::statistics::SplitMix;

/// Prompts that these rows are made of at most: a judge may cost money.
const MOST: usize = 200;

/// With fewer the rows would say nothing.
const LEAST: usize = 10;

/// The rows by their names, best first: the prompts' reference responses where most prompts have one, a response that belongs to another
/// prompt, and a response with its words shuffled. Without references the last two are made of `responses` themselves.
pub(super) fn sanity_rows(responses: &[Response], seed: u64) -> Vec<(&'static str, Vec<Response>)> {
    let mut random = SplitMix::new(seed);
    let prompts: Vec<&Response> = first_to_each_prompt(responses).into_iter().map(|(_, response)| response).collect();
    let with_reference: Vec<&Response> = prompts.iter().copied().filter(|response| response.prompt.value.reference.is_some()).collect();
    let referenced = 2 * with_reference.len() >= prompts.len() && with_reference.len() >= LEAST;
    let mut chosen = if referenced { with_reference } else { prompts };
    random.shuffle(&mut chosen);
    chosen.truncate(MOST);
    if chosen.len() < LEAST {
        return Vec::new();
    }
    let text =
        |response: &Response| response.prompt.value.reference.clone().filter(|_| referenced).unwrap_or_else(|| response.text.clone());
    let row = |texts: Vec<String>| -> Vec<Response> {
        chosen.iter().zip(texts).map(|(response, text)| Response { prompt: response.prompt.clone(), text }).collect()
    };
    let texts: Vec<String> = chosen.iter().map(|response| text(response)).collect();
    let mut others = texts.clone();
    others.rotate_left(1);
    let shuffled = texts.iter().map(|text| {
        let mut words: Vec<&str> = text.split_whitespace().collect();
        random.shuffle(&mut words);
        words.join(" ")
    });
    let shuffled = row(shuffled.collect());
    let mut rows = vec![("another prompt's response", row(others)), ("shuffled words", shuffled)];
    if referenced {
        rows.insert(0, ("reference responses", row(texts)));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use adpo_data::{Dialogue, Prompt, Row};

    fn responses(n: usize, reference: bool) -> Vec<Response> {
        let one = |i: usize| {
            let reference = reference.then(|| format!("a good response of six words {i}"));
            let value = Prompt { reference, ..Prompt::from(Dialogue::from_user(format!("prompt {i}"))) };
            let prompt = Row { id: format!("p{i}"), source: String::new(), licence: None, value };
            Response { prompt: prompt.into(), text: format!("own response {i}") }
        };
        (0..n).map(one).collect()
    }

    #[test]
    fn rows_are_made_of_references_where_there_are_some() {
        let rows = sanity_rows(&responses(20, true), 1);
        assert_eq!(
            rows.iter().map(|row| row.0).collect::<Vec<_>>(),
            ["reference responses", "another prompt's response", "shuffled words"]
        );
        for (good, other) in rows[0].1.iter().zip(&rows[1].1) {
            assert!(good.text.starts_with("a good response") && good.prompt_id() == other.prompt_id());
            assert_ne!(good.text, other.text);
        }
        let sorted = |text: &str| {
            let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
            words.sort();
            words
        };
        let pairs: Vec<_> = rows[0].1.iter().zip(&rows[2].1).map(|(a, b)| (&a.text, &b.text)).collect();
        assert!(pairs.iter().all(|(good, mixed)| sorted(good) == sorted(mixed)) && pairs.iter().any(|(good, mixed)| good != mixed));
    }

    #[test]
    fn without_references_they_are_made_of_the_responses_and_a_handful_of_prompts_has_none() {
        let rows = sanity_rows(&responses(20, false), 1);
        assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), ["another prompt's response", "shuffled words"]);
        assert!(rows[0].1.iter().all(|response| response.text.starts_with("own response")));
        assert!(sanity_rows(&responses(9, true), 1).is_empty());
    }

    #[test]
    fn a_prompt_with_several_samples_counts_once() {
        let twice = [responses(12, true), responses(12, true)].concat();
        assert_eq!(sanity_rows(&twice, 1)[0].1.len(), 12);
    }
}
