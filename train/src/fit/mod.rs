//! The epoch loop: steps, optimisers, evaluation, and what an ensemble of models makes of it.

mod adam;
pub mod divergence;
pub mod ensemble;
pub mod evaluation;
pub mod models;
pub(crate) mod optimizers;
pub(crate) mod threads;
pub mod timing;
pub mod trainer;
