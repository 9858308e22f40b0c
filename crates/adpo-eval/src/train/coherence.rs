//! Coherence: real responses against synthetic negatives. No human rating is used: weights fitted to one rated set do
//! not carry over to another.

use super::corpus::Corpus;
use super::logistic::{Row, calibrate, fit};
use super::negatives::{KINDS, Negatives};
use crate::embedded::dual::{Dual, WIDTH, word_slots};
use crate::embedded::features::{self, EARLIER, View, bits};
use crate::embedded::head::{Head, Table};
use crate::embedded::weights::WeightSet;
use crate::statistics::SplitMix;
use crate::text::hash_token;

/// A real response with what was said before it.
#[derive(Debug, Clone)]
pub(crate) struct Turn<'a> {
    pub(crate) request: &'a str,
    pub(crate) earlier: String,
    pub(crate) response: &'a str,
    /// Evasive responses answer anything, so swapping them makes no negative.
    pub(crate) fits_anything: bool,
}

/// Real responses by source; negatives never mix sources, as the style would give them away.
pub(crate) fn turns(corpus: &Corpus) -> Vec<(&'static str, Vec<Turn<'_>>)> {
    let chat = |source: &'static str| {
        let mut out = Vec::new();
        for chat in corpus.chats.iter().filter(|chat| chat.source == source) {
            for at in 1..chat.turns.len() {
                let earlier = chat.turns[at.saturating_sub(EARLIER + 1)..at - 1].join(" . ");
                let (request, response) = (chat.turns[at - 1].as_str(), chat.turns[at].as_str());
                out.push(Turn { request, earlier, response, fits_anything: false });
            }
        }
        (source, out)
    };
    let mut own = Vec::new();
    for row in &corpus.own {
        for (response, fits_anything) in [(&row.good, false), (&row.rude, false), (&row.evasive, true)] {
            own.push(Turn { request: &row.request, earlier: String::new(), response, fits_anything });
        }
    }
    vec![chat("persona"), chat("topical"), chat("selfd"), chat("chitchat"), ("own", own)]
}

/// People's responses that may be taken for no answer.
pub(super) const MISSED: f64 = 0.09;

/// How much each source weighs: the project's own requests are few but closest to what is judged.
const SHARES: [f32; 5] = [0.25, 0.2, 0.15, 0.1, 0.3];

/// What heads see of an exchange, with what it is: a real response, or a negative of kind [`KINDS`]; and its weight.
pub(super) struct Example<V> {
    pub(super) view: V,
    pub(super) kind: Option<usize>,
    pub(super) weight: f32,
}

/// Real responses and negatives of all sources, of about `turns_each` turns of each. `see` is asked of each request, what was said before
/// it, and the response.
pub(super) fn examples<V>(corpus: &Corpus, turns_each: usize, mut see: impl FnMut(&str, &str, &str) -> V) -> Vec<Example<V>> {
    const ROUNDS: usize = 7;
    let mut random = SplitMix::new(hash_token("combine"));
    let all = turns(corpus);
    let total: usize = all.iter().map(|(_, turns)| turns.len()).sum();
    let mut out = Vec::new();
    for ((_, turns), share) in all.iter().zip(SHARES) {
        let responses: Vec<&str> = turns.iter().map(|turn| turn.response).collect();
        let negatives = Negatives::new(&responses);
        let weight = (share * total as f32 / turns.len().max(1) as f32).min(6.0);
        for turn in turns.iter().step_by(turns.len().div_ceil(turns_each).max(1)) {
            // Many responses answer a first turn: the heads must not lean on what came before it.
            let earlier = if random.unit() < 0.4 { "" } else { &turn.earlier };
            out.push(Example { view: see(turn.request, earlier, turn.response), kind: None, weight });
            for round in 0..ROUNDS {
                // Strangers and shuffled words are the hardest to tell.
                let kind = match round {
                    0 | 1 => 0,
                    2 => 1,
                    _ => 1 + random.below(KINDS.len() - 1),
                };
                if kind == 0 && turn.fits_anything {
                    continue;
                }
                if let Some(text) = negatives.make(kind, turn.request, turn.response, &mut random) {
                    out.push(Example { view: see(turn.request, earlier, &text), kind: Some(kind), weight });
                }
            }
        }
    }
    out
}

/// log(turns / turns with the word), as the weight of a word.
pub(crate) fn rarity(corpus: &Corpus) -> Table {
    let mut seen = vec![0.0_f32; 1 << bits::WORDS];
    let mut n = 1.0_f32;
    for (_, turns) in turns(corpus) {
        for turn in turns {
            let mut words = word_slots(&crate::text::Text::new(turn.response));
            words.sort_unstable();
            words.dedup();
            for word in words {
                seen[word as usize] += 1.0;
            }
            n += 1.0;
        }
    }
    let weights: Vec<f32> = seen.iter().map(|count| (n / (1.0 + count)).ln().min(7.0) / 4.0).collect();
    Table::quantise(&weights)
}

