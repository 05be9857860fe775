//! The epoch loop: steps, metrics, early stop, the best models so far.

use std::ops::ControlFlow;
use std::time::Instant;

use tch::{Kind, Tensor};
use tokio_util::sync::CancellationToken;

use crate::data::sampler::{Batch, Sampler};
use crate::fit::divergence::{StepLog, StepRecord};
use crate::fit::evaluation::{EvaluationSet, evaluate};
use crate::fit::models::{Models, first_epoch};
use crate::fit::optimizers::{ModelOptimizer, Optimizers};
use crate::fit::timing::Stopwatch;
use crate::loss::optimum::optimum;
use crate::loss::point::point_loss;
use crate::loss::{Outputs, terms};
use crate::model::{Model, PerModel, Scores};
use counterweight::error::{Error, Result, invalid};
use counterweight::job::{Lambda, LossSpec, TrainSpec};
use counterweight::model::{Divergence, EpochRecord, Stop, is_better};

/// Seconds of an epoch that is rather ended than given up when training is interrupted.
const QUICK: f64 = 2.0;

/// The outcome of training a member.
#[derive(Debug)]
pub struct Fitted {
    /// The models of the best epoch.
    pub models: Models,
    /// The epoch whose validation metric was best, from 1.
    pub best_epoch: usize,
    /// Every epoch.
    pub history: Vec<EpochRecord>,
    /// Why training ended.
    pub stop: Stop,
}

impl Fitted {
    /// The record of the best epoch.
    pub fn best(&self) -> &EpochRecord {
        &self.history[self.best_epoch - 1]
    }
}

/// Where the training of a member stands between two epochs: all that its epochs to come depend on.
#[derive(Debug)]
pub struct TrainingState {
    /// Which one of the ensemble, from 0.
    pub(crate) member: usize,
    /// The models as the last epoch left them.
    pub models: Models,
    pub(crate) optimizers: Optimizers,
    /// The epoch whose validation metric was best, from 1, and its models.
    pub(crate) best: Option<(usize, Models)>,
    /// Every epoch so far.
    pub history: Vec<EpochRecord>,
}

impl TrainingState {
    /// Before the first epoch of a member.
    pub fn new(spec: &TrainSpec, member: usize, models: Models) -> Self {
        let optimizers = Optimizers::new(spec, &models);
        Self { member, models, optimizers, best: None, history: Vec::new() }
    }

    /// Why there is no next epoch, if there is none.
    fn ended(&self, spec: &TrainSpec) -> Option<Stop> {
        let done = self.history.len();
        match &self.best {
            Some((best, _)) if done - best >= spec.evaluation.patience => Some(Stop::Patience),
            _ => (done >= spec.optimizer.epochs).then_some(Stop::Epochs),
        }
    }

    /// Whether an epoch takes so little time that an interrupt lets it end.
    pub(crate) fn is_quick(&self) -> bool {
        self.history.last().is_some_and(|record| record.seconds < QUICK)
    }

    /// λ of the next epoch.
    fn lambda(&self, spec: &LossSpec) -> f64 {
        match spec.lambda {
            Lambda::Fixed(weight) => weight,
            Lambda::Scheduled(schedule) => schedule.at(self.history.len() + 1),
            Lambda::Optimal => {
                let optimum = self.history.last().and_then(|record| record.optimum);
                // A negative weight would reward imbalance.
                optimum.map_or(0.0, |optimum| spec.estimator_weight * optimum.lambda.max(0.0))
            }
        }
    }

    /// Trains for an epoch and evaluates it, unless something ends training before.
    fn advance(
        &mut self,
        spec: &TrainSpec,
        sampler: &dyn Sampler,
        validation: &EvaluationSet,
        interrupt: &CancellationToken,
    ) -> Result<Option<Stop>> {
        let start = Instant::now();
        let mut watch = Stopwatch::new(spec.timing, self.models.propensity.table().device());
        let epoch = self.history.len() + 1;
        let lambda = self.lambda(&spec.loss);
        let gives_up = !self.is_quick();
        let (mut log, mut moments) = (StepLog::new(epoch), Vec::new());
        for batch in sampler.epoch(first_epoch(self.member) + epoch) {
            if gives_up && interrupt.is_cancelled() {
                return Ok(Some(Stop::Interrupted { epoch }));
            }
            let batch = batch?;
            watch.lap(|timing| &mut timing.data);
            match self.step(spec, lambda, &batch, &mut log, &mut watch)? {
                ControlFlow::Continue(of_step) => moments.extend(of_step),
                ControlFlow::Break(divergence) => return Ok(Some(Stop::Diverged(divergence))),
            }
        }
        if gives_up && interrupt.is_cancelled() {
            return Ok(Some(Stop::Interrupted { epoch }));
        }
        let (losses, gradient_norms) = match log.means() {
            Ok(Some(means)) => means,
            Ok(None) => invalid!("the training set gives no batch"),
            Err(divergence) => return Ok(Some(Stop::Diverged(divergence))),
        };
        let metrics = evaluate(spec, &self.models, sampler, validation)?;

        let metric = spec.evaluation.metric;
        let so_far = self.best.as_ref().and_then(|(best, _)| self.history[best - 1].validation.get(metric));
        if self.best.is_none() || is_better(metric, metrics.get(metric), so_far) {
            self.best = Some((epoch, self.models.copy()));
        }
        watch.lap(|timing| &mut timing.evaluation);
        let (seconds, timing) = (start.elapsed().as_secs_f64(), watch.timing());
        self.history.push(EpochRecord {
            epoch,
            seconds,
            losses,
            gradient_norms,
            lambda,
            optimum: optimum(&moments),
            timing,
            validation: metrics,
        });
        Ok(None)
    }

