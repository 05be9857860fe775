//! The loss of a batch: an estimate of the ideal loss, what is trained beside it, and a regularizer.
//!
//! o is the treatment, r the outcome, p̂ the propensity, r̂ the prediction, e = L(r̂, r) its error, ê the imputed error
//! and φ the balancing representation, each a tensor with one value a pair. Means are over all pairs of the batch,
//! treated or not.
//!
//! A file of [`methods`] has what a method minimises in place of the ideal loss, of the formulas of [`estimators`] and
//! [`imputation`]; [`point`] has L_p and the click-and-convert loss, and [`regularizers`] what may be added to any method.
//! [`terms`] puts them together. [`optimum`] is about how much a regularizer should weigh.

pub mod estimators;
pub mod imputation;
pub mod methods;
pub mod optimum;
pub mod point;
pub mod regularizers;

use tch::{Kind, Tensor};

use self::imputation::imputed_error;
use self::methods::{Estimate, Losses, Observed, losses};
use self::point::{ctcvr, point_loss};
use crate::data::sampler::Batch;
use crate::model::Scores;
use counterweight::error::{Result, invalid};
use counterweight::job::{Lambda, LossSpec};

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

/// Every term of the loss that `spec` describes: L_p + β·estimate + α·CTCVR + L_e + η·stabilisation + λ·regularizer, λ
/// being `lambda`.
///
/// # Errors
/// Where the method imputes errors, and `outputs` lack those of an imputation model.
pub fn terms(spec: &LossSpec, lambda: f64, outputs: &Outputs, batch: &Batch) -> Result<Terms> {
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
    let bound = spec.odds_ratio_bound;
    let observed = Observed { treated, error: &error, propensity: &inverse_only, odds_ratio_bound: bound };
    let (estimate, imputing) = match (losses(spec.method), &outputs.imputation) {
        (Losses::Plain { estimate }, _) => (estimate.map(|of| of(&observed)), None),
        (Losses::Imputing { estimate, imputation, stabilization }, Some(scores)) => {
            let imputed = Imputed::new(spec, &scores.logit, &prediction);
            let estimate = estimate.map(|of| of(&observed, &imputed.in_estimate));
            (estimate, Some((imputed, imputation, stabilization)))
        }
        (Losses::Imputing { .. }, None) => {
            invalid!("train.loss.method = {:?} needs an imputation model, and there is none", spec.method.info().name)
        }
    };

    let mut terms = Vec::new();
    let mut add = |name, weight, value| terms.push(Term { name, weight, value });
    let l_p = point_loss(spec.propensity_loss, propensity_logit, treated).mean(None::<Kind>);
    add("propensity", spec.propensity_weight, l_p);
    match &estimate {
        Estimate::Mean(losses) => add("estimator", spec.estimator_weight, losses.mean(None::<Kind>)),
        Estimate::Ratio(value) => add("estimator", spec.estimator_weight, value.shallow_clone()),
        Estimate::None => {}
    }
    if spec.ctcvr_weight > 0.0 {
        let pairs = ctcvr(spec.ctcvr_loss, propensity_logit, prediction_logit, &(treated * outcome));
        add("ctcvr", spec.ctcvr_weight, pairs.mean(None::<Kind>));
    }
    if let Some((Imputed { in_l_e, .. }, imputation, stabilization)) = &imputing {
        let error = stopped_if(spec.stop_imputation_gradient, &error);
        let l_e = imputation(&Observed { error: &error, ..observed }, in_l_e);
        add("imputation", spec.imputation_weight, l_e.mean(None::<Kind>));
        if let Some(stabilization) = stabilization {
            let value = stabilization(&Observed { propensity: &divisor, ..observed }, &in_l_e.detach());
            add("stabilization", spec.stabilization_weight, value);
        }
    }
    if lambda > 0.0 {
        let residual = match &imputing {
            Some((Imputed { in_estimate, .. }, ..)) => &error - in_estimate,
            None => error.shallow_clone(),
        };
        let pairs = regularizers::Pairs {
            treated,
            propensity: &propensity,
            divisor: &divisor,
            prediction: &prediction,
            residual: &residual,
        };
        let value = regularizers::regularizer(spec, &pairs, batch.layout, &outputs.propensity);
        add(spec.regularizer.name(), lambda, value);
    }
    let moments = match &estimate {
        Estimate::Mean(losses) if spec.lambda == Lambda::Optimal => {
            let weight = regularizers::balance_weight(treated, &divisor);
            Some(optimum::moments(spec.phi, batch.layout, losses, &weight, &outputs.propensity, &prediction))
        }
        _ => None,
    };
    Ok(Terms { terms, moments })
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

    /// The names of the terms, a regularizer's its own, and `total`.
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
