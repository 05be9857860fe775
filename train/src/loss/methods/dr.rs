//! Doubly robust joint learning, DR-JL (Wang et al., ICML 2019).
//!
//! - Estimate: mean(ê + o·(e − ê)/p̂). It trains the prediction.
//! - L_e = mean(o·(ê − e)²/p̂). It trains the imputation model.
//!
//! p̂ is a constant in both. In the paper the two models take turns; here every step moves both, each from where it was
//! before the step.

use tch::Tensor;

use super::{Estimate, Losses, Observed};
use crate::loss::estimators;
use crate::loss::imputation::squared_gaps;

pub(super) const LOSSES: Losses =
    Losses::Imputing { estimate: Estimate::Mean(pair_losses), imputation, stabilization: None };

pub(super) fn pair_losses(&Observed { treated, error, propensity, .. }: &Observed, imputed: &Tensor) -> Tensor {
    estimators::dr(treated, error, imputed, propensity)
}

/// o·(ê − e)²/p̂ of every pair.
pub(super) fn imputation(observed: &Observed, imputed: &Tensor) -> Tensor {
    squared_gaps(observed, imputed) / observed.propensity
}
