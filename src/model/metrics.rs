//! How good a model is on rows held out.

use serde::{Deserialize, Serialize};

use crate::job::Metric;

/// Metrics of a model. None where the rows do not define it: AUC needs both classes, Recall@K and NDCG@K a positive.
///
/// An outcome above one half is a positive.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Area under the ROC curve; equal predictions count half.
    pub auc: Option<f64>,
    /// Positives among a user's K best-ranked rows over its positives; mean over users with a positive.
    pub recall: Option<f64>,
    /// DCG at K over that of the best ranking, which has min(positives, K) hits; mean over users with a positive.
    pub ndcg: Option<f64>,
    /// Mean cross-entropy of prediction against outcome, in nats.
    pub log_loss: Option<f64>,
    /// Mean squared error of prediction against outcome.
    pub mse: Option<f64>,
    /// BMSE of the propensities on the training population.
    pub bmse: Option<f64>,
}

impl Metrics {
    /// The value of `metric`.
    pub fn get(&self, metric: Metric) -> Option<f64> {
        match metric {
            Metric::Auc => self.auc,
            Metric::Recall => self.recall,
            Metric::Ndcg => self.ndcg,
            Metric::LogLoss => self.log_loss,
            Metric::Mse => self.mse,
            Metric::Bmse => self.bmse,
        }
    }
}

/// Whether `new` is a better value of `metric` than `old`; no value is worse than any.
pub fn is_better(metric: Metric, new: Option<f64>, old: Option<f64>) -> bool {
    match (new, old) {
        (Some(new), Some(old)) => match metric {
            Metric::Auc | Metric::Recall | Metric::Ndcg => new > old,
            Metric::LogLoss | Metric::Mse | Metric::Bmse => new < old,
        },
        (Some(_), None) => true,
        (None, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn better_depends_on_the_metric() {
        assert!(is_better(Metric::Auc, Some(0.7), Some(0.6)) && !is_better(Metric::Auc, Some(0.6), Some(0.6)));
        assert!(is_better(Metric::Bmse, Some(0.1), Some(0.2)) && is_better(Metric::LogLoss, Some(9.0), None));
        assert!(!is_better(Metric::Auc, None, Some(0.1)));
    }
}
