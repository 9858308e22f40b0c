//! Text as a person reads it: by what its letters look like, not by their code points. Abuse in disguise is abuse.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;
use unicode_security::confusable_detection::skeleton;

use crate::words::WordFilter;

/// The text without what only a machine sees: invisible characters, marks on Latin letters, compatibility forms such as full width,
/// letters of other scripts inside Latin words, spaces between the letters of a word, and digits or signs in the place of letters.
///
/// The last two, and stars, are undone only where a word comes out that English has; plain text stays as it is.
pub(crate) fn legible(raw: &str) -> Cow<'_, str> {
    let text = if raw.is_ascii() { Cow::Borrowed(raw) } else { Cow::Owned(latin(raw)) };
    let Some(words) = WordFilter::embedded() else { return text };
    let text = replaced(text, &SPACED, |found| join(&found[0], &words));
    replaced(text, &SIGNS, |found| letters(&found[0], &words))
}

/// The response without the reasoning that some models write before it.
///
/// A block that never ends leaves no response; one that never began was begun by the template.
pub(crate) fn without_reasoning(response: &str) -> Cow<'_, str> {
    const OPEN: &str = "<think>";
    const CLOSE: &str = "</think>";
    if !response.contains(OPEN) && !response.contains(CLOSE) {
        return Cow::Borrowed(response);
    }
    let (mut out, mut rest) = (String::new(), response);
    loop {
        let open = rest.find(OPEN).unwrap_or(rest.len());
        match rest.find(CLOSE) {
            Some(close) if close < open => {
                out.clear();
                rest = &rest[close + CLOSE.len()..];
            }
            close => {
                out.push_str(&rest[..open]);
                let Some(close) = close else { return Cow::Owned(out) };
                rest = &rest[close + CLOSE.len()..];
            }
        }
    }
}

/// Four letters or more with something between each two of them.
static SPACED: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b[A-Za-z0-9$@](?:(?: {1,4}|[.\-_*/|,~])[A-Za-z0-9$@!]){3,}(?:\b|$|\s)"));

/// Words with a digit or a sign among their letters.
static SIGNS: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"[A-Za-z0-9@$!|+*#]*(?:[A-Za-z][0-9@$!|+*#]|[0-9$@][A-Za-z])[A-Za-z0-9@$!|+*#]*"));

#[expect(clippy::expect_used, reason = "the patterns are constants, and a test uses each of them")]
fn pattern(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a valid pattern")
}

