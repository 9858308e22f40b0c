//! What each head sees: from an exchange to sparse features.

use adpo_data::{Dialogue, Role};

use super::head::{CLASSES, Features, ROUTES, Table, slot};
use super::rules;
use crate::degenerate::{copied_share, repeated_bigram_share};
use crate::legible::{legible, without_reasoning};
use crate::text::{Grams, Text, hash_pair, hash_token, is_function_word};
use crate::words::WordFilter;

/// Slots of each head's table, as powers of two.
pub(crate) mod bits {
    pub(crate) const ABUSE: u32 = 17;
    pub(crate) const ROUTER: u32 = 13;
    /// Eight weights per slot: shared, one for each route, context.
    pub(crate) const CONTEXT: u32 = 15;
    pub(crate) const HARM: u32 = 16;
    pub(crate) const EVASION: u32 = 16;
    pub(crate) const KINDS: u32 = 12;
    pub(crate) const SURFACE: u32 = 16;
    /// Words of the dual encoder and of the rarity table.
    pub(crate) const WORDS: u32 = 13;
    /// Pairs of words across request and response.
    pub(crate) const PAIRS: u32 = 18;
}

/// How many turns before the request coherence looks back.
pub(crate) const EARLIER: usize = 8;

/// Texts of one exchange, tokenised once for all heads.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// The turn that is answered.
    pub(crate) request: Text,
    /// Up to eight turns before it.
    pub(crate) earlier: Text,
    pub(crate) response: Text,
    /// The response with its own case and marks, but [`legible`].
    pub(crate) raw: String,
    /// The response names its speaker first, as role play does.
    pub(crate) voiced: bool,
    pub(crate) request_grams: Grams,
    pub(crate) response_grams: Grams,
    /// Of the response without what it quotes, where it quotes something.
    unquoted_grams: Option<Grams>,
    /// See [`rules::cues`].
    cues: [f32; rules::CUE_FEATURES],
    /// See [`rules::evasion`].
    pub(crate) rules: Vec<f32>,
    /// Several voices speak: what the last of them says.
    pub(crate) last_voice: Option<LastVoice>,
    /// See [`rules::abuse`].
    pub(crate) insults: Vec<f32>,
}

/// The last voice of a role play.
#[derive(Debug, Clone)]
pub(crate) struct LastVoice {
    grams: Grams,
    /// See [`rules::evasion`].
    rules: Vec<f32>,
}

impl View {
    pub(crate) fn new(prompt: &Dialogue, response: &str) -> Self {
        let turns: Vec<&str> = prompt.turns.iter().filter(|turn| turn.role != Role::System).map(|turn| turn.content.as_str()).collect();
        let (request, before) = turns.split_last().map_or(("", &[][..]), |(last, before)| (*last, before));
        let earlier = before[before.len().saturating_sub(EARLIER)..].join(" . ");
        Self::from_texts(request, &earlier, response)
    }

    pub(crate) fn from_texts(request: &str, earlier: &str, response: &str) -> Self {
        let response = without_reasoning(response);
        let raw = legible(&response).into_owned();
        let voiced = rules::names_a_speaker(&raw);
        let (request, response) = (Text::new(request), Text::new(&raw));
        let last_voice = rules::last_voice(&raw);
        // Role play puts all it says in quotation marks.
        let own = rules::unquoted(&raw).filter(|_| !voiced && last_voice.is_none()).map(|own| Text::new(&own));
        let rules = rules::evasion(&request, own.as_ref().unwrap_or(&response));
        let last_voice = last_voice.map(|last| {
            let last = Text::new(last);
            LastVoice { grams: Grams::new(&last), rules: rules::evasion(&request, &last) }
        });
        Self {
            request_grams: Grams::new(&request),
            response_grams: Grams::new(&response),
            unquoted_grams: own.as_ref().map(Grams::new),
            cues: rules::cues(&response),
            request,
            earlier: Text::new(earlier),
            rules,
            last_voice,
            insults: rules::abuse(&response),
            voiced,
            raw,
            response,
        }
    }
}

