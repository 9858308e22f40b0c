//! Intervals and tests for rates, means and paired outcomes. Each function names its source and, in its tests, the call
//! in R or SciPy that gives the same number.
//!
//! | question | function |
//! |---|---|
//! | how sure is one rate? | [`wilson`]; with the instrument's errors taken out: [`rogan_gladen`] |
//! | how sure is a mean, or anything else? | [`bootstrap_mean`], [`bootstrap`]; over training seeds: [`bootstrap_crossed`] |
//! | do two systems differ on the same prompts? | [`mcnemar`], [`sign_flip`], and [`holm`] over all tests |
//! | how large a difference would have been seen; is there none? | [`Differences`] |
//! | how far do verdicts agree with labels? | [`auc`], [`Confusion`] |

mod agreement;
mod bootstrap;
mod equivalence;
mod paired;
mod random;
mod rate;

use serde::{Deserialize, Serialize};

pub use agreement::{Confusion, auc};
pub use bootstrap::{bootstrap, bootstrap_crossed, bootstrap_mean};
pub use equivalence::{Differences, Equivalence, EquivalenceOutcome, POWER, smallest_detectable, tost_power, two_sided_p};
pub use paired::{McNemar, SignFlip, holm, mcnemar, sign_flip};
pub(crate) use random::SplitMix;
pub use rate::{rogan_gladen, wilson};

/// The 97.5 % quantile of the normal distribution: 95 % intervals.
const Z: f64 = 1.959_963_984_540_054;

/// An estimate with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Interval {
    /// The point estimate.
    pub estimate: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// The standard error of which this is the 95 % interval, if it is about normal.
    pub fn standard_error(&self) -> f64 {
        (self.high - self.low) / (2.0 * Z)
    }

    /// How far zero is from the interval; `None` where it lies inside.
    ///
    /// Of a difference between two systems this is the most that the instrument's bias may differ between them before
    /// the difference could be nothing but that.
    pub fn distance_from_zero(&self) -> Option<f64> {
        let distance = self.low.max(-self.high);
        (distance > 0.0).then_some(distance)
    }
}

#[cfg(test)]
fn near(a: f64, b: f64) {
    assert!((a - b).abs() < 5e-9, "{a} is not {b}");
}
