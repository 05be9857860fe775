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
    /// BMSE of the propensities on the training population, for the φ of the loss.
    pub bmse: Option<f64>,
    /// The same for φ = 1.
    pub bmse_constant: Option<f64>,
    /// The same for φ = r̂, the prediction of the model.
    pub bmse_prediction: Option<f64>,
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
            Metric::BmseConstant => self.bmse_constant,
            Metric::BmsePrediction => self.bmse_prediction,
        }
    }
}

/// The users whose rankings Recall@K and NDCG@K of a set of rows are means over, and those whose ranking has a value whatever
/// the model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankedUsers {
    /// Users with a positive.
    pub users: u64,
    /// Those of no more than K rows, all of which are in the list: their Recall@K is 1.
    pub within_k: u64,
    /// Those whose rows are all positives: their NDCG@K is 1.
    pub all_positive: u64,
}

impl RankedUsers {
    /// The users of both sets.
    pub fn with(self, other: Self) -> Self {
        Self {
            users: self.users + other.users,
            within_k: self.within_k + other.within_k,
            all_positive: self.all_positive + other.all_positive,
        }
    }

    /// What to know of Recall@K and NDCG@K of rows that are called `set`, where at least half of the users have a value that
    /// no model can change.
    pub fn note(&self, set: &str, k: usize) -> Option<String> {
        let Self { users, within_k, all_positive } = *self;
        if users == 0 || 2 * within_k < users {
            return None;
        }
        let percent = |of: u64| 100.0 * of as f64 / users as f64;
        let mut note = format!(
            "Recall@{k} of the {set} rows is 1 by construction for {:.1} % of their users, who have no more than {k} rows",
            percent(within_k)
        );
        if 2 * all_positive >= users {
            note += &format!(", and NDCG@{k} for {:.1} %, whose rows are all positives", percent(all_positive));
        }
        Some(note + ": go by another metric, take more rows a user, or set a smaller train.evaluation.k")
    }
}

/// Whether `new` is a better value of `metric` than `old`; no value is worse than any.
pub fn is_better(metric: Metric, new: Option<f64>, old: Option<f64>) -> bool {
    match (new, old) {
        (Some(new), Some(old)) => match metric {
            Metric::Auc | Metric::Recall | Metric::Ndcg => new > old,
            Metric::LogLoss | Metric::Mse | Metric::Bmse | Metric::BmseConstant | Metric::BmsePrediction => new < old,
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
        assert!(
            is_better(Metric::BmseConstant, Some(0.1), Some(0.2))
                && !is_better(Metric::BmsePrediction, Some(2.0), Some(1.0))
        );
    }

    #[test]
    fn a_ranking_that_no_model_changes_is_said_where_most_users_have_one() {
        let ranked = RankedUsers { users: 100, within_k: 49, all_positive: 49 };
        assert_eq!(ranked.note("test", 5), None);
        let one = RankedUsers { users: 1, within_k: 1, all_positive: 1 };
        let note = ranked.with(one).with(one).note("validation", 5).unwrap();
        assert_eq!(
            note,
            "Recall@5 of the validation rows is 1 by construction for 50.0 % of their users, who have no more than 5 rows, \
             and NDCG@5 for 50.0 %, whose rows are all positives: go by another metric, take more rows a user, or set a \
             smaller train.evaluation.k"
        );
        let note = RankedUsers { all_positive: 0, ..one }.note("test", 3).unwrap();
        assert!(note.contains("for 100.0 % of their users, who have no more than 3 rows: go by"), "{note}");
        assert_eq!(RankedUsers::default().note("test", 5), None);
    }
}