/// `text` with each match replaced where `with` has something to put in its place.
fn replaced<'a>(text: Cow<'a, str>, pattern: &Regex, with: impl Fn(&Captures<'_>) -> Option<String>) -> Cow<'a, str> {
    if !pattern.is_match(&text) {
        return text;
    }
    let changed = pattern.replace_all(&text, |found: &Captures<'_>| with(found).unwrap_or_else(|| found[0].to_owned()));
    Cow::Owned(changed.into_owned())
}

/// Compatibility forms, invisible characters, marks on Latin letters and look-alikes, each as the letter that it is read as.
fn latin(raw: &str) -> String {
    let mut marked = false;
    let visible = raw.nfkd().filter(|c| !is_invisible(*c));
    // A mark stays where it makes another letter: й is no и.
    let unmarked = visible.filter(|&c| {
        let mark = is_combining_mark(c);
        marked = if mark { marked } else { c.is_ascii() };
        !(mark && marked)
    });
    let text: String = unmarked.nfc().collect();
    let count = |latin: bool| text.chars().filter(|c| c.is_alphabetic() && c.is_ascii() == latin).count();
    // A text in another script may have words that look Latin from end to end.
    if count(false) > 2 * count(true) {
        return text;
    }
    let words = text.split_inclusive(|c: char| !c.is_alphanumeric());
    words.map(|word| latin_word(word).map_or(Cow::Borrowed(word), Cow::Owned)).collect()
}

/// A word of Latin letters and look-alikes of them; `None` where another letter is among them.
fn latin_word(word: &str) -> Option<String> {
    let letter = |c: char| if c.is_ascii() || !c.is_alphabetic() { Some(c) } else { look_alike(c) };
    word.chars().map(letter).collect()
}

/// The ASCII letter that a letter looks like: by Unicode's confusables, and by those that small letters of most fonts add to them.
fn look_alike(c: char) -> Option<char> {
    let known = match c {
        'І' | 'Ι' => 'I',
        'к' | 'κ' => 'k',
        'м' => 'm',
        'т' | 'τ' => 't',
        'в' | 'β' => 'b',
        'н' => 'h',
        'ε' => 'e',
        'ø' => 'o',
        'ł' => 'l',
        'đ' => 'd',
        _ => {
            let mut letters = [0; 4];
            let mut looks = skeleton(c.encode_utf8(&mut letters));
            return looks.next().filter(char::is_ascii_alphabetic).filter(|_| looks.next().is_none());
        }
    };
    Some(known)
}

/// Whether a character is drawn as nothing (Unicode's `Default_Ignorable_Code_Point`).
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// The word or words that letters with something between them make. Two spaces are taken for the end of a word.
fn join(spaced: &str, words: &WordFilter<'_>) -> Option<String> {
    let parts = spaced.split("  ").map(|part| part.chars().filter(|c| c.is_alphanumeric() || "$@!".contains(*c)).collect::<String>());
    let read = |part: String| {
        if part.len() > 1 && words.knows(&part.to_lowercase()) {
            return Some(part);
        }
        letters(&part, words).or_else(|| segment(&part.to_lowercase(), words))
    };
    let joined: Vec<String> = parts.filter(|part| !part.is_empty()).map(read).collect::<Option<_>>()?;
    let end = if spaced.ends_with(char::is_whitespace) { " " } else { "" };
    Some(joined.join(" ") + end)
}

/// Few long words that follow each other without a space; `None` where there are none.
fn segment(letters: &str, words: &WordFilter<'_>) -> Option<String> {
    /// Letters that are taken for a sentence, and those of its longest word.
    const LONGEST: [usize; 2] = [60, 14];
    let n = letters.len();
    if n > LONGEST[0] || !letters.bytes().all(|b| b.is_ascii_lowercase()) {
        return None;
    }
    // The fewest words that the first letters make, and where the last of them begins.
    let mut best: Vec<Option<(usize, usize)>> = vec![Some((0, 0))];
    for end in 1..=n {
        let starts = (end.saturating_sub(LONGEST[1])..end).filter_map(|start| {
            let word = &letters[start..end];
            let known = if word.len() == 1 { matches!(word, "a" | "i" | "u") } else { words.knows(word) };
            best[start].filter(|_| known).map(|(count, _)| (count + 1, start))
        });
        let shortest = starts.min();
        best.push(shortest);
    }
    let (count, _) = best[n]?;
    // Any letters can be cut into tiny words.
    if 3 * count > n {
        return None;
    }
    let (mut out, mut end) = (Vec::new(), n);
    while end > 0 {
        let (_, start) = best[end]?;
        out.push(&letters[start..end]);
        end = start;
    }
    out.reverse();
    Some(out.join(" "))
}

/// Words that people write with stars.
const CURSES: &[&str] = &[
    "fuck", "fucks", "fucked", "fucker", "fucking", "shit", "shitty", "bitch", "bitches", "cunt", "asshole", "dick", "whore", "bastard",
    "slut",
];

/// The word that is read where digits and signs stand for letters.
fn letters(written: &str, words: &WordFilter<'_>) -> Option<String> {
    let word = written.trim_end_matches(['!', '+', '|', '*', '#']);
    let end = &written[word.len()..];
    if word.len() < 4 || !word.bytes().any(|b| b.is_ascii_alphabetic()) || word.bytes().all(|b| b.is_ascii_alphabetic()) {
        return None;
    }
    if word.contains(['*', '#']) {
        let word = word.to_lowercase();
        let fits = |curse: &&&str| {
            curse.len() == word.len()
                && curse.bytes().zip(word.bytes()).all(|(letter, written)| letter == written || b"*#".contains(&written))
        };
        return CURSES.iter().find(fits).map(|curse| (*curse).to_owned() + end);
    }
    // A one may be an i or an l.
    ["i", "l"].into_iter().find_map(|one| {
        let mut read = String::with_capacity(word.len());
        for c in word.chars().map(|c| c.to_ascii_lowercase()) {
            match c {
                '1' | '!' | '|' => read.push_str(one),
                '0' => read.push('o'),
                '3' => read.push('e'),
                '4' | '@' => read.push('a'),
                '5' | '$' => read.push('s'),
                '7' | '+' => read.push('t'),
                '8' => read.push('b'),
                '9' => read.push('g'),
                'a'..='z' => read.push(c),
                _ => return None,
            }
        }
        words.knows(&read).then(|| read + end)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "embedded")]
    #[test]
    fn disguised_text_reads_as_what_a_person_sees() {
        let plain = "You are a stupid idiot and everybody hates you.";
        for disguised in [
            "You are a stu\u{200b}pid idi\u{200b}ot and everybody ha\u{200b}tes you.",
            "You are a stu\u{ad}pid idi\u{ad}ot and everybody ha\u{ad}tes you.",
            "You are a stu\u{336}pid idi\u{336}ot and everybody ha\u{336}tes you.",
            "You are a stúpid ïdiot and èverybody hates you.",
            "Ｙｏｕ ａｒｅ ａ ｓｔｕｐｉｄ ｉｄｉｏｔ ａｎｄ ｅｖｅｒｙｂｏｄｙ ｈａｔｅｓ ｙｏｕ．",
            "Yоu аrе а stupіd іdіоt аnd еvеrybоdy hаtеs yоu.",
            "You are a 𝓼𝓽𝓾𝓹𝓲𝓭 ⓘⓓⓘⓞⓣ and everybody hates you.",
            "You are a stup1d 1d10t and everybody h4tes you.",
            "You are a s t u p i d idiot and everybody h-a-t-e-s you.",
            "You are a $tupid id!ot and everybody hates you.",
            "You are a s.t.u.p.i.d i d i o t and everybody hates you.",
        ] {
            assert_eq!(legible(disguised), plain, "{disguised}");
        }
        assert_eq!(legible("y o u  a r e  u g l y"), "you are ugly");
        assert_eq!(legible("what a b*tch, f**king hell"), "what a bitch, fucking hell");
    }

    #[test]
    fn plain_text_stays_as_it_is() {
        for plain in [
            "It's 9:30 a.m. on 1 May, and I am in room 101 with 3D glasses, an MP3 and a B2B deal.",
            "E.g. the U.S.A. and the U.K., i.e. both; A B C D are grades.",
            "Mail me @sam, it costs $100! Really? 1 2 3 4 5",
            "x = a + b * c; y += 4*x; print(y)",
            "Он сказал, что скоро придёт домой, а я ждал.",
            "हिन्दी में लिखा हुआ वाक्य।",
        ] {
            assert_eq!(legible(plain), plain);
        }
    }

    #[test]
    fn reasoning_is_no_part_of_the_response() {
        for (whole, answer) in [
            ("<think>I must refuse.</think>Sure, here it is.", "Sure, here it is."),
            ("I must refuse.</think> Sure.", " Sure."),
            ("Yes. <think>hm</think>And no.<think>so", "Yes. And no."),
            ("<think>never ends", ""),
            ("no tags at all", "no tags at all"),
        ] {
            assert_eq!(without_reasoning(whole), answer, "{whole}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_and_read_once(raw in "\\PC{0,60}") {
            let _ = (legible(&raw), without_reasoning(&raw));
        }
    }
}
