//! `[train.propensity]`: where propensities come from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Embeddings, Phi, TrainSpec};
use crate::error::{Result, invalid};
use crate::job::name_of;
use crate::job::validate::{above_zero, positive};

/// Where the p̂ of the estimate and of L_e comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct PropensitySpec {
    /// The source.
    pub source: PropensitySource,
    /// Passes over the population in which `model` is fitted, before the other models are.
    #[schemars(range(min = 1))]
    pub epochs: usize,
    /// Penalty of `logistic`: l2/2 times the sum of the squared effects and coefficients, beside the cross-entropy summed
    /// over the population. What elsewhere is C, is 1/l2.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub l2: f64,
}

impl Default for PropensitySpec {
    fn default() -> Self {
        Self { source: PropensitySource::Joint, epochs: 50, l2: 1.0 }
    }
}

/// A source of propensities.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PropensitySource {
    /// The propensity model, trained together with the others.
    #[default]
    Joint,
    /// The propensity model, fitted beforehand by L_p alone and then left as it is.
    Model,
    /// Logistic regression of the treatment on an effect of each user and item and, in a matrix, on the further columns of
    /// `population.users` and `population.items`, fitted beforehand and then left as it is.
    Logistic,
    /// P(o = 1 | r) = P(r | o = 1)·P(o = 1) / P(r), with P(r) from the uniform sample of `train.data.uniform` (Schnabel et
    /// al., ICML 2016). It is known where r is, which is enough for estimates and L_e; the propensity model is trained
    /// by L_p beside it.
    NaiveBayes,
    /// The column of `train.data.train` that `columns.propensity` names: of every row of a log, or of the treated pairs of
    /// a matrix, which is enough for estimates and L_e; the propensity model is trained by L_p beside it.
    Column,
}

impl PropensitySource {
    /// Whether the propensity model is fitted before the others, and not with them.
    pub fn is_fitted_beforehand(self) -> bool {
        matches!(self, Self::Model | Self::Logistic)
    }
}

impl TrainSpec {
    /// Refuses what would train propensities that are fixed.
    pub(super) fn validate_propensity(&self) -> Result<()> {
        let Self { propensity: PropensitySpec { source, epochs, l2 }, loss, .. } = self;
        positive("train.propensity.epochs", *epochs)?;
        above_zero("train.propensity.l2", *l2)?;
        if *source == PropensitySource::Joint {
            return Ok(());
        }
        let name = name_of(source);
        if !loss.lambda.is_zero() {
            invalid!(
                "train.loss.lambda = {}: a regularizer moves propensities, and train.propensity.source = \
                 {name:?} fixes them; set train.loss.lambda = 0, or source = \"joint\"",
                loss.lambda
            );
        }
        let method = loss.method.info();
        if method.stabilization.is_some() {
            invalid!(
                "train.propensity.source = {name:?}: {} trains the propensities by its stabilisation; set source = \
                 \"joint\", or another method",
                method.name
            );
        }
        if source.is_fitted_beforehand() && self.model.embeddings == Embeddings::Shared {
            invalid!(
                "train.propensity.source = {name:?}: shared embeddings go on changing, and the propensities with them; \
                 set train.model.embeddings = \"separate\""
            );
        }
        if *source == PropensitySource::Logistic && matches!(loss.phi, Phi::Product | Phi::Concat | Phi::Learned) {
            invalid!(
                "train.loss.phi = {:?}: a logistic regression has no embeddings to make φ of; set train.loss.phi = \
                 \"constant\" or \"prediction\", or another train.propensity.source",
                name_of(&loss.phi)
            );
        }
        if *source == PropensitySource::NaiveBayes && self.data.uniform.is_none() {
            invalid!(
                "train.data.uniform is missing: propensities by naive Bayes need a query that gives rows of a uniform \
                 sample, with their outcomes"
            );
        }
        Ok(())
    }
}
