//! Self-normalised inverse propensity scoring (Swaminathan and Joachims, NeurIPS 2015).
//!
//! Estimate: Σ(o·e/p̂) / Σ(o/p̂). It trains the prediction; p̂ is a constant in it.

use tch::Tensor;

use super::{Estimate, Losses, Observed};
use crate::loss::estimators;

pub(super) const LOSSES: Losses = Losses::Plain { estimate: Estimate::Ratio(estimate) };

fn estimate(&Observed { treated, error, propensity, .. }: &Observed) -> Tensor {
    estimators::snips(treated, error, propensity)
}
