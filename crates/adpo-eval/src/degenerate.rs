//! Degenerate responses: empty, looping, copied or gibberish. Every judge uses this one check.

use crate::legible::{legible, without_reasoning};
use crate::text::Text;
use crate::words::{Spelling, WordFilter};

/// The share of a text's word pairs that it has already used.
pub(crate) fn repeated_bigram_share(words: &[&str]) -> f64 {
    let pairs: Vec<[&str; 2]> = words.windows(2).map(|pair| [pair[0], pair[1]]).collect();
    if pairs.is_empty() {
        return 0.0;
    }
    let mut unique = pairs.clone();
    unique.sort_unstable();
    unique.dedup();
    1.0 - unique.len() as f64 / pairs.len() as f64
}

/// The share of a response's word pairs that stand in the turn it answers; responses of fewer than four words copy nothing.
pub(crate) fn copied_share(source: &[&str], response: &[&str]) -> f64 {
    if response.len() < 4 {
        return 0.0;
    }
    let known: std::collections::HashSet<&[&str]> = source.windows(2).collect();
    let copied = response.windows(2).filter(|pair| known.contains(pair)).count();
    copied as f64 / (response.len() - 1) as f64
}

/// [`is_degenerate`] of texts that are already cut into words; `raw` is the response with its own case and marks.
pub(crate) fn is_degenerate_text(prompt: &Text, response: &Text, raw: &str) -> bool {
    let words: Vec<&str> = response.words().collect();
    words.is_empty() || repeated_bigram_share(&words) > 0.5 || echoes(prompt, &words) || is_gibberish(raw)
}

/// Repeats the prompt; `I` and `you` count as one word.
fn echoes(prompt: &Text, words: &[&str]) -> bool {
    let source: Vec<&str> = prompt.words().map(speaker).collect();
    let response: Vec<&str> = words.iter().map(|word| speaker(word)).collect();
    copied_share(&source, &response) >= 0.8
}

/// One word for both speakers.
fn speaker(word: &str) -> &str {
    match word {
        "i" | "you" | "we" | "me" | "us" => "i",
        "my" | "your" | "our" => "my",
        "mine" | "yours" | "ours" => "mine",
        "am" | "are" => "am",
        "i'm" | "you're" | "we're" => "i'm",
        "i've" | "you've" | "we've" => "i've",
        "i'll" | "you'll" | "we'll" => "i'll",
        "myself" | "yourself" | "ourselves" => "myself",
        other => other,
    }
}

/// One word in ten is no English word, and it is no name that begins a sentence: that takes two.
fn is_gibberish(raw: &str) -> bool {
    let Some(words) = WordFilter::embedded().filter(|_| !is_code(raw)) else { return false };
    let Spelling { asked, unknown, no_name } = words.spelling(raw);
    (unknown >= 2 || no_name >= 1) && 10 * unknown >= asked
}

/// More marks of a programming language than prose has.
fn is_code(raw: &str) -> bool {
    let marks = raw.chars().filter(|c| "{}[]()<>=;_\\|`#+*&$".contains(*c)).count();
    marks >= 4 && 16 * marks >= raw.chars().count()
}

/// Whether a response is no response at all: empty, more than half of its word pairs repeated, at least 0.8 of its word pairs copied from
/// `prompt` (the turn that it answers; `I` and `you` count as one word), or a tenth of its words not English.
///
/// Words that a list cannot have do not count: names, numbers, other scripts, code. Responses in another language that is written in
/// Latin letters do. Builds without the feature `embedded` have no list and find no gibberish. [`crate::EmbeddedJudge`] also tells
/// words in no order that English has.
pub fn is_degenerate(prompt: &str, response: &str) -> bool {
    let response = legible(&without_reasoning(response)).into_owned();
    is_degenerate_text(&Text::new(prompt), &Text::new(&response), &response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_looping_and_copied_responses_are_degenerate() {
        let prompt = "Do you know a good recipe for bread?";
        let responses = [
            "",
            " ... ",
            "!?! !! ?",
            "bread and bread and bread and bread and",
            "bread bread bread bread bread",
            "do you know a good recipe for bread",
            "Yes, do you know a good recipe for bread?",
            "Do I know a good recipe for bread?",
        ];
        for response in responses {
            assert!(is_degenerate(prompt, response), "{response:?}");
        }
        for response in ["Yes.", "I know a good recipe for rolls, shall I send it to you?", "no no no", "I do not know a good one, sorry"] {
            assert!(!is_degenerate(prompt, response), "{response:?}");
        }
    }

    #[cfg(feature = "embedded")]
    #[test]
    fn what_is_not_made_of_words_is_degenerate() {
        let responses = [
            "xdmik tujh jje neztq rxicp jvaae",
            "asdf asdfgh jkl qwerty qwer tyui",
            "Thes ratt cown ber the thes mally of the stould.",
            "ths rply hs n vwls whtsvr",
            "youcanbakebreadathome withflourandwater",
        ];
        for response in responses {
            assert!(is_degenerate("Do you know a good recipe for bread?", response), "{response:?}");
        }
    }

    #[test]
    fn names_numbers_contractions_slang_other_scripts_and_code_are_not_gibberish() {
        let responses = [
            "Yes, Gwyneth Szymborska and Llewellyn Okonkwo-Brzezinski bake it in Ystradgynlais.",
            "Mix 500 g flour, 7 g yeast, 300 ml water; bake at 230 for 35 min.",
            "I'd've said that you shouldn't, but they're sure y'all could.",
            "yeah lol im gonna bake one tbh",
            "\u{6211}\u{4f1a}\u{505a}\u{9762}\u{5305}\u{3002}",
            "\u{414}\u{430}, \u{44f} \u{437}\u{43d}\u{430}\u{44e} \u{445}\u{43e}\u{440}\u{43e}\u{448}\u{438}\u{439} \u{440}\u{435}\u{446}\u{435}\u{43f}\u{442}.",
            "fn main() { let brd = bake(flr, wtr); println!(\"{brd}\"); }",
            "A sentence that was cut in the mid",
        ];
        for response in responses {
            assert!(!is_degenerate("Do you know a good recipe for bread?", response), "{response:?}");
        }
    }
}