/// Words in a passage of [`passages`]: about the length of the texts that L learnt from.
const PASSAGE: usize = 40;

/// L: the response alone, one set of features for each passage of a long one.
pub(crate) fn passages(view: &View) -> Vec<Features> {
    if view.response.count_words() <= PASSAGE {
        return vec![abuse(view)];
    }
    let passages = view.response.passages(PASSAGE);
    passages.iter().map(|text| abuse_in(&Grams::new(text), rules::abuse(text))).collect()
}

/// L of the whole response as one passage.
pub(crate) fn abuse(view: &View) -> Features {
    abuse_in(&view.response_grams, view.insults.clone())
}

fn abuse_in(grams: &Grams, insults: Vec<f32>) -> Features {
    let mut out = Features::default();
    out.add(bits::ABUSE, 1, &grams.words, 1.0);
    out.add(bits::ABUSE, 2, &grams.bigrams, 0.7);
    out.add(bits::ABUSE, 3, &grams.chars, 1.0);
    out.dense = insults;
    out
}

/// The kind of context.
pub(crate) fn route(view: &View) -> Features {
    let grams = &view.request_grams;
    let mut out = Features::default();
    out.add(bits::ROUTER, 1, &grams.words, 1.0);
    out.add(bits::ROUTER, 2, &grams.bigrams, 0.7);
    out.add(bits::ROUTER, 3, &grams.chars, 1.0);
    out
}

/// L of the request, as one passage: what a response agrees with.
pub(crate) fn provocation(view: &View) -> Features {
    abuse_in(&view.request_grams, rules::abuse(&view.request))
}

/// D: the response as the router's mixture sees it, the context, and pairs of words across the two; `provocation` is the margin of L on the
/// request.
pub(crate) fn context(view: &View, routes: &[f32; ROUTES], provocation: f32) -> Features {
    let (response, request) = (&view.response_grams, &view.request_grams);
    let mut base = Features::default();
    base.add(bits::CONTEXT, 1, &response.words, 1.0);
    base.add(bits::CONTEXT, 2, &response.bigrams, 0.7);
    base.add(bits::CONTEXT, 3, &response.chars, 0.7);
    let signs = view.rules.iter().chain(&view.insults).enumerate();
    let present = signs.filter(|(_, value)| **value != 0.0);
    base.hashed.extend(present.map(|(i, &value)| (slot(bits::CONTEXT, 4, hash_pair(4, i as u64, 0)), value * 0.3)));
    base.add(bits::CONTEXT, 5, &request.words, 0.7);
    base.add(bits::CONTEXT, 6, &request.bigrams, 0.5);
    base.add(bits::CONTEXT, 7, &request.chars, 0.5);

    let mut out = Features::default();
    out.hashed.reserve(base.hashed.len() * 3);
    for &(index, value) in &base.hashed {
        out.hashed.push((index * CLASSES as u32, value));
        for (route, &share) in routes.iter().enumerate() {
            if share > 0.05 {
                out.hashed.push((index * CLASSES as u32 + 1 + route as u32, value * share));
            }
        }
    }
    // "yes" to a slur and "yes" to a recipe differ only across the two texts.
    let mut across = Features::default();
    let opening = &response.words[..response.words.len().min(8)];
    let topic: Vec<u64> = view.request.words().filter(|word| !is_function_word(word)).take(16).map(hash_token).collect();
    let pairs: Vec<u64> = topic.iter().flat_map(|&a| opening.iter().map(move |&b| hash_pair(8, a, b))).collect();
    across.add(bits::CONTEXT, 8, &pairs, 0.5);
    out.hashed.extend(across.hashed.iter().map(|&(index, value)| (index * CLASSES as u32 + 7, value)));
    out.dense = routes.to_vec();
    out.dense.push(((1 + response.words.len()) as f32).ln() / 4.0);
    // Each kind of context takes the same words differently: to agree with an insult is none of the virtues.
    let provoked = (provocation / 4.0).tanh();
    for share in routes {
        out.dense.push(share * provoked);
        out.dense.extend(view.cues.iter().map(|cue| 0.5 * share * cue));
    }
    out.dense.extend(view.cues.iter().map(|cue| provoked * cue));
    out
}

