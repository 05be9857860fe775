//! The epoch loop: steps, metrics, early stop, the best models so far.

use std::collections::BTreeMap;
use std::time::Instant;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tch::{Device, Kind, Tensor};
use tokio_util::sync::CancellationToken;

use crate::data::sampler::{Batch, Sampler};
use crate::fit::adam::Adam;
use crate::fit::divergence::{StepLog, StepRecord};
use crate::fit::evaluation::{EvaluationSet, population_bmse};
use crate::fit::timing::Stopwatch;
use crate::loss::optimum::optimum;
use crate::loss::point::point_loss;
use crate::loss::{Outputs, terms};
use crate::model::{Gradients, Head, Model, Scores, initial, side_by_side};
use crate::propensity::naive_bayes::NaiveBayes;
use counterweight::error::{Error, Result, invalid};
use counterweight::job::{Embeddings, Lambda, LossSpec, TrainSpec};
use counterweight::model::{Divergence, EpochRecord, Stop, is_better};

/// The models that are trained together.
#[derive(Debug)]
pub struct Models {
    /// p̂.
    pub propensity: Model,
    /// r̂.
    pub prediction: Model,
    /// ê, where the method has one.
    pub imputation: Option<Model>,
    /// p̂ of the estimate and of L_e, where it does not come from the propensity model.
    pub naive_bayes: Option<NaiveBayes>,
}

impl Models {
    /// Models with initial weights drawn from `seed`, for each `member` of an ensemble, from 0, others.
    pub fn new(spec: &TrainSpec, users: usize, items: usize, seed: u64, member: usize, device: Device) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(first_epoch(member) as u64);
        let about = &spec.model;
        let shared =
            (about.embeddings == Embeddings::Shared).then(|| initial(users, items, about.dim, &mut rng, device));
        let mut model = || match &shared {
            Some(embeddings) => Model::sharing(embeddings, users, about, &mut rng),
            None => Model::new(users, items, about, &mut rng, device),
        };
        let (propensity, prediction) = (model(), model());
        Self { propensity, prediction, imputation: spec.loss.method.imputes().then(model), naive_bayes: None }
    }

    /// Models with the same weights, which no longer change together.
    pub fn copy(&self) -> Self {
        let embeddings = self.prediction.embeddings().map(|embeddings| tch::no_grad(|| embeddings.copy()));
        let copy = |model: &Model| model.copy(embeddings.as_ref());
        Self {
            propensity: copy(&self.propensity),
            prediction: copy(&self.prediction),
            imputation: self.imputation.as_ref().map(copy),
            naive_bayes: self.naive_bayes,
        }
    }

    /// The models whose scores are the means of those of `members`, which score by dot products where there are several.
    pub fn mean(mut members: Vec<Self>) -> Self {
        if members.len() == 1 {
            return members.remove(0);
        }
        tch::no_grad(|| {
            let shared = members[0].prediction.embeddings();
            let shared =
                shared.map(|_| side_by_side(members.iter().filter_map(|models| models.prediction.embeddings())));
            let mean = |models: Vec<&Model>| Model::mean(&models, shared.as_ref());
            let imputation: Option<Vec<&Model>> = members.iter().map(|models| models.imputation.as_ref()).collect();
            Self {
                propensity: mean(members.iter().map(|models| &models.propensity).collect()),
                prediction: mean(members.iter().map(|models| &models.prediction).collect()),
                imputation: imputation.map(mean),
                naive_bayes: members[0].naive_bayes,
            }
        })
    }

    /// Each model with its name, in the order of [`Models::named`], to change.
    fn named_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut Model)> {
        [("propensity", &mut self.propensity), ("prediction", &mut self.prediction)]
            .into_iter()
            .chain(self.imputation.as_mut().map(|model| ("imputation", model)))
    }

    /// Each model with its name.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &Model)> {
        [("propensity", &self.propensity), ("prediction", &self.prediction)]
            .into_iter()
            .chain(self.imputation.as_ref().map(|model| ("imputation", model)))
    }
}

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

