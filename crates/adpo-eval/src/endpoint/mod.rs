//! Models behind HTTP endpoints: chat models as judges and as speakers, text classifiers as judges of toxicity.
//!
//! [`pool`] keeps several endpoints busy and survives the death of some, [`http`] makes one request, [`cache`] keeps
//! responses on disk. On top of them stand [`chat`], [`sample`] and [`classifier`].

mod options;

#[cfg(feature = "http")]
mod cache;
#[cfg(feature = "http")]
mod chat;
#[cfg(feature = "http")]
mod classifier;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "http")]
mod pool;
#[cfg(feature = "http")]
mod sample;
#[cfg(feature = "http")]
mod service;

#[cfg(feature = "http")]
pub use chat::ChatEndpoint;
#[cfg(feature = "http")]
pub use classifier::ClassifierJudge;
pub use options::{ClassifierOptions, EndpointOptions, RequestLimits};
#[cfg(feature = "http")]
pub use sample::{SampleOptions, SampleReport, sample_endpoint};
