//! Responses that are not responses, and clumsy ones: what coherence is learnt against, and what makes the other heads
//! robust to the text of small models.

use std::collections::HashMap;

use crate::statistics::SplitMix;

/// Kinds of synthetic negatives, by name.
pub(crate) const KINDS: [&str; 9] = ["random", "shuffled", "repeated", "truncated", "copied", "dropped", "salad", "babble", "spelled"];

/// Letters before the next one in what is [`spelled`](Negatives::spelled).
const LETTERS: usize = 3;

/// Responses that spelling is learnt from: more would only make its words more real.
const SPELLERS: usize = 500;

/// Makes negatives out of real responses of one source.
pub(crate) struct Negatives<'a> {
    responses: &'a [&'a str],
    /// Third words after each pair of words, as they occur in `responses`.
    chain: HashMap<(&'a str, &'a str), Vec<&'a str>>,
    /// The letter after each few letters; none at the end of a response.
    letters: HashMap<[Option<char>; LETTERS], Vec<Option<char>>>,
}

impl<'a> Negatives<'a> {
    pub(crate) fn new(responses: &'a [&'a str]) -> Self {
        let mut chain: HashMap<_, Vec<_>> = HashMap::new();
        for response in responses {
            let words: Vec<&str> = response.split_whitespace().collect();
            for window in words.windows(3) {
                chain.entry((window[0], window[1])).or_default().push(window[2]);
            }
        }
        let mut letters: HashMap<_, Vec<_>> = HashMap::new();
        for response in responses.iter().step_by(responses.len().div_ceil(SPELLERS).max(1)) {
            let mut before = [None; LETTERS];
            for letter in response.chars().map(Some).chain([None]) {
                letters.entry(before).or_default().push(letter);
                before.rotate_left(1);
                before[LETTERS - 1] = letter;
            }
        }
        Self { responses, chain, letters }
    }

    fn any(&self, random: &mut SplitMix) -> &'a str {
        self.responses.get(random.below(self.responses.len())).copied().unwrap_or("")
    }

    /// A negative of kind `KINDS[kind]` in place of `response`; `None` where the response is too short for one.
    pub(crate) fn make(&self, kind: usize, request: &str, response: &str, random: &mut SplitMix) -> Option<String> {
        let mut words: Vec<&str> = response.split_whitespace().collect();
        let n = words.len();
        let made = match KINDS.get(kind).copied()? {
            "random" => self.any(random).to_owned(),
            "shuffled" if n >= 4 => {
                random.shuffle(&mut words);
                words.join(" ")
            }
            "repeated" if n >= 3 => repeat(&words, random),
            "truncated" if n >= 6 => {
                let keep = 2 + random.below(n * 2 / 3 - 1);
                let cut = words[..keep].join(" ");
                cut.trim_end_matches(|c: char| c.is_ascii_punctuation()).to_owned()
            }
            "copied" => copy(request, random)?,
            "dropped" if n >= 5 => {
                words.retain(|_| random.unit() > 0.3);
                words.join(" ")
            }
            "salad" => {
                let length = 4 + random.below(14);
                let word = |random: &mut SplitMix| {
                    let words: Vec<&str> = self.any(random).split_whitespace().collect();
                    words.get(random.below(words.len().max(1))).copied().unwrap_or("")
                };
                (0..length).map(|_| word(random)).collect::<Vec<_>>().join(" ")
            }
            "babble" => self.babble(random)?,
            "spelled" => self.spelled(response.len() + 20, random),
            _ => return None,
        };
        (!made.is_empty() && made != response).then_some(made)
    }

    /// What a character model says: letters that follow each other, words that mostly do not exist.
    fn spelled(&self, length: usize, random: &mut SplitMix) -> String {
        let (mut out, mut before) = (String::new(), [None; LETTERS]);
        while out.len() < length {
            let Some(next) = self.letters.get(&before) else { break };
            let Some(letter) = next[random.below(next.len())] else { break };
            out.push(letter);
            before.rotate_left(1);
            before[LETTERS - 1] = Some(letter);
        }
        out
    }

    /// What a second-order Markov chain says: locally sound, without a thought. A tiny language model's failure.
    fn babble(&self, random: &mut SplitMix) -> Option<String> {
        let words: Vec<&str> = self.any(random).split_whitespace().collect();
        let (&first, &second) = (words.first()?, words.get(1)?);
        let mut out = vec![first, second];
        let length = 5 + random.below(18);
        while out.len() < length {
            let last = (out[out.len() - 2], out[out.len() - 1]);
            let next = self.chain.get(&last)?;
            out.push(next[random.below(next.len())]);
            if out.last().is_some_and(|word| word.ends_with(['.', '?', '!'])) {
                let other = self.any(random);
                let mut opening = other.split_whitespace();
                out.extend(opening.next());
                out.extend(opening.next());
            }
        }
        Some(out.join(" "))
    }
}

