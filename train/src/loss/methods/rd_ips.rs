//! Robust deconfounding of IPS (Ding et al., KDD 2022): the worst that a hidden confounder can do that moves the odds of
//! treatment by a factor of at most Γ.
//!
//! Estimate: max over w of mean(o·e·w), with 1 + (1/p̂ − 1)/Γ ≤ w ≤ 1 + (1/p̂ − 1)·Γ. It trains the prediction; p̂ is a
//! constant in it.

use tch::Tensor;

use super::{Estimate, Losses, Observed};
use crate::loss::estimators::inverse_propensity_bounds;

pub(super) const LOSSES: Losses = Losses::Plain { estimate: Estimate::Mean(pair_losses) };

/// The largest o·e·w of every pair: e is not negative, so each w is at its upper bound.
pub(in crate::loss) fn pair_losses(observed: &Observed) -> Tensor {
    let &Observed { treated, error, propensity, odds_ratio_bound } = observed;
    let (_, upper) = inverse_propensity_bounds(propensity, odds_ratio_bound);
    treated * error * upper
}
