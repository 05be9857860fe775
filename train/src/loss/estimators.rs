//! Estimates of the ideal loss, the mean of e over all pairs, of which e is known where o = 1.

use tch::{Kind, Tensor};

use counterweight::job::{LossSpec, Method};

/// Σ o·e / Σ o; 0 without a treated pair.
pub fn naive_treated(treated: &Tensor, error: &Tensor) -> Tensor {
    (treated * error).sum(None::<Kind>) / treated.sum(None::<Kind>).clamp_min(1.0)
}

/// Σ(o·e/p̂) / Σ(o/p̂); 0 without a treated pair.
pub fn snips(treated: &Tensor, error: &Tensor, propensity: &Tensor) -> Tensor {
    let weight = treated / propensity;
    // A treated pair weighs at least 1.
    (&weight * error).sum(None::<Kind>) / weight.sum(None::<Kind>).clamp_min(1.0)
}

/// o·e/p̂ of every pair: its mean is the estimate, as below.
pub fn ips(treated: &Tensor, error: &Tensor, propensity: &Tensor) -> Tensor {
    treated * error / propensity
}

/// o·e + (1 − o)·ê of every pair.
pub fn eib(treated: &Tensor, error: &Tensor, imputed: &Tensor) -> Tensor {
    imputed + treated * (error - imputed)
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

/// max over w within the bounds of o·e·w, of every pair: e is not negative, so each w is at its upper bound.
pub fn rd_ips(treated: &Tensor, error: &Tensor, propensity: &Tensor, bound: f64) -> Tensor {
    let (_, upper) = inverse_propensity_bounds(propensity, bound);
    treated * error * upper
}

/// max over w within the bounds of ê + o·(e − ê)·w, of every pair: linear in w, so that it is at its upper bound where
/// e ≥ ê, else at its lower one.
pub fn rd_dr(treated: &Tensor, error: &Tensor, imputed: &Tensor, propensity: &Tensor, bound: f64) -> Tensor {
    let (lower, upper) = inverse_propensity_bounds(propensity, bound);
    let worst = upper.where_self(&error.ge_tensor(imputed), &lower);
    imputed + treated * (error - imputed) * worst
}

/// What every pair gives to the estimate of `spec`'s method, where that is the mean of it. `imputed` is there where the
/// method imputes.
pub fn pair_losses(
    spec: &LossSpec,
    treated: &Tensor,
    error: &Tensor,
    imputed: Option<&Tensor>,
    propensity: &Tensor,
) -> Option<Tensor> {
    use Method::{
        Dr, DrV2, Eib, Escm2Dr, Escm2Ips, Esmm, Ips, IpsV2, Mrdr, MultiDr, MultiIps, Naive, RdDr, RdIps, Snips,
        StableDr,
    };
    Some(match (spec.method, imputed) {
        (Naive | Snips | StableDr | Esmm, _) => return None,
        (Ips | MultiIps | Escm2Ips | IpsV2, _) => ips(treated, error, propensity),
        (RdIps, _) => rd_ips(treated, error, propensity, spec.odds_ratio_bound),
        (Eib, Some(imputed)) => eib(treated, error, imputed),
        (Dr | Mrdr | MultiDr | Escm2Dr | DrV2, Some(imputed)) => dr(treated, error, imputed, propensity),
        (RdDr, Some(imputed)) => rd_dr(treated, error, imputed, propensity, spec.odds_ratio_bound),
        (Eib | Dr | Mrdr | MultiDr | Escm2Dr | DrV2 | RdDr, None) => {
            unreachable!("a method that imputes has an imputation model")
        }
    })
}

/// The estimate that `method` minimises, where it has one; `pair_losses` are what [`pair_losses`] gives.
pub fn estimate(
    method: Method,
    pair_losses: Option<&Tensor>,
    treated: &Tensor,
    error: &Tensor,
    propensity: &Tensor,
) -> Option<Tensor> {
    match (method, pair_losses) {
        (_, Some(losses)) => Some(losses.mean(None::<Kind>)),
        (Method::Naive, None) => Some(naive_treated(treated, error)),
        (Method::Snips | Method::StableDr, None) => Some(snips(treated, error, propensity)),
        (_, None) => None,
    }
}
