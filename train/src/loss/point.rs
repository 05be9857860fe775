//! Losses that compare a probability with a 0/1 value, pair by pair.

use tch::{Reduction, Tensor};

use counterweight::job::PointLoss;

/// A per-pair loss between the probability sigmoid(`logit`) and `target`; cross-entropy stays finite at any logit.
pub fn point_loss(kind: PointLoss, logit: &Tensor, target: &Tensor) -> Tensor {
    match kind {
        PointLoss::CrossEntropy => {
            logit.binary_cross_entropy_with_logits::<&Tensor>(target, None, None, Reduction::None)
        }
        PointLoss::SquaredError => (logit.sigmoid() - target).square(),
    }
}

/// The click-and-convert loss of every pair: L(p̂·r̂, o·r), from the logits of p̂ and r̂ (Ma et al., SIGIR 2018).
pub fn ctcvr(kind: PointLoss, propensity: &Tensor, prediction: &Tensor, target: &Tensor) -> Tensor {
    match kind {
        PointLoss::CrossEntropy => {
            let (log_p, log_r) = (propensity.log_sigmoid(), prediction.log_sigmoid());
            // 1 − p·r = (1 − p) + p·(1 − r)
            let log_not = (-propensity).log_sigmoid().logaddexp(&(&log_p + (-prediction).log_sigmoid()));
            let likelihood: Tensor = target * (log_p + log_r) + (1.0 - target) * log_not;
            -likelihood
        }
        PointLoss::SquaredError => (propensity.sigmoid() * prediction.sigmoid() - target).square(),
    }
}
