//! Inverse propensity scoring (Schnabel et al., ICML 2016).
//!
//! Estimate: mean(o·e/p̂). It trains the prediction; p̂ is a constant in it.

use tch::Tensor;

use super::{Estimate, Losses, Observed};
use crate::loss::estimators;

pub(super) const LOSSES: Losses = Losses::Plain { estimate: Estimate::Mean(pair_losses) };

fn pair_losses(&Observed { treated, error, propensity, .. }: &Observed) -> Tensor {
    estimators::ips(treated, error, propensity)
}
