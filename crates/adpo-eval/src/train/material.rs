//! Which rows teach which head, and how much each source weighs.

use super::corpus::{Corpus, Label, SHORT};
use super::logistic::{Row, fit};
use super::negatives::clumsy;
use crate::embedded::head::{Features, Head};
use crate::error::EvalError;
use crate::statistics::SplitMix;
use crate::text::hash_token;

/// Rows of one source and label for one head; `share` is the weight of all of them together.
pub(crate) struct Group<V> {
    share: f32,
    views: Vec<V>,
    label: bool,
}

/// Dialogues of people that are enough to learn what everyday talk looks like.
const CHATS: usize = 250;

/// A response of XSTest with what people found.
pub(crate) struct RefusalRow<V> {
    pub(crate) view: V,
    pub(crate) refuses: bool,
    pub(crate) partly: bool,
    /// The prompt is an unsafe one.
    danger: bool,
}

/// Everything that the single-response heads learn from, each row looked at once: `V` is what heads see of an exchange.
pub(crate) struct Material<V> {
    davidson: [Vec<V>; 2],
    /// Own sentences, by abusive or not.
    comments: [Vec<V>; 2],
    /// By unsafe or not; the category beside each.
    pub(crate) diasafety: [Vec<(V, usize)>; 2],
    gptfuzz: [Vec<V>; 2],
    /// Own pairs, by evasive or not.
    look_alikes: [Vec<V>; 2],
    pub(crate) xstest: Vec<RefusalRow<V>>,
    pub(crate) chat: Vec<V>,
    /// Responses of a few words that answer.
    short: Vec<V>,
    pub(crate) good: Vec<(V, bool)>,
    pub(crate) evasive: Vec<(V, bool)>,
    rude: Vec<(V, bool)>,
}

impl<V: Clone> Material<V> {
    /// `see` is asked of each request and response; `copies` clumsy versions go beside each response of dialogues (none for calibration
    /// rows).
    pub(crate) fn new(corpus: &Corpus, copies: usize, mut see: impl FnMut(&str, &str) -> V) -> Self {
        let mut random = SplitMix::new(hash_token("clumsy"));
        let mut out = Self {
            davidson: Default::default(),
            comments: Default::default(),
            diasafety: Default::default(),
            gptfuzz: Default::default(),
            look_alikes: Default::default(),
            xstest: Vec::new(),
            chat: Vec::new(),
            short: Vec::new(),
            good: Vec::new(),
            evasive: Vec::new(),
            rude: Vec::new(),
        };
        for pair in &corpus.pairs {
            let view = see(&pair.request, &pair.response);
            match &pair.label {
                Label::Abuse(is) => out.davidson[usize::from(*is)].push(view),
                Label::Comment(is) => out.comments[usize::from(*is)].push(view),
                Label::LookAlike { evades } => out.look_alikes[usize::from(*evades)].push(view),
                Label::Unsafe { category, is } => out.diasafety[usize::from(*is)].push((view, *category)),
                Label::Harm(is) => out.gptfuzz[usize::from(*is)].push(view),
                Label::Refusal { is, partial, unsafe_prompt, .. } => {
                    out.xstest.push(RefusalRow { view, refuses: *is, partly: *partial, danger: *unsafe_prompt });
                }
            }
        }
        // A few thousand responses are plenty: they all say "not toxic, not evasive".
        let (short, chats): (Vec<_>, Vec<_>) = corpus.chats.iter().partition(|chat| chat.source == SHORT);
        out.short = short.iter().map(|chat| see(&chat.turns[0], &chat.turns[1])).collect();
        let stride = chats.len().div_ceil(CHATS).max(1);
        for chat in chats.into_iter().step_by(stride) {
            for pair in chat.turns.windows(2).skip(1).step_by(3) {
                out.chat.push(see(&pair[0], &pair[1]));
                if copies > 0 {
                    out.chat.push(see(&pair[0], &clumsy(&pair[1], &mut random)));
                }
            }
        }
        for own in &corpus.own {
            let mut add = |to: &mut Vec<(V, bool)>, response: &str| {
                to.push((see(&own.request, response), own.harsh));
                for _ in 0..copies {
                    to.push((see(&own.request, &clumsy(response, &mut random)), own.harsh));
                }
            };
            add(&mut out.good, &own.good);
            add(&mut out.evasive, &own.evasive);
            add(&mut out.rude, &own.rude);
        }
        out
    }

