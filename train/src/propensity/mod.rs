//! Propensities that do not come from the model that is trained with the others.

pub mod logistic;
pub mod naive_bayes;
