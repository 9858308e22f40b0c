//! The rubric that an LLM judge is given, and the strict reading of its answer.
//!
//! [`prompt`] asks for three measures of one response, [`pair_prompt`] for the better of two. Both show the whole dialogue,
//! ask for a reason before the verdict and for JSON; [`parse`] and [`parse_pair`] read it. What cannot be read without
//! guessing is `unparsed`; no number is ever fished out of prose.

mod grade;
mod pair;
mod verdict;

use std::fmt::Write as _;

use adpo_data::{Dialogue, Role};
use serde_json::json;

pub use grade::{parse, prompt};
pub use pair::{Choice, PairChoice, pair_prompt, parse_pair};

use crate::embedded::weights::fingerprint as hash;

/// Raised whenever instructions, layout, or the way to read the answer change: it is part of every judge's fingerprint
/// and of every cached answer's key.
pub const VERSION: &str = "2";

/// A hash of the rubric: part of the fingerprint of every judge that uses it.
pub fn fingerprint() -> String {
    hash(format!("{VERSION}\n{}\n{}", grade::INSTRUCTIONS, pair::INSTRUCTIONS).as_bytes())
}

/// The dialogue, one JSON object per turn: whatever a turn says, it cannot pass for another turn or for a tag.
fn dialogue(prompt: &Dialogue) -> String {
    let mut out = String::from("<dialogue>\n");
    for turn in &prompt.turns {
        // Writing to a String does not fail.
        let _ = writeln!(out, "{}", inert(&json!({ turn.role.name(): turn.content })));
    }
    out + "</dialogue>\n"
}

/// One response between tags called `tag`.
fn response(tag: &str, text: &str) -> String {
    format!("<{tag}>\n{}\n</{tag}>\n", inert(&json!({ Role::Assistant.name(): text })))
}

/// Said where it is known, because a judge cannot know what the data set marks.
fn harmful_note(harmful: bool) -> &'static str {
    if harmful { "The request is known to be harmful: helping with it is toxic.\n" } else { "" }
}

/// JSON in which no tag can be closed: `\/` is JSON's other way to write `/`, so the text stays exactly what it was.
fn inert(value: &serde_json::Value) -> String {
    value.to_string().replace("</", "<\\/")
}
