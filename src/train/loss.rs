//! The losses of IPS-V2 and DR-V2 (Li et al., ICML 2023), on tensors with one value a pair.
//!
//! o is the treatment, r the outcome, p̂ the propensity, r̂ the prediction, e = L(r̂, r) its error, ê the imputed error
//! and φ the balancing representation. Means are over all pairs of the batch, treated or not.

use tch::{Kind, Reduction, Tensor};

use super::model::{Rows, Scores};
use super::sampler::{Batch, Layout};
use crate::job::{ImputedError, LossSpec, Method, Phi, PointLoss};

/// What the models say of a batch.
#[derive(Debug)]
pub struct Outputs {
    /// The propensity model: p̂ is the sigmoid of its scores.
    pub propensity: Scores,
    /// The prediction model: r̂ is the sigmoid of its scores.
    pub prediction: Scores,
    /// The imputation model, of `dr-v2` only.
    pub imputation: Option<Scores>,
}

/// The terms of a loss before they are weighted, each a scalar; those that the loss does not have are absent.
#[derive(Debug)]
pub struct Terms {
    /// L_p.
    pub propensity: Tensor,
    /// The IPS or DR estimate of the ideal loss.
    pub estimator: Tensor,
    /// BMSE.
    pub balance: Tensor,
    /// The click-and-convert loss, where its weight is not 0.
    pub ctcvr: Option<Tensor>,
    /// L_e, of `dr-v2` only.
    pub imputation: Option<Tensor>,
}

/// A per-pair loss between the probability sigmoid(`logit`) and `target`; cross-entropy stays finite at any logit.
pub fn point_loss(kind: PointLoss, logit: &Tensor, target: &Tensor) -> Tensor {
    match kind {
        PointLoss::CrossEntropy => {
            logit.binary_cross_entropy_with_logits::<&Tensor>(target, None, None, Reduction::None)
        }
        PointLoss::SquaredError => (logit.sigmoid() - target).square(),
    }
}

/// p̂ kept `clip` away from 0 and 1, for use as a divisor; where it is cut its gradient is 0.
pub fn clipped(propensity: &Tensor, clip: f64) -> Tensor {
    propensity.clamp(clip, 1.0 - clip)
}

/// The IPS estimate of the ideal loss: mean(o·e/p̂).
pub fn ips(treated: &Tensor, error: &Tensor, propensity: &Tensor) -> Tensor {
    (treated * error / propensity).mean(None::<Kind>)
}

/// The DR estimate of the ideal loss: mean(ê + o·(e − ê)/p̂).
pub fn dr(treated: &Tensor, error: &Tensor, imputed: &Tensor, propensity: &Tensor) -> Tensor {
    (imputed + treated * (error - imputed) / propensity).mean(None::<Kind>)
}

/// L_e = mean(o·(ê − e)²/p̂).
pub fn imputation(treated: &Tensor, error: &Tensor, imputed: &Tensor, propensity: &Tensor) -> Tensor {
    (treated * (imputed - error).square() / propensity).mean(None::<Kind>)
}

/// The click-and-convert loss: mean((p̂·r̂ − o·r)²).
pub fn ctcvr(treated: &Tensor, outcome: &Tensor, propensity: &Tensor, prediction: &Tensor) -> Tensor {
    (propensity * prediction - treated * outcome).square().mean(None::<Kind>)
}

/// ê of every pair: in [0, 1] where the error is squared, positive where it is cross-entropy, and (r̂ − label)² for the
/// pseudo-label sigmoid(`logit`).
pub fn imputed_error(spec: &LossSpec, logit: &Tensor, prediction: &Tensor) -> Tensor {
    match (spec.imputed_error, spec.prediction_loss) {
        (ImputedError::PseudoLabel, _) => (prediction - logit.sigmoid()).square(),
        (ImputedError::Output, PointLoss::SquaredError) => logit.sigmoid(),
        (ImputedError::Output, PointLoss::CrossEntropy) => logit.softplus(),
    }
}

/// The balance weight of every pair: o/p̂ − (1 − o)/(1 − p̂).
pub fn balance_weight(treated: &Tensor, propensity: &Tensor) -> Tensor {
    treated / propensity - (1.0 - treated) / (1.0 - propensity)
}

