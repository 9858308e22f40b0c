//! How text becomes tokens and hashed n-grams: one implementation for training and for scoring.
//!
//! Everything that the embedded heads see goes through [`Text`] and [`Grams`]. The hash is fixed here
//! (FNV-1a with a final mix), so weights stay valid whatever happens to the standard library's hasher.

use crate::identity;
use crate::legible::legible;

/// A text as a person reads it (see [`legible`]), lower-cased and cut into tokens.
///
/// Tokens are runs of letters and digits (with inner apostrophes) and the sentence marks `. , ! ?`.
/// Links and user names shrink to one token each; other symbols are dropped.
#[derive(Debug, Clone, Default)]
pub(crate) struct Text {
    buffer: String,
    /// Byte range in `buffer`, and whether the token is a sentence mark.
    tokens: Vec<(u32, u32, bool)>,
}

impl Text {
    pub(crate) fn new(raw: &str) -> Self {
        let raw = &*legible(raw);
        let mut text = Self { buffer: String::with_capacity(raw.len()), tokens: Vec::with_capacity(raw.len() / 4) };
        for piece in raw.split_whitespace() {
            if piece.starts_with("http") && piece.contains("://") {
                text.push("url", false);
            } else if piece.starts_with('@') && piece.len() > 1 {
                text.push("@user", false);
            } else if piece.starts_with("&#") {
                text.push("emoji", false);
            } else {
                text.push_piece(piece);
            }
        }
        text
    }

    fn push(&mut self, token: &str, mark: bool) {
        let start = self.buffer.len() as u32;
        self.buffer.push_str(token);
        self.tokens.push((start, self.buffer.len() as u32, mark));
    }

    fn push_piece(&mut self, piece: &str) {
        let mut start = self.buffer.len();
        for c in piece.chars() {
            match c {
                '’' | '‘' | '`' | '\'' => {
                    // Inside a word it belongs to the word; at its edge it is a quotation mark.
                    if self.buffer.len() > start {
                        self.buffer.push('\'');
                    }
                }
                c if c.is_alphanumeric() => self.buffer.extend(c.to_lowercase()),
                c => {
                    start = self.close_word(start);
                    if matches!(c, '.' | ',' | '!' | '?') {
                        let mut mark = [0; 4];
                        self.push(c.encode_utf8(&mut mark), true);
                        start = self.buffer.len();
                    }
                }
            }
        }
        self.close_word(start);
    }

    /// Ends the word that began at `start`; returns where the next one begins.
    fn close_word(&mut self, start: usize) -> usize {
        let mut end = self.buffer.len();
        while end > start && self.buffer.as_bytes()[end - 1] == b'\'' {
            end -= 1;
        }
        self.buffer.truncate(end);
        if end > start {
            self.tokens.push((start as u32, end as u32, false));
        }
        end
    }

    /// The text with each mention of a group of people put as one same word; `None` where it has none.
    ///
    /// Heads that read n-grams of it cannot tell the groups apart, so they cannot hold one against another.
    fn without_identities(&self) -> Option<Self> {
        if !self.tokens().any(identity::is_group) {
            return None;
        }
        let mut out = Self::default();
        let mut inside = false;
        for &token in &self.tokens {
            let text = self.slice(token);
            let group = identity::is_group(text);
            if !group {
                out.push(text, token.2);
            } else if !inside {
                out.push("groupname", false);
            }
            inside = group;
        }
        Some(out)
    }

    fn slice(&self, (start, end, _): (u32, u32, bool)) -> &str {
        &self.buffer[start as usize..end as usize]
    }