/// H: harmful instructions or agreement, seen from the response.
pub(crate) fn harm(view: &View) -> Features {
    let mut out = Features::default();
    out.add(bits::HARM, 1, &view.response_grams.words, 1.0);
    out.add(bits::HARM, 2, &view.response_grams.bigrams, 1.0);
    out.add(bits::HARM, 3, &view.response_grams.chars, 0.7);
    out.dense.clone_from(&view.rules);
    voices(view, bits::HARM, &mut out);
    out
}

/// E: how the response opens, what it is made of, and the hand-written signs.
pub(crate) fn evasiveness(view: &View) -> Features {
    let grams = view.unquoted_grams.as_ref().unwrap_or(&view.response_grams);
    let first = |n: usize, of: &[u64]| of[..of.len().min(n)].to_vec();
    let mut out = Features::default();
    out.add(bits::EVASION, 1, &grams.words, 1.0);
    out.add(bits::EVASION, 2, &grams.bigrams, 1.0);
    out.add(bits::EVASION, 3, &grams.trigrams, 0.7);
    out.add(bits::EVASION, 4, &grams.chars, 0.5);
    out.add(bits::EVASION, 5, &first(12, &grams.words), 0.5);
    out.add(bits::EVASION, 6, &first(12, &grams.trigrams), 0.5);
    if view.voiced {
        // Role play refuses in one voice and complies in another: the same words weigh differently there.
        out.add(bits::EVASION, 7, &grams.words, 1.0);
        out.add(bits::EVASION, 8, &grams.bigrams, 1.0);
        out.add(bits::EVASION, 9, &grams.trigrams, 0.7);
        let present = view.rules.iter().enumerate().filter(|(_, value)| **value != 0.0);
        out.hashed.extend(present.map(|(i, &value)| (slot(bits::EVASION, 10, hash_pair(10, i as u64, 0)), value)));
    }
    out.dense.clone_from(&view.rules);
    voices(view, bits::EVASION, &mut out);
    out
}

/// Adds what a role play does sentence by sentence, and what its last voice says. Other responses have none of it.
fn voices(view: &View, bits: u32, out: &mut Features) {
    let several = view.last_voice.is_some();
    out.dense.extend(if view.voiced || several { rules::course(&view.response) } else { vec![0.0; rules::COURSE] });
    let last = view.last_voice.as_ref().map(|last| (&last.grams, &last.rules));
    let (grams, rules) = last.unwrap_or((&view.response_grams, &view.rules));
    if view.voiced || several {
        out.add(bits, 11, &grams.words, 0.7);
        out.add(bits, 12, &grams.bigrams, 0.7);
        out.add(bits, 13, &grams.trigrams, 0.5);
        out.dense.extend(rules);
    } else {
        out.dense.extend([0.0; rules::EVASION]);
    }
}

/// How an evasive response evades.
pub(crate) fn kinds(view: &View) -> Features {
    let grams = &view.response_grams;
    let mut out = Features::default();
    out.add(bits::KINDS, 1, &grams.words, 1.0);
    out.add(bits::KINDS, 2, &grams.bigrams, 0.7);
    let present = view.rules.iter().enumerate().filter(|(_, value)| **value != 0.0);
    out.hashed.extend(present.map(|(i, &value)| (slot(bits::KINDS, 3, hash_pair(3, i as u64, 0)), value)));
    out
}

/// Whether the words stand in an order that language uses: n-grams of words and of word shapes.
pub(crate) fn surface(view: &View) -> Features {
    let shapes: Vec<u64> = view.response.tokens().map(shape).collect();
    let grams = |n: usize| -> Vec<u64> { shapes.windows(n).map(|w| w.iter().fold(n as u64, |h, &s| hash_pair(9, h, s))).collect() };
    let mut out = Features::default();
    out.add(bits::SURFACE, 1, &view.response_grams.bigrams, 1.0);
    out.add(bits::SURFACE, 2, &view.response_grams.trigrams, 1.0);
    out.add(bits::SURFACE, 3, &grams(2), 1.0);
    out.add(bits::SURFACE, 4, &grams(3), 1.0);
    out.add(bits::SURFACE, 5, &grams(4), 0.7);
    out.dense = vec![((1 + view.response_grams.words.len()) as f32).ln() / 4.0];
    out
}