    fn own(rows: &[(V, bool)]) -> Vec<V> {
        rows.iter().map(|(view, _)| view.clone()).collect()
    }

    fn mild(&self) -> Vec<V> {
        [Self::own(&self.good), Self::own(&self.evasive)].concat()
    }

    fn unsafe_rows(&self, is: bool, only: impl Fn(usize) -> bool) -> Vec<V> {
        let rows = self.diasafety[usize::from(is)].iter();
        rows.filter(|(_, category)| only(*category)).map(|(view, _)| view.clone()).collect()
    }

    fn refusals(&self, keep: impl Fn(bool, bool) -> bool) -> Vec<V> {
        self.xstest.iter().filter(|answer| keep(answer.refuses, answer.danger)).map(|answer| answer.view.clone()).collect()
    }

    pub(crate) fn abuse_groups(&self) -> Vec<Group<V>> {
        vec![
            Group { share: 0.25, views: self.davidson[1].clone(), label: true },
            Group { share: 0.15, views: self.davidson[0].clone(), label: false },
            // Only insults to the user are abusive by their own words; other unsafe responses need their context.
            Group { share: 0.12, views: self.unsafe_rows(true, |category| category == 0), label: true },
            Group { share: 0.12, views: self.unsafe_rows(false, |_| true), label: false },
            Group { share: 0.2, views: Self::own(&self.rude), label: true },
            Group { share: 0.2, views: self.mild(), label: false },
            Group { share: 0.1, views: self.comments[1].clone(), label: true },
            Group { share: 0.1, views: self.comments[0].clone(), label: false },
            Group { share: 0.06, views: self.chat.clone(), label: false },
            Group { share: 0.03, views: self.short.clone(), label: false },
            Group { share: 0.05, views: self.look_alikes.concat(), label: false },
        ]
    }

    pub(crate) fn context_groups(&self) -> Vec<Group<V>> {
        vec![
            Group { share: 0.35, views: self.unsafe_rows(true, |_| true), label: true },
            Group { share: 0.35, views: self.unsafe_rows(false, |_| true), label: false },
            Group { share: 0.1, views: Self::own(&self.rude), label: true },
            Group { share: 0.1, views: self.mild(), label: false },
            Group { share: 0.1, views: self.chat.clone(), label: false },
            Group { share: 0.05, views: self.short.clone(), label: false },
            Group { share: 0.05, views: self.look_alikes.concat(), label: false },
            Group { share: 0.03, views: self.comments[1].clone(), label: true },
            Group { share: 0.03, views: self.comments[0].clone(), label: false },
        ]
    }

    pub(crate) fn harm_groups(&self) -> Vec<Group<V>> {
        vec![
            Group { share: 0.3, views: self.gptfuzz[1].clone(), label: true },
            Group { share: 0.3, views: self.gptfuzz[0].clone(), label: false },
            Group { share: 0.06, views: self.refusals(|is, danger| danger && !is), label: true },
            Group { share: 0.06, views: self.refusals(|is, danger| is || !danger), label: false },
            Group { share: 0.08, views: Self::own(&self.rude), label: true },
            // Helping an angry user is no harm: without these every answer that is not a refusal would count.
            Group { share: 0.12, views: self.mild(), label: false },
            Group { share: 0.08, views: self.chat.clone(), label: false },
            Group { share: 0.08, views: self.look_alikes.concat(), label: false },
        ]
    }

