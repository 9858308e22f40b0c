//! Reads a verdict from what a model says, or gives the reason why there is none.

use serde::de::DeserializeOwned;

/// What an answer turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reading<T> {
    Verdict(T),
    Refused,
    Unparsed,
}

/// Reads the one verdict in an answer.
///
/// Prose and code fences around the object are let through, and so is a leading `<think>…</think>`. Everything in
/// braces must be a verdict, and all of them the same one: a draft, a quotation or a second opinion is `Unparsed`. Inside
/// the braces JSON is strict (no trailing commas, no comments, no key twice, no unknown key); the rest is up to `T`.
pub(super) fn read<T: DeserializeOwned + PartialEq>(answer: &str) -> Reading<T> {
    let Some(mut rest) = after_thinking(answer) else { return Reading::Unparsed };
    let mut verdict: Option<T> = None;
    while let Some(start) = rest.find(['{', '}']) {
        let mut objects = serde_json::Deserializer::from_str(&rest[start..]).into_iter::<T>();
        let Some(Ok(found)) = objects.next() else { return Reading::Unparsed };
        if verdict.as_ref().is_some_and(|earlier| *earlier != found) {
            return Reading::Unparsed;
        }
        verdict = Some(found);
        rest = &rest[start + objects.byte_offset()..];
    }
    match verdict {
        Some(verdict) => Reading::Verdict(verdict),
        None if opens_as_refusal(answer) => Reading::Refused,
        None => Reading::Unparsed,
    }
}

/// Reasoning models think aloud first; the verdict is what follows, and there is none where the thought never ends.
fn after_thinking(answer: &str) -> Option<&str> {
    let answer = answer.trim_start();
    match answer.strip_prefix("<think>") {
        Some(thought) => thought.split_once("</think>").map(|(_, verdict)| verdict),
        None => Some(answer),
    }
}

/// Characters in which a refusal shows itself; further on, the same words are about the response that is judged.
const OPENING: usize = 120;

fn opens_as_refusal(answer: &str) -> bool {
    let opening: String = answer.chars().take(OPENING).collect::<String>().to_lowercase().replace('’', "'");
    let signs = ["i cannot", "i can't", "i'm sorry", "i am sorry", "i won't", "i will not", "i'm not able", "i am not able", "i'm unable"];
    signs.iter().any(|sign| opening.contains(sign))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Mark {
        mark: u8,
    }

    fn mark(answer: &str) -> Option<u8> {
        match read::<Mark>(answer) {
            Reading::Verdict(Mark { mark }) => Some(mark),
            _ => None,
        }
    }

    #[test]
    fn fences_prose_thinking_and_repetition_around_one_object_are_let_through() {
        let answers = [
            "{\"mark\": 3}",
            "```json\n{\"mark\": 3}\n```",
            "```\n{\n  \"mark\": 3\n}\n```\n",
            "Sure! Here is the verdict: {\"mark\": 3}. I gave 3 of 5, not 4.",
            "<think>{\"mark\": 1} or rather 5?</think>\n{\"mark\": 3}",
            "{\"mark\": 3}\nAs JSON:\n```json\n{\"mark\":3}\n```",
        ];
        for answer in answers {
            assert_eq!(mark(answer), Some(3), "{answer}");
        }
    }

    #[test]
    fn whatever_needs_guessing_has_no_verdict() {
        let answers = [
            "",
            "mark: 3",
            "{\"mark\": 3} {\"mark\": 4}",
            "{\"mark\": 3",
            "{\"mark\": 3}}",
            "} {\"mark\": 3}",
            "{\"mark\": 3,}",
            "{'mark': 3}",
            "{\"mark\": \"3\"}",
            "{\"mark\": 3.0}",
            "{\"mark\": 3, \"mark\": 3}",
            "{\"mark\": 3, \"sure\": true}",
            "{\"verdict\": {\"mark\": 3}}",
            "{\"mark\": <1-5>}\n{\"mark\": 3}",
            "<think>it is {\"mark\": 3}",
        ];
        for answer in answers {
            assert_eq!(read::<Mark>(answer), Reading::Unparsed, "{answer}");
        }
    }

    #[test]
    fn a_refusal_opens_the_answer_and_comes_without_a_verdict() {
        assert_eq!(read::<Mark>("I’m sorry, but I can't grade this."), Reading::Refused);
        assert_eq!(mark("I'm sorry to say that this is bad: {\"mark\": 5}"), Some(5));
        let about_the_response = format!("{} The response says: I cannot do that.", "The dialogue is about the weather. ".repeat(5));
        assert_eq!(read::<Mark>(&about_the_response), Reading::Unparsed);
    }

    proptest::proptest! {
        #[test]
        fn any_text_can_be_read(answer in "[{}\"a-z:0-9 é<>/]{0,60}") {
            let _ = read::<Mark>(&answer);
        }
    }
}
