//! Entire-space counterfactual multi-task model on IPS, ESCM²-IPS (Wang et al., SIGIR 2022).
//!
//! Estimate: mean(o·e/p̂). It trains the prediction; p̂ is a constant in it. The click-and-convert loss is added, with
//! weight α; it trains the propensity and the prediction model.

use super::{Losses, ips};

pub(super) const LOSSES: Losses = ips::LOSSES;