    /// Moves the weights by one batch, and gives the moments that its [`Terms`](crate::loss::Terms) hold; none of either
    /// where the batch shows that training diverges.
    fn step(
        &mut self,
        spec: &TrainSpec,
        lambda: f64,
        batch: &Batch,
        log: &mut StepLog,
        watch: &mut Stopwatch,
    ) -> Result<ControlFlow<Divergence, Option<Tensor>>> {
        let Self { models, optimizers, .. } = self;
        let scores = |model: &Model| Scores::with(model.rows(batch).tracked(), batch.layout, spec.precision);
        let trains_propensity = optimizers.train_propensity();
        let outputs = Outputs {
            propensity: match trains_propensity {
                true => scores(&models.propensity),
                false => Scores::of(models.propensity.rows(batch), batch.layout),
            },
            prediction: scores(&models.prediction),
            imputation: models.imputation.as_ref().map(scores),
            fixed_propensity: match &batch.propensity {
                Some(propensity) => Some(propensity.shallow_clone()),
                None => models.naive_bayes.map(|naive_bayes| naive_bayes.propensity(&batch.outcome)),
            },
        };
        let terms = terms(&spec.loss, lambda, &outputs, batch)?;
        let total = terms.total();
        let values = terms.values(&total);
        watch.lap(|timing| &mut timing.forward);

        let trained = PerModel {
            propensity: trains_propensity.then_some(&outputs.propensity.weights),
            prediction: &outputs.prediction.weights,
            imputation: outputs.imputation.as_ref().map(|scores| &scores.weights),
        };
        let gradients = trained.gradients(&total);
        let norms = gradients.named().map(|(name, gradients)| (name, gradients.norm()));
        if let Err(divergence) = log.push(StepRecord::new(&terms.names(), &values, norms)) {
            return Ok(ControlFlow::Break(divergence));
        }
        watch.lap(|timing| &mut timing.backward);

        optimizers.step(models, &batch.rows, &gradients)?;
        watch.lap(|timing| &mut timing.optimizer);
        Ok(ControlFlow::Continue(terms.moments))
    }
}

/// Trains a member on the batches of `sampler`, from `state` on, until the metric that `spec` names stops improving on
/// `validation`.
///
/// `report` is called after every epoch. The same state, sampler and thread count give the same weights on a CPU; on a
/// GPU sums run in no fixed order.
///
/// # Errors
/// [`Error::Interrupted`] where `interrupt` came before the first epoch was evaluated, and the [`Divergence`] of a loss
/// or a gradient that stopped being finite before then. Later, both end training with the best models so far.
pub fn fit(
    spec: &TrainSpec,
    mut state: TrainingState,
    sampler: &dyn Sampler,
    validation: &EvaluationSet,
    interrupt: &CancellationToken,
    mut report: impl FnMut(&TrainingState),
) -> Result<Fitted> {
    let stop = loop {
        if let Some(stop) = state.ended(spec) {
            break stop;
        }
        if let Some(stop) = state.advance(spec, sampler, validation, interrupt)? {
            break stop;
        }
        report(&state);
        if interrupt.is_cancelled() && state.ended(spec).is_none() {
            break Stop::Interrupted { epoch: state.history.len() + 1 };
        }
    };
    match (state.best, stop) {
        (Some((best_epoch, models)), stop) => Ok(Fitted { models, best_epoch, history: state.history, stop }),
        (None, Stop::Diverged(divergence)) => Err(divergence.into()),
        (None, _) => Err(Error::Interrupted),
    }
}

/// Fits the propensity model alone, by L_p, for the epochs that `spec` gives it.
///
/// # Errors
/// [`Error::Interrupted`] where `interrupt` came before the end, and where the weights did not stay finite.
pub fn fit_propensity(
    spec: &TrainSpec,
    models: &mut Models,
    sampler: &dyn Sampler,
    interrupt: &CancellationToken,
) -> Result<()> {
    let mut optimizer = ModelOptimizer::new(&spec.optimizer, spec.optimizer.propensity, &models.propensity);
    for epoch in 1..=spec.propensity.epochs {
        for batch in sampler.epoch(epoch) {
            if interrupt.is_cancelled() {
                return Err(Error::Interrupted);
            }
            let batch = batch?;
            let scores = Scores::with(models.propensity.rows(&batch).tracked(), batch.layout, spec.precision);
            let loss = point_loss(spec.loss.propensity_loss, &scores.logit, &batch.treated).mean(None::<Kind>);
            optimizer.step(&mut models.propensity, &batch.rows, &scores.weights.gradients(&loss))?;
        }
    }
    if models.propensity.weights().any(|weights| weights.isfinite().all().int64_value(&[]) == 0) {
        invalid!("the propensity model diverged before the others were trained; lower train.optimizer.propensity.lr");
    }
    Ok(())
}
