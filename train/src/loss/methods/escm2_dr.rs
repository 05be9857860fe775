//! Entire-space counterfactual multi-task model on DR, ESCM²-DR (Wang et al., SIGIR 2022).
//!
//! - Estimate: mean(ê + o·(e − ê)/p̂).
//! - L_e = mean(o·(ê − e)²/p̂).
//!
//! Both train the prediction and the imputation model; p̂ is a constant in them. The click-and-convert loss is added, with
//! weight α; it trains the propensity and the prediction model.

use super::{Losses, dr};

pub(super) const LOSSES: Losses = dr::LOSSES;
