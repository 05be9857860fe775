//! Formulas that several methods estimate the ideal loss by: the mean of e over all pairs, of which e is known where
//! o = 1.

use tch::{Kind, Tensor};

/// Σ(o·e/p̂) / Σ(o/p̂); 0 without a treated pair.
pub fn snips(treated: &Tensor, error: &Tensor, propensity: &Tensor) -> Tensor {
    let weight = treated / propensity;
    // A treated pair weighs at least 1.
    (&weight * error).sum(None::<Kind>) / weight.sum(None::<Kind>).clamp_min(1.0)
}

/// o·e/p̂ of every pair.
pub fn ips(treated: &Tensor, error: &Tensor, propensity: &Tensor) -> Tensor {
    treated * error / propensity
}

/// ê + o·(e − ê)/p̂ of every pair.
pub fn dr(treated: &Tensor, error: &Tensor, imputed: &Tensor, propensity: &Tensor) -> Tensor {
    imputed + treated * (error - imputed) / propensity
}

/// The inverse propensities that are possible where a hidden confounder moves the odds of treatment by a factor of at
/// most `bound`, Γ: from 1 + (1/p̂ − 1)/Γ to 1 + (1/p̂ − 1)·Γ.
pub fn inverse_propensity_bounds(propensity: &Tensor, bound: f64) -> (Tensor, Tensor) {
    let inverse_odds = propensity.reciprocal() - 1.0;
    (&inverse_odds / bound + 1.0, inverse_odds * bound + 1.0)
}