/// An optimiser for each table of weights that is trained: by the name of its model, `shared` for the embeddings that
/// models share, `MODEL.head.N` for the weights of a model's head.
#[derive(Debug)]
pub(crate) struct Optimizers(BTreeMap<String, Adam>);

impl Optimizers {
    /// Those of the models named by `trained`, and of the embeddings that they share.
    ///
    /// A model's own table and the layers of its head have its rates; shared embeddings and the weights by which a product
    /// of them is scored have those of the prediction model.
    fn new(spec: &TrainSpec, models: &Models, trained: impl Fn(&str) -> bool) -> Self {
        let rates = &spec.optimizer;
        let adam = |rate, weights: &Tensor| Adam::new(rates.adam, rate, weights);
        let mut optimizers = BTreeMap::new();
        for (name, model) in models.named().filter(|(name, _)| trained(name)) {
            let rate = match name {
                "propensity" => rates.propensity,
                "imputation" => rates.imputation,
                _ => rates.prediction,
            };
            optimizers.insert(name.to_owned(), adam(rate, model.table()));
            let of_head = if matches!(model.head(), Head::Diagonal(_)) { rates.prediction } else { rate };
            for (at, weights) in model.head().weights().iter().enumerate() {
                optimizers.insert(format!("{name}.head.{at}"), adam(of_head, weights));
            }
        }
        if let Some(embeddings) = models.prediction.embeddings() {
            optimizers.insert("shared".to_owned(), adam(rates.prediction, embeddings));
        }
        Self(optimizers)
    }

    /// Each with its name.
    pub(crate) fn named(&self) -> impl Iterator<Item = (&String, &Adam)> {
        self.0.iter()
    }

    /// Each with its name, to change.
    pub(crate) fn named_mut(&mut self) -> impl Iterator<Item = (&String, &mut Adam)> {
        self.0.iter_mut()
    }

    /// Whether the model of that name is trained.
    fn trains(&self, model: &str) -> bool {
        self.0.contains_key(model)
    }

    /// Moves all weights by one step, where the models that are trained, in the order of [`Models::named`], have
    /// `gradients` at `rows`.
    fn step(&mut self, models: &mut Models, rows: &Tensor, gradients: &[Gradients]) {
        let mut gradients_of = gradients.iter();
        for (name, model) in models.named_mut() {
            let Some(adam) = self.0.get_mut(name) else { continue };
            let Some(gradient) = gradients_of.next() else { return };
            adam.step(model.table_mut(), rows, &gradient.own);
            let head = model.head_mut().weights_mut().iter_mut().zip(&gradient.head);
            for (at, (weights, gradient)) in head.enumerate() {
                let Some(adam) = self.0.get_mut(&format!("{name}.head.{at}")) else { continue };
                let all = Tensor::arange(weights.size()[0], (Kind::Int64, rows.device()));
                adam.step(weights, &all, gradient);
            }
        }
        if let (Some(adam), Some(table)) = (self.0.get_mut("shared"), models.prediction.embeddings_mut()) {
            let of_shared = gradients.iter().filter_map(|gradient| gradient.shared.as_ref());
            adam.step(table, rows, &of_shared.map(Tensor::shallow_clone).sum());
        }
    }
}

