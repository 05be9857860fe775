//! The loss of a batch: an estimate of the ideal loss, what is trained beside it, and a regulariser.
//!
//! o is the treatment, r the outcome, p̂ the propensity, r̂ the prediction, e = L(r̂, r) its error, ê the imputed error
//! and φ the balancing representation, each a tensor with one value a pair. Means are over all pairs of the batch,
//! treated or not.
//!
//! [`estimators`] hold what a method minimises in place of the ideal loss, [`point`] and [`mod@imputation`] the losses of
//! the models that it needs, [`regularizers`] what may be added to any method; [`terms`] puts them together. [`optimum`] is
//! about how much a regulariser should weigh.

pub mod estimators;
pub mod imputation;
pub mod optimum;
pub mod point;
pub mod regularizers;

use tch::{Kind, Tensor};

use self::estimators::{estimate, pair_losses};
use self::imputation::{imputation, imputed_error, stabilization};
use self::point::{ctcvr, point_loss};
use crate::data::sampler::Batch;
use crate::model::Scores;
use counterweight::job::{Lambda, LossSpec, Method};

/// What the models say of a batch.
#[derive(Debug)]
pub struct Outputs {
    /// The propensity model: p̂ is the sigmoid of its scores.
    pub propensity: Scores,
    /// The prediction model: r̂ is the sigmoid of its scores.
    pub prediction: Scores,
    /// The imputation model, where the method has one.
    pub imputation: Option<Scores>,
    /// p̂ of the estimate and of L_e where it is not the propensity model's; known of treated pairs.
    pub fixed_propensity: Option<Tensor>,
}

/// One summand of a loss.
#[derive(Debug)]
struct Term {
    name: &'static str,
    weight: f64,
    /// The summand before it is weighted, a scalar.
    value: Tensor,
}

/// The summands of a loss; those that it does not have are absent.
#[derive(Debug)]
pub struct Terms {
    terms: Vec<Term>,
    /// What [`optimum::moments`] gives, where λ is to be the optimum.
    pub moments: Option<Tensor>,
}

/// p̂ kept `clip` away from 0 and 1, for use as a divisor; where it is cut its gradient is 0.
pub fn clipped(propensity: &Tensor, clip: f64) -> Tensor {
    propensity.clamp(clip, 1.0 - clip)
}

/// Every term of the loss that `spec` describes: L_p + β·estimate + α·CTCVR + L_e + η·stabilisation + λ·regulariser, λ
/// being `lambda`.
pub fn terms(spec: &LossSpec, lambda: f64, outputs: &Outputs, batch: &Batch) -> Terms {
    let Batch { treated, outcome, .. } = batch;
    let propensity_logit = &outputs.propensity.logit;
    let (prediction_logit, prediction) = (&outputs.prediction.logit, outputs.prediction.probability());
    let propensity = outputs.propensity.probability();
    let divisor = clipped(&propensity, spec.propensity_clip);
    let inverse_only = match &outputs.fixed_propensity {
        Some(fixed) => clipped(fixed, spec.propensity_clip),
        None => stopped_if(spec.stop_gradient, &divisor),
    };
    let error = point_loss(spec.prediction_loss, prediction_logit, outcome);
    let imputed = outputs.imputation.as_ref().map(|scores| Imputed::new(spec, &scores.logit, &prediction));
    let in_estimate = imputed.as_ref().map(|imputed| &imputed.in_estimate);
    let pair_losses = pair_losses(spec, treated, &error, in_estimate, &inverse_only);

    let mut terms = Vec::new();
    let mut add = |name, weight, value| terms.push(Term { name, weight, value });
    let l_p = point_loss(spec.propensity_loss, propensity_logit, treated).mean(None::<Kind>);
    add("propensity", spec.propensity_weight, l_p);
    if let Some(estimate) = estimate(spec.method, pair_losses.as_ref(), treated, &error, &inverse_only) {
        add("estimator", spec.estimator_weight, estimate);
    }
    if spec.ctcvr_weight > 0.0 {
        let pairs = ctcvr(spec.ctcvr_loss, propensity_logit, prediction_logit, &(treated * outcome));
        add("ctcvr", spec.ctcvr_weight, pairs.mean(None::<Kind>));
    }
    if let Some(Imputed { in_l_e, .. }) = &imputed {
        let error = stopped_if(spec.stop_imputation_gradient, &error);
        add("imputation", spec.imputation_weight, imputation(spec, treated, &error, in_l_e, &inverse_only));
        if spec.method == Method::StableDr {
            add("stabilization", spec.stabilization_weight, stabilization(treated, &in_l_e.detach(), &divisor));
        }
    }
    if lambda > 0.0 {
        let pairs = regularizers::Pairs {
            treated,
            propensity: &propensity,
            divisor: &divisor,
            prediction: &prediction,
            residual: &in_estimate.map_or_else(|| error.shallow_clone(), |imputed| &error - imputed),
        };
        let value = regularizers::regularizer(spec, &pairs, batch.layout, &outputs.propensity);
        add(spec.regularizer.name(), lambda, value);
    }
    let moments = pair_losses.filter(|_| spec.lambda == Lambda::Optimal).map(|losses| {
        let weight = regularizers::balance_weight(treated, &divisor);
        optimum::moments(spec.phi, batch.layout, &losses, &weight, &outputs.propensity, &prediction)
    });
    Terms { terms, moments }
}

/// ê of every pair as each term has it: the same values, but for what their gradients reach.
struct Imputed {
    in_estimate: Tensor,
    in_l_e: Tensor,
}

impl Imputed {
    fn new(spec: &LossSpec, logit: &Tensor, prediction: &Tensor) -> Self {
        if spec.stop_imputation_gradient {
            Self {
                in_estimate: imputed_error(spec, &logit.detach(), prediction),
                in_l_e: imputed_error(spec, logit, &prediction.detach()),
            }
        } else {
            let imputed = imputed_error(spec, logit, prediction);
            Self { in_estimate: imputed.shallow_clone(), in_l_e: imputed }
        }
    }
}

/// The same values, as constants where `stop` says so.
fn stopped_if(stop: bool, values: &Tensor) -> Tensor {
    if stop { values.detach() } else { values.shallow_clone() }
}

impl Terms {
    /// The loss: the sum of the weighted terms.
    pub fn total(&self) -> Tensor {
        let weighted = self.terms.iter().map(|term| &term.value * term.weight);
        weighted.reduce(|sum, term| sum + term).expect("L_p is always there")
    }

    /// The names of the terms, a regulariser's its own, and `total`.
    pub fn names(&self) -> Vec<&'static str> {
        self.terms.iter().map(|term| term.name).chain(["total"]).collect()
    }

    /// The terms and `total`, for a record: unweighted, detached, on their device.
    pub fn values(&self, total: &Tensor) -> Tensor {
        let terms = self.terms.iter().map(|term| term.value.detach());
        Tensor::stack(&terms.chain([total.detach()]).collect::<Vec<_>>(), 0)
    }
}

#[cfg(test)]
mod tests;
