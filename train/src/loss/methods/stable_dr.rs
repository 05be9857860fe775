//! Stabilised doubly robust (Li et al., ICLR 2023).
//!
//! - Estimate: Σ(o·e/p̂) / Σ(o/p̂). It trains the prediction; p̂ is a constant in it.
//! - L_e = mean(o·(ê − e)²/p̂). It trains the imputation model; p̂ is a constant in it.
//! - Stabilisation: mean((1 − o/p̂)(ê − mean ê))². It trains the propensity model. Where it is 0, the self-normalised
//!   estimate of the mean of ê is its mean, which makes the estimate doubly robust.

use tch::{Kind, Tensor};

use super::{Estimate, Losses, Observed, dr};
use crate::loss::estimators;

pub(super) const LOSSES: Losses = Losses::Imputing {
    estimate: Estimate::Ratio(estimate),
    imputation: dr::imputation,
    stabilization: Some(stabilization),
};

fn estimate(&Observed { treated, error, propensity, .. }: &Observed, _imputed: &Tensor) -> Tensor {
    estimators::snips(treated, error, propensity)
}

/// mean((1 − o/p̂)(ê − mean ê))².
pub(in crate::loss) fn stabilization(&Observed { treated, propensity, .. }: &Observed, imputed: &Tensor) -> Tensor {
    let gap: Tensor = (1.0 - treated / propensity) * (imputed - imputed.mean(None::<Kind>));
    gap.mean(None::<Kind>).square()
}