/// Where the epochs of a member start, in the order of all epochs that draw from a seed.
fn first_epoch(member: usize) -> usize {
    member << 32
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
        // A propensity model that was fitted beforehand is left as it is.
        let trained = |name: &str| name != "propensity" || !spec.propensity.source.is_fitted_beforehand();
        let optimizers = Optimizers::new(spec, &models, trained);
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
        let (mut log, mut moments) = (StepLog::new(epoch), Vec::new());
        for batch in sampler.epoch(first_epoch(self.member) + epoch) {
            if interrupt.is_cancelled() {
                break;
            }
            let batch = batch?;
            watch.lap(|timing| &mut timing.data);
            match self.step(spec, lambda, &batch, &mut log, &mut watch) {
                Ok(of_step) => moments.extend(of_step),
                Err(divergence) => return Ok(Some(Stop::Diverged(divergence))),
            }
        }
        if interrupt.is_cancelled() {
            return Ok(Some(Stop::Interrupted { epoch }));
        }
        let (losses, gradient_norms) = match log.means() {
            Ok(Some(means)) => means,
            Ok(None) => invalid!("the training set gives no batch"),
            Err(divergence) => return Ok(Some(Stop::Diverged(divergence))),
        };
        let mut metrics = validation.evaluate(&self.models.prediction, spec.evaluation.k);
        metrics.bmse = population_bmse(&spec.loss, &self.models.propensity, &self.models.prediction, sampler)?;

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

    /// Moves the weights by one batch, and gives the moments that its [`Terms`](crate::loss::Terms) hold.
    fn step(
        &mut self,
        spec: &TrainSpec,
        lambda: f64,
        batch: &Batch,
        log: &mut StepLog,
        watch: &mut Stopwatch,
    ) -> Result<Option<Tensor>, Divergence> {
        let Self { models, optimizers, .. } = self;
        let scores = |model: &Model| Scores::with(model.rows(batch).tracked(), batch.layout, spec.precision);
        let fixed = !optimizers.trains("propensity");
        let outputs = Outputs {
            propensity: match fixed {
                true => Scores::of(models.propensity.rows(batch), batch.layout),
                false => scores(&models.propensity),
            },
            prediction: scores(&models.prediction),
            imputation: models.imputation.as_ref().map(scores),
            fixed_propensity: match &batch.propensity {
                Some(propensity) => Some(propensity.shallow_clone()),
                None => models.naive_bayes.map(|naive_bayes| naive_bayes.propensity(&batch.outcome)),
            },
        };
        let terms = terms(&spec.loss, lambda, &outputs, batch);
        let total = terms.total();
        let values = terms.values(&total);
        watch.lap(|timing| &mut timing.forward);

        let tracked = [(!fixed).then_some(&outputs.propensity), Some(&outputs.prediction), outputs.imputation.as_ref()];
        let leaves: Vec<&Tensor> = tracked.into_iter().flatten().flat_map(|scores| scores.rows.tensors()).collect();
        let mut gradients = Tensor::run_backward(&[total], &leaves, false, false).into_iter();
        let tracked = tracked.into_iter().flatten();
        let gradients: Vec<Gradients> = tracked.map(|scores| scores.rows.gradients(&mut gradients)).collect();
        let names = models.named().map(|(name, _)| name).skip(usize::from(fixed));
        log.push(StepRecord::new(&terms.names(), &values, names.zip(gradients.iter().map(Gradients::norm))))?;
        watch.lap(|timing| &mut timing.backward);

        optimizers.step(models, &batch.rows, &gradients);
        watch.lap(|timing| &mut timing.optimizer);
        Ok(terms.moments)
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
    let mut optimizers = Optimizers::new(spec, models, |name| name == "propensity");
    for epoch in 1..=spec.propensity.epochs {
        for batch in sampler.epoch(epoch) {
            if interrupt.is_cancelled() {
                return Err(Error::Interrupted);
            }
            let batch = batch?;
            let scores = Scores::with(models.propensity.rows(&batch).tracked(), batch.layout, spec.precision);
            let loss = point_loss(spec.loss.propensity_loss, &scores.logit, &batch.treated).mean(None::<Kind>);
            let leaves: Vec<&Tensor> = scores.rows.tensors().collect();
            let mut gradients = Tensor::run_backward(&[loss], &leaves, false, false).into_iter();
            let gradients = scores.rows.gradients(&mut gradients);
            optimizers.step(models, &batch.rows, &[gradients]);
        }
    }
    if models.propensity.weights().any(|weights| weights.isfinite().all().int64_value(&[]) == 0) {
        invalid!("the propensity model diverged before the others were trained; lower train.optimizer.propensity.lr");
    }
    Ok(())
}