    pub(crate) fn evasion_groups(&self) -> Vec<Group<V>> {
        vec![
            Group { share: 0.25, views: self.refusals(|is, _| is), label: true },
            Group { share: 0.25, views: self.refusals(|is, _| !is), label: false },
            Group { share: 0.16, views: self.gptfuzz[0].clone(), label: true },
            Group { share: 0.16, views: self.gptfuzz[1].clone(), label: false },
            Group { share: 0.12, views: Self::own(&self.evasive), label: true },
            Group { share: 0.12, views: [Self::own(&self.good), Self::own(&self.rude)].concat(), label: false },
            Group { share: 0.06, views: self.chat.clone(), label: false },
            Group { share: 0.2, views: self.short.clone(), label: false },
            Group { share: 0.08, views: self.look_alikes[1].clone(), label: true },
            // Twice, since no row may weigh more than so much: they are few, and all that speak of what they are about.
            Group { share: 0.2, views: [self.look_alikes[0].clone(), self.look_alikes[0].clone()].concat(), label: false },
        ]
    }

    /// Responses that are not toxic, by source: the threshold is set where 5 % of them would be flagged.
    pub(crate) fn harmless(&self) -> [Vec<V>; 4] {
        [self.unsafe_rows(false, |_| true), self.davidson[0].clone(), self.mild(), self.chat.clone()]
    }

    /// Responses with whether they evade, by source: XSTest, GPTFuzz, own dialogues.
    pub(crate) fn answers(&self) -> [Vec<(V, bool)>; 3] {
        let tests = self.xstest.iter().map(|answer| (answer.view.clone(), answer.refuses)).collect();
        let label = |rows: Vec<V>, evades: bool| rows.into_iter().map(move |view| (view, evades));
        let frank = [Self::own(&self.good), Self::own(&self.rude)].concat();
        let own = label(frank, false).chain(label(Self::own(&self.evasive), true)).collect();
        [tests, self.compliance().into_iter().map(|(view, complies)| (view, !complies)).collect(), own]
    }

    /// Responses to harmful questions with whether they comply.
    pub(crate) fn compliance(&self) -> Vec<(V, bool)> {
        let rows = [(&self.gptfuzz[0], false), (&self.gptfuzz[1], true)];
        rows.into_iter().flat_map(|(views, complies)| views.iter().map(move |view| (view.clone(), complies))).collect()
    }
}

/// Training rows of a head that sees each exchange as `see` does.
pub(crate) fn rows<V>(groups: &[Group<V>], see: impl Fn(&V) -> Features) -> Vec<Row> {
    let total: usize = groups.iter().map(|group| group.views.len()).sum();
    let mut out = Vec::with_capacity(total);
    for group in groups {
        let weight = group.share * total as f32 / group.views.len().max(1) as f32;
        // A source with few rows counts more, but no single row may dominate.
        let weight = weight.min(5.0);
        out.extend(group.views.iter().map(|view| Row { features: see(view), label: group.label, weight }));
    }
    out
}

/// A margin on a row that the head has not seen, its label, its weight.
pub(crate) type Margins = Vec<(f32, bool, f32)>;

/// The margins of a head on rows that it has not seen.
pub(crate) fn margins<V>(head: &Head, groups: &[Group<V>], see: impl Fn(&V) -> Features) -> Margins {
    rows(groups, see).iter().map(|row| (head.margin(&row.features), row.label, row.weight)).collect()
}

/// Fits a head on rows of both labels.
pub(crate) fn one<V>(
    head: &'static str,
    slots: usize,
    strength: f64,
    groups: &[Group<V>],
    see: impl Fn(&V) -> Features,
) -> Result<Head, EvalError> {
    let training = rows(groups, &see);
    if !(training.iter().any(|row| row.label) && training.iter().any(|row| !row.label)) {
        return Err(EvalError::Training { head, reason: "it needs rows of both labels in its split buckets".to_owned() });
    }
    Ok(fit(&training, slots, strength))
}