/// Σ w·φ over the pairs of a batch, `[dim φ]`, without φ of any pair of a block being made.
///
/// `embeddings` are the propensity model's, `prediction` is r̂.
pub fn weighted_phi(
    phi: Phi,
    layout: Layout,
    weight: &Tensor,
    embeddings: &Rows,
    prediction: impl FnOnce() -> Tensor,
) -> Tensor {
    let (user, item) = (&embeddings.user, &embeddings.item);
    let over_rows = |values: Tensor| values.sum_dim_intlist(0, false, None::<Kind>);
    match (phi, layout) {
        (Phi::One, _) => weight.sum(None::<Kind>).view(1),
        (Phi::Prediction, _) => (weight * prediction()).sum(None::<Kind>).view(1),
        // Σ_ui w_ui p_u ⊙ q_i = Σ_u p_u ⊙ (W·Q)_u
        (Phi::Product, Layout::Block) => over_rows(user * weight.matmul(item)),
        (Phi::Product, Layout::Pairs) => (user * item).transpose(0, 1).mv(weight),
        // Σ_ui w_ui [p_u : q_i] = [Σ_u p_u (W·1)_u : Σ_i q_i (Wᵀ·1)_i]
        (Phi::Concatenation, Layout::Block) => {
            let (by_user, by_item) =
                (weight.sum_dim_intlist(1, false, None::<Kind>), over_rows(weight.shallow_clone()));
            Tensor::cat(&[user.transpose(0, 1).mv(&by_user), item.transpose(0, 1).mv(&by_item)], 0)
        }
        (Phi::Concatenation, Layout::Pairs) => {
            Tensor::cat(&[user.transpose(0, 1).mv(weight), item.transpose(0, 1).mv(weight)], 0)
        }
    }
}

/// BMSE = ‖mean(w·φ)‖², from Σ w·φ over `pairs` pairs.
pub fn bmse(weighted_phi: &Tensor, pairs: usize) -> Tensor {
    (weighted_phi / pairs as f64).square().sum(None::<Kind>)
}

/// Every term of the loss that `spec` describes.
pub fn terms(spec: &LossSpec, outputs: &Outputs, batch: &Batch) -> Terms {
    let Batch { treated, outcome, .. } = batch;
    let (propensity, prediction) = (outputs.propensity.probability(), outputs.prediction.probability());
    let divisor = clipped(&propensity, spec.propensity_clip);
    let inverse_only = if spec.stop_gradient { divisor.detach() } else { divisor.shallow_clone() };
    let error = point_loss(spec.prediction_loss, &outputs.prediction.logit, outcome);

    let (estimator, imputation) = match (spec.method, &outputs.imputation) {
        (Method::DrV2, Some(scores)) => {
            let imputed = imputed_error(spec, &scores.logit, &prediction);
            let estimator = dr(treated, &error, &imputed, &inverse_only);
            (estimator, Some(imputation(treated, &error, &imputed, &inverse_only)))
        }
        _ => (ips(treated, &error, &inverse_only), None),
    };
    let weight = balance_weight(treated, &divisor);
    let sum = weighted_phi(spec.phi, batch.layout, &weight, &outputs.propensity.rows, || prediction.shallow_clone());
    Terms {
        propensity: point_loss(spec.propensity_loss, &outputs.propensity.logit, treated).mean(None::<Kind>),
        estimator,
        balance: bmse(&sum, batch.pairs()),
        ctcvr: (spec.ctcvr_weight > 0.0).then(|| ctcvr(treated, outcome, &propensity, &prediction)),
        imputation,
    }
}

impl Terms {
    /// Each term with its name and its weight.
    fn weighted(&self, spec: &LossSpec) -> impl Iterator<Item = (&'static str, f64, &Tensor)> {
        [
            ("propensity", spec.propensity_weight, Some(&self.propensity)),
            ("estimator", spec.estimator_weight, Some(&self.estimator)),
            ("balance", spec.balance_weight, Some(&self.balance)),
            ("ctcvr", spec.ctcvr_weight, self.ctcvr.as_ref()),
            ("imputation", spec.imputation_weight, self.imputation.as_ref()),
        ]
        .into_iter()
        .filter_map(|(name, weight, term)| Some((name, weight, term?)))
    }

    /// The loss: L_p + α·CTCVR + β·IPS + γ·BMSE, or L_p + α·CTCVR + β·DR + L_e + γ·BMSE, each with its weight.
    ///
    /// With α = 0 and the other weights but γ at 1 these are the losses as printed, and λ = γ.
    pub fn total(&self, spec: &LossSpec) -> Tensor {
        let terms = self.weighted(spec).map(|(_, weight, term)| term * weight);
        terms.reduce(|sum, term| sum + term).expect("at least one term")
    }

    /// The names of the terms, and `total`.
    pub fn names(&self, spec: &LossSpec) -> Vec<&'static str> {
        self.weighted(spec).map(|(name, _, _)| name).chain(["total"]).collect()
    }

    /// The terms and `total`, for a record: unweighted, detached, on their device.
    pub fn values(&self, spec: &LossSpec, total: &Tensor) -> Tensor {
        let terms = self.weighted(spec).map(|(_, _, term)| term.detach());
        Tensor::stack(&terms.chain([total.detach()]).collect::<Vec<_>>(), 0)
    }
}

#[cfg(test)]
mod tests;