/// log(real turns with the pair / strangers with the pair), smoothed: request and response, and the turn before with it.
pub(crate) fn pairs(corpus: &Corpus) -> Table {
    const STRANGERS: usize = 3;
    let mut random = SplitMix::new(hash_token("pairs"));
    let mut counts = [vec![0.0_f32; 1 << bits::PAIRS], vec![0.0_f32; 1 << bits::PAIRS]];
    for (_, turns) in turns(corpus) {
        let text = |text: &str| crate::text::Text::new(text);
        let responses: Vec<Vec<u64>> = turns.iter().map(|turn| features::opened(&text(turn.response))).collect();
        for (turn, own) in turns.iter().zip(&responses).filter(|(turn, _)| !turn.fits_anything) {
            let mut context = features::asked(&text(turn.request));
            context.extend(features::topics(&text(turn.earlier.rsplit(" . ").next().unwrap_or(""))));
            let mut count = |response: &[u64], real: usize, weight: f32| {
                for &a in &context {
                    for &b in response {
                        counts[real][features::pair_slot(a, b) as usize] += weight;
                    }
                }
            };
            count(own, 1, 1.0);
            for _ in 0..STRANGERS {
                count(&responses[random.below(responses.len())], 0, 1.0 / STRANGERS as f32);
            }
        }
    }
    let [strangers, real] = counts;
    let ratio = |(real, strangers): (&f32, &f32)| ((real + 1.0) / (strangers + 1.0)).ln().clamp(-2.0, 3.0);
    Table::quantise(&real.iter().zip(&strangers).map(ratio).collect::<Vec<f32>>())
}

/// Fits the dual encoder: softmax of the true response among random ones (in the manner of Henderson et al. 2017).
pub(crate) fn dual(corpus: &Corpus, rarity: &Table) -> Dual {
    const NEGATIVES: usize = 9;
    const EPOCHS: usize = 16;
    let slots = WIDTH << bits::WORDS;
    let mut random = SplitMix::new(hash_token("dual"));
    let mut start = || (0..slots).map(|_| (random.unit() as f32 - 0.5) * 0.4).collect::<Vec<f32>>();
    let mut towers = [Tower::new(start()), Tower::new(start())];
    let mut sources = Vec::new();
    for (_, turns) in &turns(corpus) {
        let slots: Vec<[Vec<u32>; 2]> = turns
            .iter()
            .filter(|turn| !turn.fits_anything)
            .map(|turn| [turn.request, turn.response].map(|text| word_slots(&crate::text::Text::new(text))))
            .collect();
        sources.push(slots);
    }
    let total: usize = sources.iter().map(Vec::len).sum();
    for epoch in 0..EPOCHS {
        let rate = 0.1 / (1.0 + epoch as f32 / 3.0).sqrt();
        for _ in 0..total {
            let mut pick = random.unit() as f32;
            let source = SHARES.iter().position(|share| {
                pick -= share;
                pick < 0.0
            });
            let turns = &sources[source.unwrap_or(0)];
            if turns.is_empty() {
                continue;
            }
            let [request, response] = &turns[random.below(turns.len())];
            let mut candidates = vec![response];
            candidates.extend((0..NEGATIVES).map(|_| &turns[random.below(turns.len())][1]));
            step(&mut towers, rarity, request, &candidates, rate);
        }
    }
    let [request, response] = towers.map(|tower| Table::quantise(&tower.values));
    Dual { request, response }
}

struct Tower {
    values: Vec<f32>,
    squares: Vec<f32>,
}

impl Tower {
    fn new(values: Vec<f32>) -> Self {
        Self { squares: vec![1e-4; values.len()], values }
    }

    fn encode(&self, rarity: &Table, words: &[u32]) -> [f32; WIDTH] {
        let mut sum = [0.0; WIDTH];
        for &word in words {
            let weight = rarity.get(word) / (words.len() as f32).sqrt();
            let row = &self.values[word as usize * WIDTH..][..WIDTH];
            sum.iter_mut().zip(row).for_each(|(slot, x)| *slot += weight * x);
        }
        sum
    }

    fn update(&mut self, rarity: &Table, words: &[u32], gradient: &[f32; WIDTH], rate: f32) {
        for &word in words {
            let weight = rarity.get(word) / (words.len() as f32).sqrt();
            for (i, g) in gradient.iter().enumerate() {
                let at = word as usize * WIDTH + i;
                let g = g * weight + 1e-4 * self.values[at];
                self.squares[at] += g * g;
                self.values[at] -= rate * g / self.squares[at].sqrt();
            }
        }
    }
}

/// One gradient step; the first candidate is the true response.
fn step(towers: &mut [Tower; 2], rarity: &Table, request: &[u32], candidates: &[&Vec<u32>], rate: f32) {
    let query = towers[0].encode(rarity, request);
    let responses: Vec<[f32; WIDTH]> = candidates.iter().map(|words| towers[1].encode(rarity, words)).collect();
    let dot = |a: &[f32; WIDTH], b: &[f32; WIDTH]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    let mut errors: Vec<f32> = responses.iter().map(|response| dot(&query, response)).collect();
    let top = errors.iter().fold(f32::NEG_INFINITY, |top, &s| top.max(s));
    for error in &mut errors {
        *error = (*error - top).exp();
    }
    let sum: f32 = errors.iter().sum();
    for error in &mut errors {
        *error /= sum;
    }
    errors[0] -= 1.0;
    let mut query_gradient = [0.0; WIDTH];
    for ((words, response), &error) in candidates.iter().zip(&responses).zip(&errors) {
        query_gradient.iter_mut().zip(response).for_each(|(slot, x)| *slot += error * x);
        towers[1].update(rarity, words, &query.map(|x| x * error), rate);
    }
    towers[0].update(rarity, request, &query_gradient, rate);
}

