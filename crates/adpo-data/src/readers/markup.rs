//! Texts that hold more than one person said: a whole dialogue, or one that a chat template has written already. Trained on as one
//! turn they would be silently wrong, so a file with such a row is refused.

use super::parsed::Parsed;
use crate::dialogue::{Dialogue, Role};
use crate::transcript::{ASSISTANT, HUMAN, unparsed_marker};

/// What opens a turn in a chat template, and what shows, later on in the text, that it is one.
const TEMPLATES: [(&[&str], &[&str]); 13] = [
    (&["<|im_start|>"], &["<|im_end|>", "<|im_start|>assistant"]),
    (&["[INST]"], &["[/INST]"]),
    (&["<<SYS>>"], &["<</SYS>>"]),
    (&["<|start_header_id|>"], &["<|end_header_id|>"]),
    (&["<start_of_turn>"], &["<end_of_turn>", "<start_of_turn>model"]),
    (&["<|user|>", "<|system|>"], &["<|assistant|>", "<|end|>", "</s>", "<|endoftext|>"]),
    (&["<|START_OF_TURN_TOKEN|>"], &["<|END_OF_TURN_TOKEN|>"]),
    (&["<｜User｜>"], &["<｜Assistant｜>"]),
    (&["<<user>>", "<user>", "<<system>>"], &["<<assistant>>", "<assistant>"]),
    (&["<|start|>"], &["<|message|>"]),
    (&["<|header_start|>"], &["<|header_end|>"]),
    (&["<|start_of_role|>"], &["<|end_of_role|>"]),
    (&["GPT4 User:", "GPT4 Correct User:"], &["<|end_of_turn|>"]),
];

/// What may stand ahead of the first turn.
const OPENINGS: [&str; 7] =
    ["<s>", "<|begin_of_text|>", "<|endoftext|>", "<bos>", "<｜begin▁of▁sentence｜>", "<BOS_TOKEN>", "[gMASK]<sop>"];

/// Ends a response in a chat template.
const ENDINGS: [&str; 8] =
    ["</s>", "<|end_of_turn|>", "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|endoftext|>", "<|end|>", "<｜end▁of▁sentence｜>"];

/// The first text of a row that is no single turn: what is wrong and what to do.
pub(super) fn problem(parsed: &Parsed) -> Option<String> {
    let users = |dialogue: &Dialogue| {
        let mut users = dialogue.turns.iter().filter(|turn| turn.role == Role::User);
        users.find_map(|turn| in_prompt(&turn.content))
    };
    let said = |dialogue: &Dialogue| {
        let mut said = dialogue.turns.iter().filter(|turn| turn.role == Role::Assistant);
        said.find_map(|turn| in_response(&turn.content))
    };
    match parsed {
        Parsed::Prompt(prompt) => users(&prompt.dialogue),
        Parsed::Preference(pair) => {
            let responses = [Some(&pair.chosen), Some(&pair.rejected), pair.toxic.as_ref()];
            users(&pair.prompt).or_else(|| responses.into_iter().flatten().find_map(|text| in_response(text)))
        }
        Parsed::Sft(example) => users(&example.dialogue).or_else(|| said(&example.dialogue)),
        Parsed::Chat(dialogue) => users(dialogue),
        Parsed::Quickstart { request, .. } => in_prompt(request),
    }
}

fn in_prompt(text: &str) -> Option<String> {
    if let Some(marker) = rendered(text) {
        return Some(format!(
            "a prompt is written by a chat template already (`{marker}`), and would be written by one again; give the messages that it \
             was made of ([{{\"role\": \"user\", \"content\": \"…\"}}]), or the bare text"
        ));
    }
    if text.starts_with("[{") && ["role", "content"].iter().all(|key| text.contains(key)) {
        return Some("a prompt is a list of messages written as text; give the list itself, in JSONL or Parquet".into());
    }
    unparsed_marker(text).map(|marker| {
        format!(
            "a prompt holds `{marker}` and is no transcript whose turns are clear; give a list of messages \
             ([{{\"role\": \"user\", \"content\": \"…\"}}]), or the bare text without the names of the speakers"
        )
    })
}

fn in_response(text: &str) -> Option<String> {
    if text.trim_start().starts_with(HUMAN.trim_start()) && text.contains(ASSISTANT) {
        return Some(
            "a response is a whole dialogue (`Human: … Assistant: …`); give its last answer alone, or leave the column `prompt` out".into(),
        );
    }
    let end = ENDINGS.into_iter().find(|end| text.trim_end().ends_with(end) && (*end != "</s>" || !text.contains("<s>")))?;
    Some(format!("a response ends with `{end}`, which the chat template writes; strike it from all responses"))
}

/// The marker by which a text opens as a chat template does.
fn rendered(text: &str) -> Option<&'static str> {
    let mut text = text.trim_start();
    while let Some(rest) = OPENINGS.iter().find_map(|opening| text.strip_prefix(opening)) {
        text = rest.trim_start();
    }
    TEMPLATES.into_iter().find_map(|(starts, others)| {
        let (start, rest) = starts.iter().find_map(|start| text.strip_prefix(start).map(|rest| (*start, rest)))?;
        // The header's role or nothing, and a new line: no sentence about a marker goes on like this.
        let header = rest.lines().next().unwrap_or_default().trim();
        let opens = rest.contains('\n') && matches!(header, "" | "user" | "system" | "assistant");
        (opens || others.iter().any(|other| rest.contains(other))).then_some(start)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rendered_prompts_are_told_by_their_opening() {
        for text in [
            "<|im_start|>user\nSoup?<|im_end|>\n<|im_start|>assistant\n",
            "<|im_start|>user\nSoup?",
            "<s>[INST] Soup? [/INST]",
            "<s> [INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nSoup? [/INST]",
            "<|user|>\nSoup?</s>\n<|assistant|>\n",
            "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nSoup?<|eot_id|>",
            "<bos><start_of_turn>user\nSoup?<end_of_turn>\n<start_of_turn>model\n",
            "<<user>>\nHow do I mend it?</s>\n<<assistant>>\n",
            "<|start|>user<|message|>Soup?<|end|><|start|>assistant",
            "<|begin_of_text|><|header_start|>user<|header_end|>\n\nSoup?<|eot|>",
            "<|start_of_role|>user<|end_of_role|>Soup?<|end_of_text|>",
            "GPT4 Correct User: Soup?<|end_of_turn|>GPT4 Correct Assistant:",
        ] {
            assert!(in_prompt(text).is_some_and(|problem| problem.contains("chat template")), "{text}");
        }
    }

    #[test]
    fn questions_about_markers_are_plain_text() {
        for text in [
            "What does <|im_start|>user mean?",
            "<|im_start|> is which token in Qwen?",
            "[INST] opens a turn in which model?",
            "Where does [/INST] go?",
            "Why does my output end with <|eot_id|>",
            "<s>old</s> new",
            "[1, 2] is a list. What is its role?",
        ] {
            assert_eq!(in_prompt(text), None, "{text}");
        }
        assert_eq!(in_response("Use <s>this</s>"), None);
        assert!(in_response("Glue it.</s>").is_some());
        assert!(in_response("Human: Soup?\n\nAssistant: Lentil.").is_some());
        assert_eq!(in_response("Human beings say:\n\nAssistant: a job."), None);
    }
}
