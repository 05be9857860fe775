//! Entire-space multi-task model (Ma et al., SIGIR 2018).
//!
//! No estimate: the click-and-convert loss, mean(L(p̂·r̂, o·r)), trains the propensity and the prediction model.

use super::{Estimate, Losses};

pub(super) const LOSSES: Losses = Losses::Plain { estimate: Estimate::None };
