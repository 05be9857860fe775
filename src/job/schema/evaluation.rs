//! `[train.evaluation]`: how models are evaluated, and when training stops.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::job::validate::positive;

/// How models are evaluated, and when training stops.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct EvaluationSpec {
    /// Length of the ranked list in Recall@K and NDCG@K.
    #[schemars(range(min = 1))]
    pub k: usize,
    /// The validation metric that picks the best epoch.
    pub metric: Metric,
    /// Epochs without a better metric before training stops.
    #[schemars(range(min = 1))]
    pub patience: usize,
}

impl Default for EvaluationSpec {
    fn default() -> Self {
        Self { k: 5, metric: Metric::Auc, patience: 30 }
    }
}

/// A metric of a trained model on a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Area under the ROC curve of prediction against outcome. Higher is better.
    Auc,
    /// Hits among the K best-ranked over positives, mean over users with a positive. Higher is better.
    Recall,
    /// Normalised discounted cumulative gain at K. Higher is better.
    Ndcg,
    /// Mean cross-entropy of prediction against outcome. Lower is better.
    LogLoss,
    /// Mean squared error of prediction against outcome. Lower is better.
    Mse,
    /// Balance of the propensities on the training population, for the φ of the loss: compare it only where φ is the same.
    /// Lower is better.
    Bmse,
    /// The same for φ = 1, whatever the φ of the loss. Lower is better.
    BmseConstant,
    /// The same for φ = r̂, the prediction of the model, whatever the φ of the loss. Lower is better.
    BmsePrediction,
}

impl EvaluationSpec {
    pub(super) fn validate(&self) -> Result<()> {
        positive("train.evaluation.k", self.k)?;
        positive("train.evaluation.patience", self.patience)
    }
}