    /// All tokens in order, marks included.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = &str> + Clone {
        self.tokens.iter().map(|&token| self.slice(token))
    }

    /// The words, without sentence marks.
    pub(crate) fn words(&self) -> impl Iterator<Item = &str> + Clone {
        let words = self.tokens.iter().filter(|token| !token.2);
        words.map(|&token| self.slice(token))
    }

    /// The words of each sentence that has any.
    pub(crate) fn sentences(&self) -> impl Iterator<Item = Vec<&str>> {
        let ends = |token: &(u32, u32, bool)| token.2 && self.slice(*token) != ",";
        let sentences = self.tokens.split(ends);
        let words = sentences.map(|tokens| tokens.iter().filter(|token| !token.2).map(|&token| self.slice(token)).collect::<Vec<_>>());
        words.filter(|words| !words.is_empty())
    }

    pub(crate) fn count_words(&self) -> usize {
        self.tokens.iter().filter(|token| !token.2).count()
    }

    /// The text in passages of at least `words` words, each ending with a sentence where one ends soon enough.
    pub(crate) fn passages(&self, words: usize) -> Vec<Self> {
        let mut out = vec![Self::default()];
        let mut count = 0;
        for &token in &self.tokens {
            let text = self.slice(token);
            let ends = token.2 && text != ",";
            if let Some(passage) = out.last_mut() {
                passage.push(text, token.2);
            }
            count += usize::from(!token.2);
            if (ends && count >= words / 2) || count >= words {
                out.push(Self::default());
                count = 0;
            }
        }
        out.retain(|passage| passage.count_words() > 0);
        out
    }

    /// Whether the last token is `.`, `!` or `?`.
    pub(crate) fn ends_a_sentence(&self) -> bool {
        let last = self.tokens.last().map(|&token| self.slice(token));
        matches!(last, Some("." | "!" | "?"))
    }

    /// The words with one space around each, so that a phrase is found by `contains(" a phrase ")`.
    pub(crate) fn padded(&self) -> String {
        let mut out = String::with_capacity(self.buffer.len() * 5 / 4 + 2);
        out.push(' ');
        for word in self.words() {
            out.push_str(word);
            out.push(' ');
        }
        out
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// Spreads the bits of an FNV state over the whole word (the finaliser of MurmurHash3).
const fn mix(mut h: u64) -> u64 {
    h ^= h >> 33;
    h = h.wrapping_mul(0xff51_afd7_ed55_8ccd);
    h ^= h >> 33;
    h = h.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ (h >> 33)
}

/// The fixed hash of a token.
pub(crate) fn hash_token(token: &str) -> u64 {
    let step = |h: u64, byte: &u8| (h ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
    mix(token.as_bytes().iter().fold(FNV_OFFSET, step))
}

/// The hash of an ordered pair; `salt` keeps families of features apart.
pub(crate) const fn hash_pair(salt: u64, a: u64, b: u64) -> u64 {
    mix(a.rotate_left(21).wrapping_mul(FNV_PRIME) ^ b ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Hashed n-grams of one text, by family.
#[derive(Debug, Clone, Default)]
pub(crate) struct Grams {
    /// Tokens, sentence marks included.
    pub(crate) words: Vec<u64>,
    /// Adjacent tokens, with a start and an end mark, and pairs with one token between them.
    pub(crate) bigrams: Vec<u64>,
    /// Three adjacent tokens, with the start mark.
    pub(crate) trigrams: Vec<u64>,
    /// Runs of 3 to 5 characters inside `<word>`.
    pub(crate) chars: Vec<u64>,
}

const EDGE: u64 = 0x5bd1_e995;

impl Grams {
    pub(crate) fn new(text: &Text) -> Self {
        let masked = text.without_identities();
        let text = masked.as_ref().unwrap_or(text);
        let words: Vec<u64> = text.tokens().map(hash_token).collect();
        let mut edged = Vec::with_capacity(words.len() + 2);
        edged.push(EDGE);
        edged.extend_from_slice(&words);
        edged.push(EDGE + 1);
        let mut bigrams: Vec<u64> = Vec::with_capacity(2 * words.len());
        bigrams.extend(edged.windows(2).map(|w| hash_pair(2, w[0], w[1])));
        bigrams.extend(words.windows(3).map(|w| hash_pair(3, w[0], w[2])));
        let trigram = |w: &[u64]| hash_pair(4, hash_pair(2, w[0], w[1]), w[2]);
        let trigrams = edged.windows(3).map(trigram).collect();
        let mut chars = Vec::with_capacity(text.buffer.len() * 3);
        for word in text.words() {
            char_grams(word, &mut chars);
        }
        Self { words, bigrams, trigrams, chars }
    }
}

fn char_grams(word: &str, out: &mut Vec<u64>) {
    let ring = || std::iter::once('<').chain(word.chars()).chain(std::iter::once('>'));
    let mut rest = ring();
    loop {
        let mut h = FNV_OFFSET ^ 5;
        for (n, c) in rest.clone().take(5).enumerate() {
            h = (h ^ u64::from(u32::from(c))).wrapping_mul(FNV_PRIME);
            if n >= 2 {
                out.push(mix(h));
            }
        }
        if rest.next().is_none() {
            return;
        }
    }
}

/// Function words carry no topic: overlap measures leave them out.
pub(crate) fn is_function_word(word: &str) -> bool {
    const LIST: &[&str] = &[
        "a", "about", "all", "am", "an", "and", "any", "are", "as", "at", "be", "been", "but", "by", "can", "could", "did", "do", "does",
        "don't", "for", "from", "get", "go", "good", "had", "has", "have", "he", "her", "him", "his", "how", "i", "i'd", "i'll", "i'm",
        "i've", "if", "in", "is", "it", "it's", "its", "just", "know", "like", "me", "my", "no", "not", "of", "oh", "on", "one", "or",
        "our", "out", "really", "she", "so", "some", "than", "that", "that's", "the", "their", "them", "then", "there", "they", "think",
        "this", "to", "too", "up", "us", "very", "was", "we", "well", "were", "what", "when", "where", "which", "who", "why", "will",
        "with", "would", "yeah", "yes", "you", "you're", "your",
    ];
    LIST.binary_search(&word).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_keep_inner_apostrophes_and_sentence_marks() {
        let text = Text::new("I can’t -- 'really' can't, SIR! http://a.b/c @bob &#128514;");
        let tokens: Vec<_> = text.tokens().collect();
        assert_eq!(tokens, ["i", "can't", "really", "can't", ",", "sir", "!", "url", "@user", "emoji"]);
        assert_eq!(text.padded(), " i can't really can't sir url @user emoji ");
    }

    #[test]
    fn empty_and_symbol_only_texts_have_no_words() {
        for raw in ["", "   ", "---", "'''", "\u{200b}"] {
            assert_eq!(Text::new(raw).count_words(), 0, "{raw:?}");
        }
    }

    #[test]
    fn the_hash_never_changes() {
        // Committed weights are indexed by these values. FNV-1a of "hello" is a430d84680aabd0b before the final mix.
        assert_eq!(hash_token("hello"), 0xe9c5_62c0_fdb2_3244);
        assert_eq!(Grams::new(&Text::new("ab cd")).chars.len(), 3 + 3);
    }

    #[test]
    fn function_words_are_sorted_for_the_binary_search() {
        for word in ["a", "you're", "know", "don't", "your"] {
            assert!(is_function_word(word), "{word}");
        }
        assert!(!is_function_word("garden"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_can_be_tokenised(raw in "\\PC{0,80}") {
            let text = Text::new(&raw);
            let _ = (Grams::new(&text), text.padded());
        }
    }
}
