//! A triple as the sequences that a model reads.

use adpo_data::{Content, EncodedTriple, ResponseRole, Sequence};

/// Which prompt a sequence's response follows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum PromptKind {
    Plain,
    /// The prompt with the control token, for the anchor `tox`.
    Toxic,
}

/// Of prompt and responses, whichever of them an objective looks at.
pub(crate) fn tokens(triple: &EncodedTriple) -> usize {
    triple.prompt.len() + triple.chosen.len() + triple.rejected.len() + triple.toxic.as_ref().map_or(0, Vec::len)
}

/// Prompt + response with exactly the response trained.
pub(crate) fn sequence(example: usize, triple: &EncodedTriple, role: ResponseRole, kind: PromptKind) -> Option<Sequence<'_>> {
    let response = match role {
        ResponseRole::Sft => None,
        ResponseRole::Chosen => Some(&triple.chosen),
        ResponseRole::Rejected => Some(&triple.rejected),
        ResponseRole::Toxic => triple.toxic.as_ref(),
    }?;
    let prompt = match kind {
        PromptKind::Plain => &triple.prompt,
        PromptKind::Toxic => triple.toxic_prompt.as_ref()?,
    };
    Some(Sequence { example, role, content: Content::Response { prompt, response } })
}

/// Tokens of one of its responses.
pub(crate) fn response_length(triple: &EncodedTriple, role: ResponseRole) -> usize {
    match role {
        ResponseRole::Chosen => triple.chosen.len(),
        ResponseRole::Rejected => triple.rejected.len(),
        ResponseRole::Toxic => triple.toxic.as_ref().map_or(0, Vec::len),
        ResponseRole::Sft => 0,
    }
}
