//! Counterweight finds out, in SQL, whether a recommender's propensities can be trusted, and retrains conversion models
//! with losses that make them so (Li et al., *Propensity Matters*, ICML 2023).
//!
//! Data runs one way: [`storage`] → [`session`] → operators such as [`audit`] → [`output`] and
//! [`metrics`]. The aggregates are
//! a crate of their own, [`counterweight_udfs`].

pub mod audit;
pub mod error;
pub mod events;
#[cfg(feature = "train")]
pub mod experiment;
pub mod job;
pub mod metrics;
pub mod operator;
pub mod output;
pub mod progress;
#[cfg(feature = "train")]
pub mod score;
pub mod session;
pub mod simulate;
pub mod storage;
#[cfg(feature = "train")]
pub mod train;

pub use error::{Error, Result};
