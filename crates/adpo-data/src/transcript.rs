//! Dialogues written as one text, the way HH-RLHF does (`\n\nHuman: … \n\nAssistant: …`) and as others do.
//!
//! A text is a transcript if its first words open a turn and a later line opens an answer. Whatever else mentions such words is
//! what a person wrote.

use crate::dialogue::{Dialogue, Role};

/// Opens a turn of the user in HH-RLHF.
pub(crate) const HUMAN: &str = "\n\nHuman:";

/// Opens a turn of the assistant in HH-RLHF.
pub(crate) const ASSISTANT: &str = "\n\nAssistant:";

/// What opens the turns of user and assistant.
const STYLES: [[&str; 2]; 6] = [
    ["Human:", "Assistant:"],
    ["User:", "Assistant:"],
    ["USER:", "ASSISTANT:"],
    ["### Instruction:", "### Response:"],
    ["### Human:", "### Assistant:"],
    ["### User:", "### Assistant:"],
];

/// Turns of a transcript, without the white space around each; `None` for any other text.
pub(crate) fn parse_transcript(text: &str) -> Option<Dialogue> {
    let opening = text.lines().find(|line| !line.trim().is_empty())?;
    let [user, assistant] = STYLES.into_iter().find(|[user, _]| opening.trim_start().starts_with(user))?;
    let indented = opening.starts_with(char::is_whitespace);
    let marker = |line: &'static str| move |text: &str| (if indented { text.trim_start() } else { text }).starts_with(line);
    let (opens_user, opens_assistant) = (marker(user), marker(assistant));
    let lines: Vec<&str> = text.lines().collect();
    let after_blank = |i: usize| i == 0 || lines[i - 1].trim().is_empty();
    let exact = text.starts_with(HUMAN);
    let answer = (0..lines.len()).find(|i| opens_assistant(lines[*i]) && (!exact || after_blank(*i)));
    // HH-RLHF's own opening is clear without an answer; anybody may begin a sentence with the others.
    if answer.is_none() && !exact {
        return None;
    }
    // Where blank lines part the turns, a line without one ahead of it is part of what is said.
    let apart = exact || answer.is_some_and(after_blank);
    let mut turns: Vec<(Role, Vec<&str>)> = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let role = match () {
            () if apart && !after_blank(i) => None,
            () if opens_user(line) => Some((Role::User, user)),
            () if opens_assistant(line) => Some((Role::Assistant, assistant)),
            () => None,
        };
        match role {
            Some((role, marker)) => turns.push((role, vec![&line[line.find(marker)? + marker.len()..]])),
            None => turns.last_mut().into_iter().for_each(|(_, said)| said.push(line)),
        }
    }
    Some(turns.into_iter().fold(Dialogue::default(), |dialogue, (role, said)| dialogue.with(role, said.join("\n").trim())))
}

/// The marker of a turn that a text opens, or answers at its end, though it is no transcript that can be parsed: an instruction ahead of
/// the first turn, or no answer.
pub(crate) fn unparsed_marker(text: &str) -> Option<&'static str> {
    let (first, last) = (text.trim_start(), text.trim_end());
    STYLES.into_iter().find_map(|[user, assistant]| {
        // People write "User: …" about somebody: of DiaSafety's contexts two open so.
        let opens = first.starts_with(user) && !user.eq_ignore_ascii_case("user:");
        // Vicuna's has it all on one line.
        let waits = last.ends_with(assistant) && last[..last.len() - assistant.len()].contains(user);
        (opens || waits).then_some(user)
    })
}

/// A transcript as HH-RLHF writes it.
pub(crate) fn as_hh(text: String) -> String {
    if text.starts_with(HUMAN) && !text.contains('\r') {
        return text;
    }
    let Some(dialogue) = parse_transcript(&text) else { return text };
    let marker = |role| if role == Role::User { HUMAN } else { ASSISTANT };
    dialogue.turns.iter().flat_map(|turn| [marker(turn.role), " ", &turn.content]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(text: &str) -> Option<Vec<String>> {
        parse_transcript(text).map(|dialogue| dialogue.turns.into_iter().map(|turn| turn.content).collect())
    }

    #[test]
    fn a_transcript_is_the_same_turns_however_it_was_copied() {
        let plain = "\n\nHuman: Soup?\n\nAssistant: Lentil.\n\nHuman: How\nis it made?\n\nAssistant:";
        let expected = Some(vec!["Soup?".into(), "Lentil.".into(), "How\nis it made?".into(), String::new()]);
        assert_eq!(turns(plain), expected);
        assert_eq!(turns(plain.trim()), expected);
        assert_eq!(turns(&format!(" {plain}")), expected);
        assert_eq!(turns(&plain.replace('\n', "\r\n")), expected);
        assert_eq!(turns(&plain.replace("\n\n", "\n")), expected);
        assert_eq!(turns(&plain.replace("\n\n", "\n\n  ")), expected);
        assert_eq!(turns(&plain.replace("Human:", "User:")), expected);
        assert_eq!(turns(&plain.replace("Human:", "### Instruction:").replace("Assistant:", "### Response:")), expected);
        assert_eq!(as_hh(plain.trim().to_owned()).trim_end(), plain);
    }

    #[test]
    fn what_only_mentions_speakers_is_no_transcript() {
        for text in [
            "What does 'Human:' mean?",
            "Which is better, \"User:\" or \"Assistant:\"?",
            "Go on with this.\nHuman: Hi\nAssistant: Hello",
            "Human beings: what are they?",
            "Assistant: is that a job?",
            "User: the worst name for a person.",
        ] {
            assert_eq!((turns(text), unparsed_marker(text)), (None, None), "{text}");
        }
    }

    #[test]
    fn blank_lines_part_turns_where_they_part_the_first_answer() {
        let text = "Human: Go on:\nHuman: Hi\n\nAssistant: Hello.\nHuman: Bye";
        assert_eq!(turns(text), Some(vec!["Go on:\nHuman: Hi".into(), "Hello.\nHuman: Bye".into()]));
    }

    #[test]
    fn a_turn_that_is_opened_and_never_answered_is_told() {
        assert_eq!(unparsed_marker("Human: Soup?"), Some("Human:"));
        assert_eq!(unparsed_marker("A chat between a person and a model. USER: Soup? ASSISTANT:"), Some("USER:"));
        assert_eq!(unparsed_marker("Below is a task.\n\n### Instruction:\nSoup?\n\n### Response:\n"), Some("### Instruction:"));
    }
}
