//! Which words English has: what tells letters in a row from words.

#[cfg(any(feature = "embedded", test))]
use xorf::FilterRef;
use xorf::{BinaryFuse8, BinaryFuse8Ref, DmaSerializable, Filter};

use crate::error::EvalError;
use crate::text::hash_token;

/// A set of word forms that answers "yes" for each of them, and for one other string in 256 (Graf & Lemire 2022).
pub(crate) struct WordFilter<'a>(BinaryFuse8Ref<'a>);

/// What people write in chats and word lists leave out.
const CHAT: &str = "ok okay yeah yep yup nope nah hmm hm mm mhm uh um ugh oh ooh aww aw wow whoa woah yay hey hi hiya bye lol lmao haha hahaha hehe xd omg \
    btw idk tbh imo thx pls plz u ur r im ive ill id dont cant wont didnt doesnt isnt wasnt arent couldnt shouldnt wouldnt havent hasnt thats whats \
    youre theyre gonna wanna gotta kinda sorta dunno lemme gimme outta cuz cause coz til tho thru tv tvs dvd cd pc ai app apps internet online offline \
    email emails blog blogs website websites smartphone smartphones laptop selfie selfies wifi podcast podcasts youtube google facebook twitter \
    instagram netflix emoji emojis texting meme memes covid alright ahh ah eh huh hun mr mrs ms dr st vs etc ie eg";

/// The file of a filter: what [`WordFilter::from_bytes`] reads. It holds the words of a list with one word a line and those of [`CHAT`].
///
/// # Errors
/// [`EvalError::Training`] if the list is empty or no filter can be made of it.
pub(crate) fn word_filter(list: &str) -> Result<Vec<u8>, EvalError> {
    let failed = |reason: &str| EvalError::Training { head: "words", reason: reason.to_owned() };
    if list.trim().is_empty() {
        return Err(failed("the word list is empty; give one with a word a line, such as Debian's /usr/share/dict/american-english-large"));
    }
    let listed = list.lines().map(|line| line.trim().to_lowercase());
    let mut hashes: Vec<u64> = listed.chain(CHAT.split_whitespace().map(str::to_owned)).map(|word| hash_token(base(&word))).collect();
    hashes.sort_unstable();
    hashes.dedup();
    let filter = BinaryFuse8::try_from(&hashes).map_err(failed)?;
    let mut bytes = vec![0; BinaryFuse8::DESCRIPTOR_LEN];
    filter.dma_copy_descriptor_to(&mut bytes);
    bytes.extend(filter.dma_fingerprints());
    Ok(bytes)
}

impl<'a> WordFilter<'a> {
    /// The words under `assets/`; none in a build without them.
    pub(crate) fn embedded() -> Option<WordFilter<'static>> {
        #[cfg(feature = "embedded")]
        return WordFilter::from_bytes(include_bytes!("../assets/words.bin"));
        #[cfg(not(feature = "embedded"))]
        None
    }

    /// A filter that was made by [`word_filter`]; `None` of a file that is too short to be one.
    #[cfg(any(feature = "embedded", test))]
    fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        let (descriptor, fingerprints) = bytes.split_at_checked(BinaryFuse8::DESCRIPTOR_LEN)?;
        Some(Self(BinaryFuse8Ref::from_dma(descriptor, fingerprints)))
    }

    /// Whether a lower-case word is one.
    pub(crate) fn knows(&self, word: &str) -> bool {
        self.0.contains(&hash_token(base(word)))
    }

    /// Which words of a text the filter does not have.
    ///
    /// Not asked are words that no list can be expected to have: names (capitals inside a sentence), abbreviations, words with digits or with
    /// letters beyond ASCII, user names, links, and words inside code.
    pub(crate) fn spelling(&self, text: &str) -> Spelling {
        let mut found = Spelling::default();
        let mut starts_a_sentence = true;
        for piece in text.split_whitespace() {
            let word = piece.trim_matches(|c: char| !c.is_alphanumeric());
            let name = !starts_a_sentence && word.starts_with(char::is_uppercase);
            starts_a_sentence = piece.ends_with(['.', '!', '?', ':', '"']);
            if word.is_empty() || name || piece.starts_with(['@', '#']) || piece.contains("://") {
                continue;
            }
            // Hyphens and slashes join words.
            for part in word.split(['-', '/', '\u{2013}', '\u{2014}', ',', '.', '!', '?']).filter(|part| !part.is_empty()) {
                let (lower_case, part) = (part.starts_with(char::is_lowercase), part.replace(['\u{2019}', '\u{2018}'], "'").to_lowercase());
                if part.chars().all(|c| c.is_ascii_alphabetic() || c == '\'') {
                    found.asked += 1;
                    if !self.knows(&part) {
                        found.unknown += 1;
                        found.no_name += usize::from(lower_case);
                    }
                }
            }
        }
        found
    }
}

/// How far a text is made of words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Spelling {
    /// Words that could be asked about.
    pub(crate) asked: usize,
    /// Those that are not known.
    pub(crate) unknown: usize,
    /// Those of the unknown in lower case: where a sentence begins, a capital may be a name's.
    pub(crate) no_name: usize,
}

/// A word without what contractions and possessives add.
fn base(word: &str) -> &str {
    word.split_once('\'').map_or(word, |(before, _)| if before.is_empty() { word } else { before })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_known_in_any_case_and_with_what_is_added_to_them() {
        let bytes = word_filter("kitten\nBed\nhide\nyou\n").expect("a filter");
        let words = WordFilter::from_bytes(&bytes).expect("its own bytes");
        let spelling = |asked, unknown, no_name| Spelling { asked, unknown, no_name };
        assert_eq!(words.spelling("Kitten, bed! You'll hide the kitten's bed?"), spelling(7, 1, 1));
        assert_eq!(words.spelling("Xqzt kitten gruvn-bed"), spelling(4, 2, 1));
    }

    #[test]
    fn names_numbers_other_scripts_and_code_are_not_asked_about() {
        let bytes = word_filter("i\nlive\nin\n").expect("a filter");
        let words = WordFilter::from_bytes(&bytes).expect("its own bytes");
        for text in [
            "I live in Llanfairpwll",
            "in 1984, 3rd",
            "\u{6211}\u{7231}\u{4f60}",
            "\u{43f}\u{440}\u{438}\u{432}\u{435}\u{442}",
            "@someone https://xqzt.example",
        ] {
            assert_eq!(words.spelling(text).unknown, 0, "{text}");
        }
    }

    #[test]
    fn a_list_without_words_is_an_error() {
        assert!(word_filter(" \n").is_err());
    }
}
