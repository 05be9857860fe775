//! Robust deconfounding of DR (Ding et al., KDD 2022): the worst that a hidden confounder can do that moves the odds of
//! treatment by a factor of at most Γ.
//!
//! - Estimate: max over w of mean(ê + o·(e − ê)·w), with the bounds of `rd-ips`. It trains the prediction.
//! - L_e = max over w of mean(o·(ê − e)²·w). It trains the imputation model.
//!
//! p̂ is a constant in both.

use tch::Tensor;

use super::{Estimate, Losses, Observed};
use crate::loss::estimators::inverse_propensity_bounds;
use crate::loss::imputation::squared_gaps;

pub(super) const LOSSES: Losses =
    Losses::Imputing { estimate: Estimate::Mean(pair_losses), imputation, stabilization: None };

/// The largest ê + o·(e − ê)·w of every pair: linear in w, so that w is at its upper bound where e ≥ ê, and at its lower
/// one elsewhere.
pub(in crate::loss) fn pair_losses(observed: &Observed, imputed: &Tensor) -> Tensor {
    let &Observed { treated, error, propensity, odds_ratio_bound } = observed;
    let (lower, upper) = inverse_propensity_bounds(propensity, odds_ratio_bound);
    let worst = upper.where_self(&error.ge_tensor(imputed), &lower);
    imputed + treated * (error - imputed) * worst
}

/// The largest o·(ê − e)²·w of every pair.
fn imputation(observed: &Observed, imputed: &Tensor) -> Tensor {
    let (_, upper) = inverse_propensity_bounds(observed.propensity, observed.odds_ratio_bound);
    squared_gaps(observed, imputed) * upper
}
