//! A value for each of the models that are trained together.

use tch::Tensor;

use super::{BatchWeights, Gradients};

/// A value for each model that is trained.
#[derive(Debug, Clone, Copy)]
pub struct PerModel<T> {
    /// Of the propensity model, unless it was fitted beforehand.
    pub propensity: Option<T>,
    /// Of the prediction model.
    pub prediction: T,
    /// Of the imputation model, where there is one.
    pub imputation: Option<T>,
}

impl<T> PerModel<T> {
    /// Each value with the name of its model.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &T)> {
        let Self { propensity, prediction, imputation } = self;
        let values = [("propensity", propensity.as_ref()), ("prediction", Some(prediction))];
        let values = values.into_iter().chain([("imputation", imputation.as_ref())]);
        values.filter_map(|(name, value)| Some((name, value?)))
    }

    /// The same, to change.
    pub fn named_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut T)> {
        let Self { propensity, prediction, imputation } = self;
        let values = [("propensity", propensity.as_mut()), ("prediction", Some(prediction))];
        let values = values.into_iter().chain([("imputation", imputation.as_mut())]);
        values.filter_map(|(name, value)| Some((name, value?)))
    }

    /// What `change` makes of each value.
    pub fn map<U>(self, mut change: impl FnMut(T) -> U) -> PerModel<U> {
        PerModel {
            propensity: self.propensity.map(&mut change),
            prediction: change(self.prediction),
            imputation: self.imputation.map(change),
        }
    }
}

impl PerModel<&BatchWeights> {
    /// The gradients of `loss`, a scalar, at these weights, which are [tracked](BatchWeights::tracked).
    pub fn gradients(self, loss: &Tensor) -> PerModel<Gradients> {
        let leaves: Vec<&Tensor> = self.named().flat_map(|(_, rows)| rows.tensors()).collect();
        let mut gradients = Tensor::run_backward(&[loss], &leaves, false, false).into_iter();
        self.map(|rows| rows.take_gradients(&mut gradients))
    }
}