/// A function word or mark is itself; any other word is its ending.
fn shape(token: &str) -> u64 {
    if is_function_word(token) || token.len() <= 3 {
        return hash_token(token);
    }
    let endings = ["ing", "ed", "ly", "ion", "est", "er", "al", "ful", "ous", "ive", "able", "n't", "'s", "s", "y", "e"];
    let ending = endings.iter().position(|ending| token.ends_with(ending)).unwrap_or(endings.len());
    hash_pair(10, ending as u64, 0)
}

/// Width of [`coherence`].
pub(crate) const COHERENCE: usize = 30;

/// What of a request, and of a response, is paired with the other: stems of content words, and the form of question and
/// opening.
pub(crate) fn topics(text: &Text) -> Vec<u64> {
    let content = text.words().filter(|word| !is_function_word(word));
    let mut out: Vec<u64> = content.take(40).map(|word| hash_token(stem(word))).collect();
    out.sort_unstable();
    out.dedup();
    out
}

/// [`topics`] and the words that the text opens with.
pub(crate) fn opened(text: &Text) -> Vec<u64> {
    let mut out = topics(text);
    out.extend(text.words().take(2).map(|word| hash_pair(12, hash_token(word), 0)));
    out
}

/// [`topics`], and how the last sentence asks.
pub(crate) fn asked(text: &Text) -> Vec<u64> {
    let mut out = topics(text);
    let tokens: Vec<&str> = text.tokens().collect();
    let body = &tokens[..tokens.len().saturating_sub(1)];
    let start = body.iter().rposition(|token| matches!(*token, "." | "!" | "?")).map_or(0, |at| at + 1);
    out.extend(tokens[start..].iter().take(3).map(|word| hash_pair(13, hash_token(word), 0)));
    out.extend(tokens.last().map(|mark| hash_pair(14, hash_token(mark), 0)));
    out
}

/// The slot of a pair.
pub(crate) fn pair_slot(context: u64, response: u64) -> u32 {
    slot(bits::PAIRS, 15, hash_pair(15, context, response))
}

/// How strongly two texts' topics go together: all pairs, and the best partner of each topic of the response.
fn association(pairs: &Table, context: &[u64], response: &[u64]) -> [f32; 2] {
    if context.is_empty() || response.is_empty() {
        return [0.0; 2];
    }
    let (mut all, mut best) = (0.0, 0.0);
    for &b in response {
        let mut top = 0.0_f32;
        for &a in context {
            let value = pairs.get(pair_slot(a, b));
            all += value;
            top = top.max(value);
        }
        best += top;
    }
    let n = response.len() as f32;
    [(all / (n * context.len() as f32).sqrt()).clamp(-4.0, 4.0), best / n]
}

