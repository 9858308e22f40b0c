//! Which rows teach which head, and how much each source weighs.

use super::corpus::{Corpus, EVERYDAY, Label, SHORT};
use super::logistic::{Row, fit, fit_classes};
use super::negatives::clumsy;
use crate::embedded::features::{self, View, bits};
use crate::embedded::head::{Features, Head, Multinomial, ROUTES};
use crate::embedded::weights::{Heads, row_hash};
use crate::error::EvalError;
use crate::statistics::SplitMix;
use crate::text::hash_token;

/// Rows of one source and label for one head; `share` is the weight of all of them together.
struct Group {
    share: f32,
    views: Vec<View>,
    label: bool,
}

/// Dialogues of people that are enough to learn what everyday talk looks like.
const CHATS: usize = 250;

/// A response of XSTest with what people found.
struct RefusalRow {
    view: View,
    refuses: bool,
    partly: bool,
    /// The prompt is an unsafe one.
    danger: bool,
}

/// Everything that the single-response heads learn from, tokenised once.
pub(crate) struct Material {
    davidson: [Vec<View>; 2],
    /// Own sentences, by abusive or not.
    comments: [Vec<View>; 2],
    /// By unsafe or not; the category beside each.
    diasafety: [Vec<(View, usize)>; 2],
    gptfuzz: [Vec<View>; 2],
    /// Own pairs, by evasive or not.
    look_alikes: [Vec<View>; 2],
    xstest: Vec<RefusalRow>,
    chat: Vec<View>,
    /// Responses of a few words that answer.
    short: Vec<View>,
    good: Vec<(View, bool)>,
    evasive: Vec<(View, bool)>,
    rude: Vec<(View, bool)>,
}

impl Material {
    /// `copies` clumsy versions go beside each response of dialogues (none for calibration rows).
    pub(crate) fn new(corpus: &Corpus, copies: usize) -> Self {
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
            let view = View::from_texts(&pair.request, "", &pair.response);
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
        out.short = short.iter().map(|chat| View::from_texts(&chat.turns[0], "", &chat.turns[1])).collect();
        let stride = chats.len().div_ceil(CHATS).max(1);
        for chat in chats.into_iter().step_by(stride) {
            for pair in chat.turns.windows(2).skip(1).step_by(3) {
                out.chat.push(View::from_texts(&pair[0], "", &pair[1]));
                if copies > 0 {
                    out.chat.push(View::from_texts(&pair[0], "", &clumsy(&pair[1], &mut random)));
                }
            }
        }
        for own in &corpus.own {
            let mut add = |to: &mut Vec<(View, bool)>, response: &str| {
                to.push((View::from_texts(&own.request, "", response), own.harsh));
                for _ in 0..copies {
                    to.push((View::from_texts(&own.request, "", &clumsy(response, &mut random)), own.harsh));
                }
            };
            add(&mut out.good, &own.good);
            add(&mut out.evasive, &own.evasive);
            add(&mut out.rude, &own.rude);
        }
        out
    }

    fn own(rows: &[(View, bool)]) -> Vec<View> {
        rows.iter().map(|(view, _)| view.clone()).collect()
    }

    fn mild(&self) -> Vec<View> {
        [Self::own(&self.good), Self::own(&self.evasive)].concat()
    }

    fn unsafe_rows(&self, is: bool, only: impl Fn(usize) -> bool) -> Vec<View> {
        let rows = self.diasafety[usize::from(is)].iter();
        rows.filter(|(_, category)| only(*category)).map(|(view, _)| view.clone()).collect()
    }

    fn refusals(&self, keep: impl Fn(bool, bool) -> bool) -> Vec<View> {
        self.xstest.iter().filter(|answer| keep(answer.refuses, answer.danger)).map(|answer| answer.view.clone()).collect()
    }

