//! `[train.loss]`: what is minimised.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{EstimateFormula, Lambda, Method, one};
use crate::error::{Result, invalid};
use crate::job::validate::non_negative;

/// The loss: an estimate of the ideal loss, what is trained beside it, and a regularizer, each with its weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LossSpec {
    /// What is minimised in place of the ideal loss.
    pub method: Method,
    /// The regularizer, whose weight is `lambda`.
    #[serde(default)]
    pub regularizer: Regularizer,
    /// The balancing representation of BMSE.
    #[serde(default)]
    pub phi: Phi,
    /// L_p: how the propensity model is fitted to the treatment.
    #[serde(default)]
    pub propensity_loss: PointLoss,
    /// L: how a prediction is compared with an outcome; e = L(r̂, r).
    #[serde(default = "squared_error")]
    pub prediction_loss: PointLoss,
    /// How p̂·r̂ is compared with o·r.
    #[serde(default = "squared_error")]
    pub ctcvr_loss: PointLoss,
    /// ê: how the imputation model gives an imputed error.
    #[serde(default)]
    pub imputed_error: ImputedError,
    /// Weight of L_p.
    #[serde(default = "one")]
    #[schemars(range(min = 0))]
    pub propensity_weight: f64,
    /// α: weight of the click-and-convert loss, the mean over all pairs of L(p̂·r̂, o·r); 0 leaves it out.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub ctcvr_weight: f64,
    /// β: weight of the estimate of the ideal loss.
    #[serde(default = "one")]
    #[schemars(range(min = 0))]
    pub estimator_weight: f64,
    /// λ, or γ where β is not 1: weight of the regularizer.
    #[serde(default)]
    pub lambda: Lambda,
    /// Weight of L_e.
    #[serde(default = "one")]
    #[schemars(range(min = 0))]
    pub imputation_weight: f64,
    /// η: weight of the stabilisation of `stable-dr`.
    #[serde(default = "one")]
    #[schemars(range(min = 0))]
    pub stabilization_weight: f64,
    /// Γ of `rd-ips` and `rd-dr`: how far a hidden confounder may move the odds of treatment, as a factor; at least 1.
    #[serde(default = "odds_ratio_bound")]
    #[schemars(range(min = 1))]
    pub odds_ratio_bound: f64,
    /// Whether p̂ in the estimate and in L_e is taken as a constant, so that they do not train the propensity.
    #[serde(default)]
    pub stop_gradient: bool,
    /// Whether the imputation model in the estimate, and the prediction in L_e, are taken as constants, so that the
    /// estimate alone trains the prediction and L_e alone the imputation.
    #[serde(default)]
    pub stop_imputation_gradient: bool,
    /// p̂ is kept at least this far from 0 and 1 wherever it divides.
    #[serde(default = "propensity_clip")]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 0.5))]
    pub propensity_clip: f64,
}

pub(super) fn squared_error() -> PointLoss {
    PointLoss::SquaredError
}

fn propensity_clip() -> f64 {
    1e-6
}

fn odds_ratio_bound() -> f64 {
    2.0
}

/// What keeps the propensities from extremes, or makes them balance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Regularizer {
    /// ‖mean(w·φ)‖², w = o/p̂ − (1 − o)/(1 − p̂) (Li et al., ICML 2023).
    #[default]
    Bmse,
    /// (‖Σ w·φ‖² − Σ w²‖φ‖²) / (n(n − 1)): the same without its noise floor, so that its mean over batches does not
    /// depend on their size. May be negative.
    BmseUnbiased,
    /// Sample variance of p̂ (Wang et al., WSDM 2021, as Li et al. have it).
    Sv,
    /// Mean inverse square: mean(1/p̂²) (Wang et al., WSDM 2021, as Li et al. have it).
    Mis,
    /// Estimated variance of the estimator: Σ o(1 − p̂)e²/p̂² / n², with e − ê for e where the method imputes (Guo et
    /// al., SIGIR 2021).
    Variance,
}

impl Regularizer {
    /// Its name in job files and in the record of losses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bmse => "bmse",
            Self::BmseUnbiased => "bmse-unbiased",
            Self::Sv => "sv",
            Self::Mis => "mis",
            Self::Variance => "variance",
        }
    }
}

/// The balancing representation φ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Phi {
    /// φ = 1 ("1" in Li et al.).
    #[default]
    Constant,
    /// The element-wise product of the propensity model's embeddings, p_u ⊙ q_i ("K" in Li et al.).
    Product,
    /// Their concatenation, [p_u : q_i] ("2K" in Li et al.).
    Concat,
    /// The prediction r̂ ("R" in Li et al.).
    Prediction,
    /// The last hidden layer of the propensity model's MLP head: the representation that its score is linear in.
    Learned,
}

/// How a probability is compared with a 0/1 value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PointLoss {
    /// −y·log(p) − (1−y)·log(1−p).
    #[default]
    CrossEntropy,
    /// (p − y)².
    SquaredError,
}

/// How the imputation model gives an imputed error ê.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ImputedError {
    /// ê is the model's output.
    #[default]
    Output,
    /// The model gives a pseudo-label, and ê = (r̂ − pseudo-label)²; its gradient trains r̂ too.
    PseudoLabel,
}

impl LossSpec {
    pub(super) fn validate(&self) -> Result<()> {
        let weights = [
            ("propensity_weight", self.propensity_weight),
            ("ctcvr_weight", self.ctcvr_weight),
            ("estimator_weight", self.estimator_weight),
            ("imputation_weight", self.imputation_weight),
            ("stabilization_weight", self.stabilization_weight),
        ];
        for (key, value) in weights {
            non_negative(&format!("train.loss.{key}"), value)?;
        }
        self.lambda.validate()?;
        if self.lambda == Lambda::Optimal {
            self.validate_optimal()?;
        }
        if !(0.0..0.5).contains(&self.propensity_clip) {
            invalid!("train.loss.propensity_clip = {}: give a number from 0 to below 0.5", self.propensity_clip);
        }
        if !(self.odds_ratio_bound >= 1.0 && self.odds_ratio_bound.is_finite()) {
            invalid!("train.loss.odds_ratio_bound = {}: give a number of at least 1", self.odds_ratio_bound);
        }
        let method = self.method.info();
        if method.estimate == EstimateFormula::None && self.ctcvr_weight == 0.0 {
            invalid!(
                "train.loss.ctcvr_weight = 0: nothing else trains the prediction of {}; give a positive number",
                method.name
            );
        }
        Ok(())
    }

    /// Refuses theorem 4.2's λ where the theorem is not about this loss.
    fn validate_optimal(&self) -> Result<()> {
        if !self.method.estimates_by_mean() {
            invalid!(
                "train.loss.lambda = \"optimal\": the optimum exists only for an estimate that is a mean over all pairs, \
                 and {} has none; give a number or a schedule, or another train.loss.method",
                self.method.info().name
            );
        }
        if self.regularizer != Regularizer::Bmse {
            invalid!(
                "train.loss.lambda = \"optimal\": the optimum is of BMSE, and train.loss.regularizer = {:?}; give a \
                 number or a schedule, or regularizer = \"bmse\"",
                self.regularizer.name()
            );
        }
        Ok(())
    }
}
