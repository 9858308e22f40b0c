//! The embedded heads that learn from labelled responses.

use super::corpus::EVERYDAY;
use super::cross_fit::LabelledHeads;
use super::logistic::fit_classes;
use super::material::{Margins, Material, margins, one};
use crate::embedded::features::{self, View, bits};
use crate::embedded::head::{Features, Head, Multinomial, ROUTES};
use crate::embedded::weights::{Heads, row_hash};
use crate::error::EvalError;
use crate::judge::ToxicityHeads;

impl Material<View> {
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

impl LabelledHeads for Heads {
    type View = View;

    fn fit(material: &Material<View>) -> Result<Self, EvalError> {
        let abuse = one("abuse", 1 << bits::ABUSE, 10.0, &material.abuse_groups(), features::abuse)?;
        let (router, context) = router_and_context(material, &abuse)?;
        Ok(Self {
            abuse,
            router,
            context,
            harm: harm_head(material)?,
            evasiveness: evasion_head(material)?,
            kinds: fit_classes(&material.kind_rows(), 1 << bits::KINDS, 10.0),
        })
    }

    fn margins(&self, unseen: &Material<View>) -> [Margins; 4] {
        let in_context = |view: &View| {
            let routes = self.router.probabilities(&features::route(view));
            features::context(view, &routes, self.abuse.margin(&features::provocation(view)))
        };
        [
            margins(&self.abuse, &unseen.abuse_groups(), features::abuse),
            margins(&self.context, &unseen.context_groups(), in_context),
            margins(&self.harm, &unseen.harm_groups(), features::harm),
            margins(&self.evasiveness, &unseen.evasion_groups(), features::evasiveness),
        ]
    }

    fn calibrations(&mut self) -> [&mut (f32, f32); 4] {
        [&mut self.abuse, &mut self.context, &mut self.harm, &mut self.evasiveness].map(|head| &mut head.calibration)
    }

    fn toxicity(&self, view: &View, harmful: bool) -> ToxicityHeads {
        self.toxicity(view, harmful)
    }

    fn evasiveness(&self, view: &View) -> f64 {
        self.evasiveness(view).0
    }
}

pub(crate) fn harm_head(material: &Material<View>) -> Result<Head, EvalError> {
    one("harm", 1 << bits::HARM, 10.0, &material.harm_groups(), features::harm)
}

pub(crate) fn evasion_head(material: &Material<View>) -> Result<Head, EvalError> {
    one("evasiveness", 1 << bits::EVASION, 10.0, &material.evasion_groups(), features::evasiveness)
}

/// The router, and the head that reads responses through it.
///
/// The head learns from routes that a router without the row's fold gave: routes of rows that a router has seen are
/// sharper than those of any new row.
fn router_and_context(material: &Material<View>, abuse: &Head) -> Result<(Multinomial<ROUTES>, Head), EvalError> {
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