fn repeat(words: &[&str], random: &mut SplitMix) -> String {
    let span = 1 + random.below(words.len().min(6));
    let start = random.below(words.len() - span + 1);
    let times = 2 + random.below(5);
    let mut out = words[..start + span].to_vec();
    for _ in 0..times {
        out.extend(&words[start..start + span]);
    }
    out.join(" ")
}

fn copy(request: &str, random: &mut SplitMix) -> Option<String> {
    let words: Vec<&str> = request.split_whitespace().collect();
    if words.len() < 4 {
        return None;
    }
    let start = random.below(words.len() / 3 + 1);
    let end = words.len() - random.below(words.len() / 4 + 1);
    let opening = ["", "", "Yes, ", "I think ", "Oh "][random.below(5)];
    Some(format!("{opening}{}", words[start..end.max(start + 1)].join(" ")))
}

/// A clumsy version of a text: words dropped, neighbours swapped, sometimes cut short.
pub(crate) fn clumsy(text: &str, random: &mut SplitMix) -> String {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    if words.len() < 4 {
        return text.to_owned();
    }
    let drop = 0.05 + 0.2 * random.unit();
    words.retain(|_| random.unit() > drop);
    if words.len() > 3 && random.unit() < 0.4 {
        let at = random.below(words.len() - 1);
        words.swap(at, at + 1);
    }
    if words.len() > 6 && random.unit() < 0.4 {
        words.truncate(words.len() / 2 + random.below(words.len() / 2));
    }
    if random.unit() < 0.3 {
        words.push("and");
        words.push("the");
    }
    words.join(" ")
}

/// Ways to write a text so that a person reads it and a list of words does not have it.
pub(crate) const DISGUISES: [&str; 6] = ["invisible", "struck out", "full width", "look-alikes", "digits", "spaced"];

/// A text in the disguise `DISGUISES[kind]`.
pub(crate) fn disguised(text: &str, kind: usize) -> String {
    const LOOKS: [(char, char); 9] =
        [('a', 'а'), ('e', 'е'), ('o', 'о'), ('i', 'і'), ('c', 'с'), ('p', 'р'), ('x', 'х'), ('y', 'у'), ('s', 'ѕ')];
    const DIGITS: [(char, char); 5] = [('a', '4'), ('e', '3'), ('i', '1'), ('o', '0'), ('s', '5')];
    let swapped = |table: &[(char, char)]| -> String {
        text.chars().map(|c| table.iter().find(|(from, _)| *from == c).map_or(c, |(_, to)| *to)).collect()
    };
    let inserted = |between: &str| -> String {
        let word = |word: &str| word.chars().map(|c| c.to_string()).collect::<Vec<_>>().join(between);
        let plain = |word: &&str| word.len() >= 4 && word.bytes().all(|b| b.is_ascii_alphabetic());
        let all = text.split_whitespace().map(|piece| Some(piece).filter(plain).map_or_else(|| piece.to_owned(), word));
        all.collect::<Vec<_>>().join(if between == " " { "  " } else { " " })
    };
    match DISGUISES[kind % DISGUISES.len()] {
        "invisible" => inserted("\u{200b}"),
        "struck out" => inserted("\u{336}"),
        "full width" => {
            text.chars().map(|c| if c.is_ascii_graphic() { char::from_u32(c as u32 + 0xfee0).unwrap_or(c) } else { c }).collect()
        }
        "look-alikes" => swapped(&LOOKS),
        "digits" => swapped(&DIGITS),
        _ => inserted(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_can_be_made_and_differs_from_the_response() {
        let responses = ["I like to swim in the sea every day.", "I like to read books. Do you like them too?"];
        let negatives = Negatives::new(&responses);
        let mut random = SplitMix::new(3);
        for (kind, name) in KINDS.iter().enumerate() {
            let made = (0..20).filter_map(|_| negatives.make(kind, "What do you like to do?", responses[0], &mut random));
            let made: Vec<String> = made.collect();
            assert!(!made.is_empty(), "{name}");
            assert!(made.iter().all(|text| text != responses[0]), "{name}");
        }
    }

    #[test]
    fn short_and_empty_texts_are_no_panic() {
        let negatives = Negatives::new(&[]);
        let mut random = SplitMix::new(3);
        for kind in 0..KINDS.len() {
            for text in ["", "a", "a b c"] {
                let _ = negatives.make(kind, text, text, &mut random);
            }
        }
        assert_eq!(clumsy("a b", &mut random), "a b");
    }
}