/// The surface head: real word order against every kind of negative but the random response.
pub(crate) fn surface(corpus: &Corpus) -> Head {
    let mut random = SplitMix::new(hash_token("surface"));
    let mut rows = Vec::new();
    let all = turns(corpus);
    let total: usize = all.iter().map(|(_, turns)| turns.len()).sum();
    for ((_, turns), share) in all.iter().zip(SHARES) {
        let responses: Vec<&str> = turns.iter().map(|turn| turn.response).collect();
        let negatives = Negatives::new(&responses);
        let weight = (share * total as f32 / turns.len().max(1) as f32).min(6.0);
        for turn in turns {
            let mut add = |text: &str, label: bool, weight: f32| {
                let features = features::surface(&View::from_texts("", "", text));
                rows.push(Row { features, label, weight });
            };
            add(turn.response, true, weight);
            for kind in [1, 1 + random.below(KINDS.len() - 1), 1 + random.below(KINDS.len() - 1)] {
                if let Some(text) = negatives.make(kind, turn.request, turn.response, &mut random) {
                    add(&text, false, weight / 3.0);
                }
            }
        }
    }
    fit(&rows, 1 << bits::SURFACE, 1.0)
}

/// Fits the heads on top, fluency and relevance and what both make, on rows that no other part has seen.
///
/// Fluency learns real responses against every kind of broken text, relevance against random responses.
pub(crate) fn combine(set: &mut WeightSet, calibrating: &Corpus) {
    let examples: Vec<(Row, Option<usize>)> = examples(calibrating, usize::MAX, View::from_texts)
        .into_iter()
        .map(|Example { view, kind, weight }| (Row { features: set.coherence_features(&view), label: kind.is_none(), weight }, kind))
        .collect();
    let rows = |keep: fn(usize) -> bool| -> Vec<Row> {
        let kept = examples.iter().filter(|(_, kind)| kind.is_none_or(keep));
        balanced(kept.map(|(row, _)| row.clone()).collect())
    };
    set.fluency = calibrated(&rows(|kind| kind != 0));
    set.relevance = calibrated(&rows(|kind| kind == 0));
    let both = rows(|_| true).into_iter().map(|row| Row { features: set.both(&row.features), ..row });
    set.coherence = calibrated(&both.collect::<Vec<_>>());
}

/// The margin of the surface head that all but [`SALAD`] of the project's own good responses reach. `rows` are rows that the head has
/// not seen. Chats between people would set it far too low: some of their turns are word salad.
pub(crate) fn word_order(set: &WeightSet, rows: &Corpus) -> f32 {
    /// People's responses that may be taken for word salad.
    const SALAD: f64 = 0.03;
    let views = rows.own.iter().map(|row| View::from_texts("", "", &row.good)).filter(|view| view.response.count_words() > 3);
    quantile(views.map(|view| f64::from(set.surface.margin(&features::surface(&view)))).collect(), SALAD) as f32
}

/// The coherence that all but [`MISSED`] of the project's own good responses reach: on rows that no part of coherence has seen, and on
/// those that are closest to what is judged.
pub(crate) fn threshold(set: &WeightSet, rows: &Corpus) -> f64 {
    let scores = rows.own.iter().map(|row| {
        let features = set.coherence_features(&View::from_texts(&row.request, "", &row.good));
        set.coherence.probability(&set.both(&features))
    });
    quantile(scores.collect(), MISSED)
}

/// The value below which the share `at` (less than 1) of the values lies; 0 of nothing.
pub(super) fn quantile(mut values: Vec<f64>, at: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get((at * values.len() as f64) as usize).copied().unwrap_or(0.0)
}

/// Real and negative responses weigh the same, so that a probability of one half means "as likely as not".
pub(super) fn balanced(mut rows: Vec<Row>) -> Vec<Row> {
    let total = |label: bool| rows.iter().filter(|row| row.label == label).map(|row| row.weight).sum::<f32>();
    let ratio = total(true) / total(false).max(1.0);
    rows.iter_mut().filter(|row| !row.label).for_each(|row| row.weight *= ratio);
    rows
}

fn calibrated(rows: &[Row]) -> Head {
    let mut head = fit(rows, 0, 10.0);
    head.calibration = calibration(&head, rows);
    head
}

/// The calibration of a head on these rows.
pub(super) fn calibration(head: &Head, rows: &[Row]) -> (f32, f32) {
    let margins: Vec<_> = rows.iter().map(|row| (head.margin(&row.features), row.label, row.weight)).collect();
    calibrate(&margins)
}
