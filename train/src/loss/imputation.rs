//! The imputed error, and what imputation losses are made of.

use tch::Tensor;

use super::methods::Observed;
use counterweight::job::{ImputedError, LossSpec, PointLoss};

/// ê of every pair: in [0, 1] where the error is squared, positive where it is cross-entropy, and (r̂ − label)² for the
/// pseudo-label sigmoid(`logit`).
pub fn imputed_error(spec: &LossSpec, logit: &Tensor, prediction: &Tensor) -> Tensor {
    match (spec.imputed_error, spec.prediction_loss) {
        (ImputedError::PseudoLabel, _) => (prediction - logit.sigmoid()).square(),
        (ImputedError::Output, PointLoss::SquaredError) => logit.sigmoid(),
        (ImputedError::Output, PointLoss::CrossEntropy) => logit.softplus(),
    }
}

/// o·(ê − e)² of every pair.
pub fn squared_gaps(observed: &Observed, imputed: &Tensor) -> Tensor {
    observed.treated * (imputed - observed.error).square()
}
