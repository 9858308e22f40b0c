#![doc = include_str!("../README.md")]
//!
//! # Notation
//!
//! `w` is the chosen response, `l` the rejected, `t` the toxic one. A log-prob is summed over the
//! response's tokens, in nats, in f32. `h_i = log πθ(y_i|x) − log πref(y_i|x)`. Every objective is a
//! struct of its options, whose documentation gives formula, paper and equation.
//!
//! # In a recipe
//!
//! [`Objective`] (de)serialises as one table, for instance `[objective.adpo]`. An option that
//! belongs to another objective, or that the chosen ADPO link has no place for, is an error.
#![warn(missing_docs)]

mod adpo;
mod apo_zero;
mod cdpo;
mod dpo;
mod dpop;
mod error;
mod family;
mod hinge;
mod ipo;
mod log_probs;
mod metrics;
mod nca_pair;
mod npo;
mod numerics;
mod objective;
mod orpo;
mod robust;
mod simpo;

pub use adpo::{Adpo, Anchor, Link};
pub use apo_zero::ApoZero;
pub use cdpo::Cdpo;
pub use dpo::Dpo;
pub use dpop::Dpop;
pub use error::ObjectiveError;
pub use hinge::Hinge;
pub use ipo::{Ipo, IpoTokens};
pub use log_probs::{Lengths, LogProbs, RoleLogProbs, ToxAnchor};
pub use nca_pair::NcaPair;
pub use npo::Npo;
pub use objective::{ExampleLosses, Objective};
pub use orpo::Orpo;
pub use robust::Robust;
pub use simpo::Simpo;
