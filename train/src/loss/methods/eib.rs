//! Error imputation (Steck, KDD 2010): no propensity occurs in it.
//!
//! - Estimate: mean(o·e + (1 − o)·ê). It trains the prediction.
//! - L_e = mean(o·(ê − e)²). It trains the imputation model.

use tch::Tensor;

use super::{Estimate, Losses, Observed};
use crate::loss::imputation::squared_gaps;

pub(super) const LOSSES: Losses =
    Losses::Imputing { estimate: Estimate::Mean(pair_losses), imputation: squared_gaps, stabilization: None };

/// o·e + (1 − o)·ê of every pair.
pub(in crate::loss) fn pair_losses(&Observed { treated, error, .. }: &Observed, imputed: &Tensor) -> Tensor {
    imputed + treated * (error - imputed)
}