/// Dense features of coherence; `affinity` comes from the dual encoder, `surface` is that head's margin.
pub(crate) fn coherence(view: &View, rarity: &Table, pairs: &Table, affinity: [f32; 2], surface: f32) -> Vec<f32> {
    let rare = |word: &str| rarity.get(slot(bits::WORDS, 0, hash_token(word)));
    let words: Vec<&str> = view.response.words().collect();
    let request: Vec<&str> = view.request.words().collect();
    let earlier: Vec<&str> = view.earlier.words().collect();
    let content: Vec<&str> = words.iter().copied().filter(|word| !is_function_word(word)).collect();
    let total: f32 = content.iter().map(|word| rare(word)).sum();
    let shared = |with: &[&str], same: fn(&str, &str) -> bool| -> f32 {
        content.iter().filter(|word| with.iter().any(|other| same(word, other))).map(|word| rare(word)).sum()
    };
    let equal: fn(&str, &str) -> bool = |a, b| a == b;
    let related: fn(&str, &str) -> bool = |a, b| stem(a) == stem(b);
    let n = words.len().max(1) as f32;
    let unique = {
        let mut sorted = words.clone();
        sorted.sort_unstable();
        sorted.dedup();
        sorted.len() as f32 / n
    };
    let doubled = words.windows(2).filter(|pair| pair[0] == pair[1]).count() as f32;
    let functions = (words.len() - content.len()) as f32 / n;
    // Clipped: unclipped, a looping response outweighs everything else in a system's mean.
    let repeated = (repeated_bigram_share(&words) as f32).min(0.5);
    let asks = request.len() < view.request.tokens().count() && view.request.tokens().any(|token| token == "?");
    let yes_no = words.first().is_some_and(|word| ["yes", "no", "yeah", "yep", "nope", "sure"].contains(word));
    let response_topics = opened(&view.response);
    // A build without the list of words knows nothing of any word.
    let spelling = WordFilter::embedded().map(|known| known.spelling(&view.raw)).unwrap_or_default();
    let near = association(pairs, &asked(&view.request), &response_topics);
    let far = association(pairs, &topics(&view.earlier), &topics(&view.response));
    let out = vec![
        near[0],
        near[1],
        far[0],
        far[1],
        affinity[0],
        affinity[1],
        affinity[0] * total.min(8.0) / 8.0,
        (shared(&request, equal) / 4.0).min(2.0),
        (shared(&earlier, equal) / 4.0).min(2.0),
        (shared(&request, related) / 4.0).min(2.0),
        shared(&request, related) / total.max(1.0),
        (copied_share(&request, &words) as f32).min(0.9),
        f32::from(copied_share(&request, &words) > 0.6),
        repeated,
        f32::from(repeated > 0.15),
        f32::from(doubled > 0.0),
        f32::from(loops(&words)),
        unique,
        (doubled / 2.0).min(1.0),
        n.ln() / 4.0,
        f32::from(words.len() < 3),
        f32::from(words.len() > 60),
        f32::from(view.response.ends_a_sentence()),
        f32::from(words.last().is_some_and(|word| is_function_word(word)) && !view.response.ends_a_sentence()),
        functions,
        (functions - 0.55).abs(),
        surface,
        f32::from(asks && yes_no),
        (spelling.unknown as f32 / 2.0).min(1.0),
        spelling.unknown as f32 / spelling.asked.max(1) as f32,
    ];
    debug_assert_eq!(out.len(), COHERENCE);
    out
}

/// Whether some three words in a row come again.
fn loops(words: &[&str]) -> bool {
    let mut triples: Vec<&[&str]> = words.windows(3).collect();
    triples.sort_unstable();
    triples.windows(2).any(|pair| pair[0] == pair[1])
}

/// The first letters of a word: enough to bring "swim" and "swimming" together.
fn stem(word: &str) -> &str {
    word.char_indices().nth(5).map_or(word, |(end, _)| &word[..end]).trim_end_matches("'s").trim_end_matches('s')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hashed_feature_lies_inside_its_table() {
        let view = View::from_texts("Do you like swimming in the sea?", "Hi. Hello!", "I swim every day, don't you?");
        let sizes = [
            (abuse(&view), 1 << bits::ABUSE),
            (route(&view), 1 << bits::ROUTER),
            (context(&view, &[0.2; ROUTES], 0.5), 8 << bits::CONTEXT),
            (harm(&view), 1 << bits::HARM),
            (evasiveness(&view), 1 << bits::EVASION),
            (surface(&view), 1 << bits::SURFACE),
        ];
        for (features, size) in sizes {
            assert!(features.hashed.iter().all(|&(index, value)| index < size && value.is_finite()));
        }
    }

    #[test]
    fn stems_join_inflected_words_and_survive_any_alphabet() {
        assert_eq!(stem("gardens"), stem("garden"));
        assert_eq!(stem("ééééééé"), "ééééé");
    }

    #[test]
    fn empty_texts_give_finite_coherence_features() {
        let view = View::from_texts("", "", "");
        let rarity = Table::quantise(&[0.0; 4]);
        assert!(coherence(&view, &rarity, &rarity, [0.0; 2], 0.0).iter().all(|x| x.is_finite()));
    }
}
