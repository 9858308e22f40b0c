use crate::text::Text;

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

/// The share of a reply's word pairs that stand in what it answers; replies of fewer than four words copy nothing.
pub(crate) fn copied_share(source: &[&str], reply: &[&str]) -> f64 {
    if reply.len() < 4 {
        return 0.0;
    }
    let known: std::collections::HashSet<&[&str]> = source.windows(2).collect();
    let copied = reply.windows(2).filter(|pair| known.contains(pair)).count();
    copied as f64 / (reply.len() - 1) as f64
}

pub(crate) fn is_degenerate_text(prompt: &Text, reply: &Text) -> bool {
    let words: Vec<&str> = reply.words().collect();
    let source: Vec<&str> = prompt.words().collect();
    words.is_empty() || repeated_bigram_share(&words) > 0.5 || copied_share(&source, &words) >= 0.8
}

/// Whether a reply is no reply at all: empty, more than half of its word pairs repeated, or at least 0.8 of its word
/// pairs copied from `prompt` (the turn that it answers).
pub fn is_degenerate(prompt: &str, reply: &str) -> bool {
    is_degenerate_text(&Text::new(prompt), &Text::new(reply))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_looping_and_copied_replies_are_degenerate() {
        let prompt = "Do you know a good recipe for bread?";
        for reply in ["", " ... ", "bread and bread and bread and bread and", "do you know a good recipe for bread"] {
            assert!(is_degenerate(prompt, reply), "{reply:?}");
        }
        for reply in ["Yes.", "I know a good recipe for rolls, shall I send it to you?", "no no no"] {
            assert!(!is_degenerate(prompt, reply), "{reply:?}");
        }
    }
}
