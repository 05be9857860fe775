//! Training and scoring on libtorch: a job's queries become tensors, three models are trained together with a loss that
//! balances the propensities (Li et al., ICML 2023), and tables are scored with them.
//!
//! Data runs one way: [`data`] → [`model`] and [`propensity`] → [`loss`] → [`fit`] → [`artifact`] → `score`.
//! [`TrainOperator`] and [`ScoreOperator`] are what a host of `counterweight` plugs in.

pub mod artifact;
pub mod data;
pub mod device;
mod error;
pub mod fit;
pub mod loss;
pub mod model;
mod operator;
pub mod propensity;
mod score;

#[cfg(test)]
mod tests;

pub use operator::TrainOperator;
pub use score::ScoreOperator;
