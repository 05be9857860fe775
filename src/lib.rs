//! Counterweight finds out, in SQL, whether a recommender's propensities can be trusted, and retrains conversion models
//! with losses that make them so (Li et al., *Propensity Matters*, ICML 2023).
//!
//! Data runs one way: [`storage`] → [`session`] and [`table`] → [`context`] → [operators](operator) such as [`audit`] → [`output`] and
//! [`metrics`]. The aggregates are a crate of their own, [`counterweight_udfs`], and so is what needs libtorch: training and
//! scoring are [operators of another process](external).

pub mod advice;
pub mod audit;
pub mod command;
pub mod context;
pub mod error;
pub mod events;
pub mod experiment;
pub mod external;
pub mod job;
pub mod metrics;
pub mod model;
pub mod operator;
pub mod output;
pub mod redact;
pub mod session;
pub mod simulate;
pub mod storage;
pub mod table;

pub use context::JobContext;
pub use error::{Error, Result};

/// The versions of other crates that fit, and whose types this one's are made of.
pub use datafusion::{self, arrow, parquet};
pub use object_store;
