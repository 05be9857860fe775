//! More robust doubly robust (Guo et al., SIGIR 2021): `dr` whose imputation model minimises the variance of the estimate.
//!
//! - Estimate: mean(ê + o·(e − ê)/p̂). It trains the prediction.
//! - L_e = mean(o·(1 − p̂)/p̂²·(ê − e)²). It trains the imputation model.
//!
//! p̂ is a constant in both.

use tch::Tensor;

use super::{Estimate, Losses, Observed, dr};
use crate::loss::imputation::squared_gaps;

pub(super) const LOSSES: Losses =
    Losses::Imputing { estimate: Estimate::Mean(dr::pair_losses), imputation, stabilization: None };

/// o·(1 − p̂)/p̂²·(ê − e)² of every pair.
fn imputation(observed: &Observed, imputed: &Tensor) -> Tensor {
    squared_gaps(observed, imputed) * (1.0 - observed.propensity) / observed.propensity.square()
}
