//! Propensities from a small uniform sample.

use tch::Tensor;

use crate::data::sampler::Row;
use crate::data::{Evaluation, Training};
use counterweight::error::{Result, invalid};

/// P(o = 1 | r) = P(r | o = 1)·P(o = 1) / P(r), r being positive or not (Schnabel et al., ICML 2016, section 5.1).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NaiveBayes {
    /// Where the outcome is above one half.
    positive: f64,
    /// Elsewhere.
    negative: f64,
}

impl NaiveBayes {
    /// P(r | o = 1) and P(o = 1) are those of the `training` set in a `population` of so many pairs, P(r) that of the
    /// treated rows of the `uniform` sample.
    ///
    /// # Errors
    /// Where the uniform sample lacks a class of outcome that treated rows of the training set have.
    pub fn fit(training: &Training, population: f64, uniform: &Evaluation) -> Result<Self> {
        let treated = training.fingerprint.treated;
        let sample: Vec<bool> = uniform.rows.iter().filter(|row| row.treated).map(Row::is_positive).collect();
        let positives = sample.iter().filter(|positive| **positive).count();
        let propensity = |class: &str, in_training: u64, in_sample: usize| {
            if in_training > 0 && in_sample == 0 {
                invalid!(
                    "train.data.uniform has no {class} outcome among {} rows, and the training set has {in_training}: \
                     naive Bayes needs both classes; take a larger sample",
                    sample.len()
                );
            }
            Ok((in_training as f64 / population) / (in_sample.max(1) as f64 / sample.len() as f64))
        };
        Ok(Self {
            positive: propensity("positive", training.positives, positives)?,
            negative: propensity("negative", treated - training.positives, sample.len() - positives)?,
        })
    }

    /// P(o = 1 | r) of every pair whose r is known; where it is not, that of a negative. It may be above 1.
    pub fn propensity(&self, outcome: &Tensor) -> Tensor {
        outcome.gt(0.5).to_kind(outcome.kind()) * (self.positive - self.negative) + self.negative
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::Int32Array;

    use super::*;
    use crate::data::vocabulary::Vocabulary;
    use counterweight::model::Fingerprint;

    fn ids(count: i32) -> Arc<Vocabulary> {
        Arc::new(Vocabulary::from_ids(Arc::new(Int32Array::from_iter_values(0..count))).unwrap())
    }

    fn uniform(positives: usize, negatives: usize) -> Evaluation {
        let row = |outcome| Row { user: 0, item: 0, treated: true, outcome, propensity: None };
        let rows = [vec![row(1.0); positives], vec![row(0.0); negatives]].concat();
        Evaluation { rows, unknown: 0, fingerprint: Fingerprint::default() }
    }

    fn training(positives: u64, treated: u64) -> Training {
        let fingerprint = Fingerprint { rows: treated, treated, hash: String::new() };
        Training { users: ids(10), items: ids(20), rows: None, fingerprint, positives }
    }

    /// 200 pairs of which 40 are positive, as the sample says: of those 24 are treated, and 16 of the 160 others.
    #[test]
    fn classes_have_the_share_of_them_that_is_treated() {
        let fitted = NaiveBayes::fit(&training(24, 40), 200.0, &uniform(10, 40)).unwrap();
        let p = fitted.propensity(&Tensor::from_slice(&[1.0, 0.0, 0.75]));
        let p = Vec::<f64>::try_from(p).unwrap();
        let wanted = [24.0 / 40.0, 16.0 / 160.0, 24.0 / 40.0];
        assert!(p.iter().zip(wanted).all(|(p, wanted)| (p - wanted).abs() < 1e-12), "{p:?}");
    }

    #[test]
    fn a_class_that_the_sample_lacks_is_named() {
        let error = NaiveBayes::fit(&training(24, 40), 200.0, &uniform(0, 40)).unwrap_err().to_string();
        assert!(error.contains("no positive outcome among 40 rows") && error.contains("has 24"), "{error}");
        assert!(NaiveBayes::fit(&training(0, 40), 200.0, &uniform(0, 40)).is_ok(), "nothing needs it");
    }
}