    fn abuse_groups(&self) -> Vec<Group> {
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

    fn context_groups(&self) -> Vec<Group> {
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

    fn harm_groups(&self) -> Vec<Group> {
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

    fn evasion_groups(&self) -> Vec<Group> {
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
    pub(crate) fn harmless(&self) -> [Vec<View>; 4] {
        [self.unsafe_rows(false, |_| true), self.davidson[0].clone(), self.mild(), self.chat.clone()]
    }

    /// Responses with whether they evade, by source: XSTest, GPTFuzz, own dialogues.
    pub(crate) fn answers(&self) -> [Vec<(View, bool)>; 3] {
        let tests = self.xstest.iter().map(|answer| (answer.view.clone(), answer.refuses)).collect();
        let label = |rows: Vec<View>, evades: bool| rows.into_iter().map(move |view| (view, evades));
        let frank = [Self::own(&self.good), Self::own(&self.rude)].concat();
        let own = label(frank, false).chain(label(Self::own(&self.evasive), true)).collect();
        [tests, self.compliance().into_iter().map(|(view, complies)| (view, !complies)).collect(), own]
    }

    /// Responses to harmful questions with whether they comply.
    pub(crate) fn compliance(&self) -> Vec<(View, bool)> {
        let rows = [(&self.gptfuzz[0], false), (&self.gptfuzz[1], true)];
        rows.into_iter().flat_map(|(views, complies)| views.iter().map(move |view| (view.clone(), complies))).collect()
    }

    fn kind_rows(&self) -> Vec<(Features, usize, f32)> {
        let refusals = self.xstest.iter().filter(|answer| answer.refuses);
        let mut out: Vec<_> = refusals.map(|answer| (features::kinds(&answer.view), usize::from(answer.partly), 1.0)).collect();
        out.extend(self.evasive.iter().map(|(view, _)| (features::kinds(view), 2, 0.25)));
        out
    }

    fn router_rows(&self) -> Vec<(&View, usize)> {
        let labelled = self.diasafety.iter().flatten().map(|(view, category)| (view, *category));
        let everyday = self.good.iter().map(|(view, _)| view).chain(&self.chat).map(|view| (view, EVERYDAY));
        labelled.chain(everyday).collect()
    }
}

fn rows(groups: &[Group], see: impl Fn(&View) -> Features) -> Vec<Row> {
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

/// Uncalibrated heads.
pub(crate) fn fit_heads(material: &Material) -> Result<Heads, EvalError> {
    let abuse = one("abuse", 1 << bits::ABUSE, 10.0, &material.abuse_groups(), features::abuse)?;
    let (router, context) = router_and_context(material, &abuse)?;
    Ok(Heads {
        abuse,
        router,
        context,
        harm: harm_head(material)?,
        evasiveness: evasion_head(material)?,
        kinds: fit_classes(&material.kind_rows(), 1 << bits::KINDS, 10.0),
    })
}

pub(crate) fn harm_head(material: &Material) -> Result<Head, EvalError> {
    one("harm", 1 << bits::HARM, 10.0, &material.harm_groups(), features::harm)
}

pub(crate) fn evasion_head(material: &Material) -> Result<Head, EvalError> {
    one("evasiveness", 1 << bits::EVASION, 10.0, &material.evasion_groups(), features::evasiveness)
}

/// The margins of abuse, context, harm and evasiveness on rows that `heads` has not seen.
pub(crate) fn margins(heads: &Heads, unseen: &Material) -> [Margins; 4] {
    let on = |head: &Head, groups: &[Group], see: &dyn Fn(&View) -> Features| -> Margins {
        rows(groups, see).iter().map(|row| (head.margin(&row.features), row.label, row.weight)).collect()
    };
    let in_context = |view: &View| {
        let routes = heads.router.probabilities(&features::route(view));
        features::context(view, &routes, heads.abuse.margin(&features::provocation(view)))
    };
    [
        on(&heads.abuse, &unseen.abuse_groups(), &features::abuse),
        on(&heads.context, &unseen.context_groups(), &in_context),
        on(&heads.harm, &unseen.harm_groups(), &features::harm),
        on(&heads.evasiveness, &unseen.evasion_groups(), &features::evasiveness),
    ]
}

/// Gives the four heads of [`margins`] their calibration.
pub(crate) fn set_calibration(heads: &mut Heads, calibration: [(f32, f32); 4]) {
    let all = [&mut heads.abuse, &mut heads.context, &mut heads.harm, &mut heads.evasiveness];
    for (head, calibration) in all.into_iter().zip(calibration) {
        head.calibration = calibration;
    }
}

fn one(head: &'static str, slots: usize, strength: f64, groups: &[Group], see: impl Fn(&View) -> Features) -> Result<Head, EvalError> {
    let training = rows(groups, &see);
    if !(training.iter().any(|row| row.label) && training.iter().any(|row| !row.label)) {
        return Err(EvalError::Training { head, reason: "it needs rows of both labels in its split buckets".to_owned() });
    }
    Ok(fit(&training, slots, strength))
}

/// The router, and the head that reads responses through it.
///
/// The head learns from routes that a router without the row's fold gave: routes of rows that a router has seen are
/// sharper than those of any new row.
fn router_and_context(material: &Material, abuse: &Head) -> Result<(Multinomial<ROUTES>, Head), EvalError> {
    const FOLDS: u64 = 4;
    let labelled = material.router_rows();
    let fold = |view: &View| row_hash(&view.request.padded()) % FOLDS;
    let mut counts = [0_usize; ROUTES];
    for (_, route) in &labelled {
        counts[*route] += 1;
    }
    let router_without = |left_out: Option<u64>| {
        let kept = labelled.iter().filter(|(view, _)| Some(fold(view)) != left_out);
        let weigh = |route: usize| (labelled.len() as f32 / (ROUTES * counts[route].max(1)) as f32).min(5.0);
        let rows: Vec<_> = kept.map(|(view, route)| (features::route(view), *route, weigh(*route))).collect();
        fit_classes(&rows, 1 << bits::ROUTER, 10.0)
    };
    let partial: Vec<Multinomial<ROUTES>> = (0..FOLDS).map(|k| router_without(Some(k))).collect();
    let unseen = |view: &View| {
        let routes = partial[fold(view) as usize].probabilities(&features::route(view));
        features::context(view, &routes, abuse.margin(&features::provocation(view)))
    };
    let head = one("context", 8 << bits::CONTEXT, 0.5, &material.context_groups(), unseen)?;
    Ok((router_without(None), head))
}
