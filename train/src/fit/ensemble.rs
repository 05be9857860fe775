//! Several models in one: members that differ in their initial weights and in the order of their batches.
//!
//! The mean of their scores varies less than any of them does: ten fits of a small log are ten rankings, most of whose
//! differences are chance (Lakshminarayanan et al., NeurIPS 2017; bagging without the bootstrap). A mean of dot products
//! is a dot product of longer embeddings, so the ensemble is stored and scored as a model is.

use tokio_util::sync::CancellationToken;

use crate::data::sampler::Sampler;
use crate::fit::evaluation::EvaluationSet;
use crate::fit::models::Models;
use crate::fit::trainer::{Fitted, TrainingState, fit};
use counterweight::error::{Error, Result};
use counterweight::job::TrainSpec;
use counterweight::model::Stop;

/// Where the training of an ensemble stands between two epochs.
#[derive(Debug)]
pub struct EnsembleState {
    /// The members that are done.
    pub finished: Vec<Fitted>,
    /// The one under way.
    pub current: TrainingState,
}

impl EnsembleState {
    /// Before the first epoch of all.
    pub fn new(spec: &TrainSpec, models: Models) -> Self {
        Self { finished: Vec::new(), current: TrainingState::new(spec, 0, models) }
    }
}

/// The outcome of training an ensemble: [`Models::mean`] makes one model of it.
#[derive(Debug)]
pub struct Ensemble {
    /// Its members: at least one, and fewer than were asked for where training ended before its time.
    pub members: Vec<Fitted>,
    /// Why training ended.
    pub stop: Stop,
}

/// Trains the members that `spec` asks for and `state` has not finished, one after the other, as [`fit`] does.
///
/// A propensity model that was fitted beforehand is that of every member. `report` is called after every epoch.
///
/// # Errors
/// Those of [`fit`], but for an interruption between two members, which leaves those that are done.
pub fn fit_ensemble(
    spec: &TrainSpec,
    seed: u64,
    state: EnsembleState,
    sampler: &dyn Sampler,
    validation: &EvaluationSet,
    interrupt: &CancellationToken,
    mut report: impl FnMut(&[Fitted], &TrainingState),
) -> Result<Ensemble> {
    let EnsembleState { finished: mut members, mut current } = state;
    loop {
        let fitted = match fit(spec, current, sampler, validation, interrupt, |state| report(&members, state)) {
            Err(Error::Interrupted) if !members.is_empty() => {
                return Ok(Ensemble { members, stop: Stop::Interrupted { epoch: 1 } });
            }
            fitted => fitted?,
        };
        let stop = fitted.stop.clone();
        members.push(fitted);
        if !stop.is_good() || members.len() >= spec.model.members {
            return Ok(Ensemble { members, stop });
        }
        current = next_member(spec, seed, &members);
    }
}

fn next_member(spec: &TrainSpec, seed: u64, members: &[Fitted]) -> TrainingState {
    let before = &members[0].models;
    let (table, users) = (before.prediction.table(), before.prediction.users());
    let items = table.size()[0] as usize - users;
    let mut models = Models::new(spec, users, items, seed, members.len(), table.device());
    models.naive_bayes = before.naive_bayes;
    if spec.propensity.source.is_fitted_beforehand() {
        models.propensity = before.propensity.copy(None);
    }
    TrainingState::new(spec, members.len(), models)
}
