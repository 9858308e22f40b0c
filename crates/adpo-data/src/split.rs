//! Who may learn from what: one function that splits rows by their text, so that no text serves two purposes.

use sha1::{Digest, Sha1};

/// How many parts the rows are split into.
pub const BUCKETS: u8 = 6;

/// The part that a context or prompt belongs to: SHA-1 of the text, lower-cased and with runs of white space collapsed
/// to one space, read as a big-endian integer, modulo 6. Letter case and spacing never move a text.
///
/// ```
/// assert_eq!(adpo_data::bucket("Hello  there"), adpo_data::bucket(" hello\nTHERE "));
/// ```
pub fn bucket(text: &str) -> u8 {
    let lower = text.to_lowercase();
    let words: Vec<&str> = lower.split(is_space).filter(|word| !word.is_empty()).collect();
    let digest = Sha1::digest(words.join(" ").as_bytes());
    // Six divides no power of 256, so the remainder is carried from byte to byte.
    digest.iter().fold(0_u16, |remainder, byte| (remainder * 256 + u16::from(*byte)) % u16::from(BUCKETS)) as u8
}

/// Unicode white space and the four separators that Python's `str.split` also counts: the shared data were split there.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// What the rows of a bucket are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Use {
    /// Bucket 0: kept aside.
    Spare,
    /// Buckets 1 and 2: the policy's fine-tuning and pairs.
    PolicySft,
    /// Bucket 3: prompts that the policy answers.
    PolicyPrompts,
    /// Bucket 4: the evaluator learns from them; no policy may.
    EvaluatorTraining,
    /// Bucket 5: the evaluator is measured on them.
    EvaluatorValidation,
}

/// What the rows of `bucket` are for; `None` from 6 on.
pub fn use_of(bucket: u8) -> Option<Use> {
    match bucket {
        0 => Some(Use::Spare),
        1 | 2 => Some(Use::PolicySft),
        3 => Some(Use::PolicyPrompts),
        4 => Some(Use::EvaluatorTraining),
        5 => Some(Use::EvaluatorValidation),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn buckets_agree_with_python_s_hashlib() {
        // int(hashlib.sha1(" ".join(text.lower().split()).encode()).hexdigest(), 16) % 6
        for (text, expected) in
            [("", 1), ("Hi — quick one:", 5), ("HOW   long does\tpaint take to dry?\n", 3), ("Straße ÄÖÜ", 3), ("a\u{1c}b", 5)]
        {
            assert_eq!(bucket(text), expected, "{text:?}");
        }
    }

    #[test]
    fn case_and_spacing_never_let_a_text_serve_two_purposes() {
        let mut uses: BTreeMap<String, Use> = BTreeMap::new();
        let mut seen = [0_usize; BUCKETS as usize];
        for i in 0..3000 {
            let words = format!("request number {i} about Topic{}", i % 17);
            let variants = [words.clone(), words.to_uppercase(), words.replace(' ', " \t\n "), format!("  {words}\r\n")];
            for variant in variants {
                let found = use_of(bucket(&variant)).expect("a bucket below six");
                assert_eq!(*uses.entry(words.clone()).or_insert(found), found, "{variant:?}");
            }
            seen[usize::from(bucket(&words))] += 1;
        }
        assert!(seen.iter().all(|n| (400..600).contains(n)), "the parts are of about one size: {seen:?}");
    }
}
