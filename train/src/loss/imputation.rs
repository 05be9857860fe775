//! The imputed error, and the losses that make it fit.

use tch::{Kind, Tensor};

use super::estimators::inverse_propensity_bounds;
use counterweight::job::{ImputedError, LossSpec, Method, PointLoss};

/// ê of every pair: in [0, 1] where the error is squared, positive where it is cross-entropy, and (r̂ − label)² for the
/// pseudo-label sigmoid(`logit`).
pub fn imputed_error(spec: &LossSpec, logit: &Tensor, prediction: &Tensor) -> Tensor {
    match (spec.imputed_error, spec.prediction_loss) {
        (ImputedError::PseudoLabel, _) => (prediction - logit.sigmoid()).square(),
        (ImputedError::Output, PointLoss::SquaredError) => logit.sigmoid(),
        (ImputedError::Output, PointLoss::CrossEntropy) => logit.softplus(),
    }
}

/// L_e = mean(o·weight·(ê − e)²): the weight is 1/p̂, but for `eib` 1, for `mrdr` (1 − p̂)/p̂², and for `rd-dr` the largest
/// inverse propensity within the bounds.
pub fn imputation(spec: &LossSpec, treated: &Tensor, error: &Tensor, imputed: &Tensor, propensity: &Tensor) -> Tensor {
    let squares = treated * (imputed - error).square();
    let weighted: Tensor = match spec.method {
        Method::Eib => squares,
        Method::Mrdr => squares * (1.0 - propensity) / propensity.square(),
        Method::RdDr => squares * inverse_propensity_bounds(propensity, spec.odds_ratio_bound).1,
        _ => squares / propensity,
    };
    weighted.mean(None::<Kind>)
}

/// mean((1 − o/p̂)(ê − mean ê))²: where it is 0, the self-normalised estimate of the mean of ê is its mean (Li et al.,
/// ICLR 2023).
pub fn stabilization(treated: &Tensor, imputed: &Tensor, propensity: &Tensor) -> Tensor {
    let gap: Tensor = (1.0 - treated / propensity) * (imputed - imputed.mean(None::<Kind>));
    gap.mean(None::<Kind>).square()
}
