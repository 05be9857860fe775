//! Trains the models of a job on its data sets.

use std::collections::BTreeMap;

use datafusion::arrow::util::display::array_value_to_string;
use tch::{Device, TchError, Tensor};
use tokio::runtime::Handle;
use tokio::task::JoinError;

use super::sets::Data;
use super::{SHUFFLE_ROWS, section};
use crate::artifact::checkpoint::Checkpoints;
use crate::data::sampler::{BlockSampler, Prefetch, RowSampler, RowSource, Sampler};
use crate::data::vocabulary::Vocabulary;
use crate::data::{DataSet, RowStream, Training};
use crate::device::device_name;
use crate::fit::ensemble::{Ensemble, EnsembleState, fit_ensemble};
use crate::fit::evaluation::{EvaluationSet, evaluate};
use crate::fit::models::Models;
use crate::fit::threads::Threads;
use crate::fit::trainer::{Fitted, TrainingState, fit_propensity};
use crate::propensity::logistic;
use crate::propensity::naive_bayes::NaiveBayes;
use counterweight::context::JobContext;
use counterweight::error::{Error, Result, invalid};
use counterweight::events::Event;
use counterweight::job::{Job, Method, Metric, PropensitySource, Shape, Split, TrainSpec};
use counterweight::model::{Fingerprint, MemberRecord, RankedUsers, TrainingRecord};

/// What training gave.
pub(super) struct Learned {
    pub(super) models: Models,
    pub(super) training: TrainingRecord,
}

/// Trains on this thread, from `state` on if there is one, and gives `checkpoints` back.
pub(super) fn learn(
    context: &JobContext,
    set: DataSet,
    data: Data,
    device: Device,
    state: Option<EnsembleState>,
    mut checkpoints: Checkpoints,
    runtime: Handle,
) -> Result<(Learned, Checkpoints)> {
    let (job, spec) = (&*context.job, section(context)?);
    let Data { training, mut evaluations, covariates } = data;
    let mut treated_rows = |split| Some(EvaluationSet::new(evaluations.remove(&split)?.rows, device));
    let test = treated_rows(Split::Test);
    let Some(validation) = treated_rows(Split::Validation) else {
        invalid!("{} is missing", Split::Validation);
    };
    check_defined(spec.evaluation.metric, &validation)?;
    check_untreated(job, spec, &training.fingerprint)?;
    let k = spec.evaluation.k;
    let sets = [(Split::Validation, Some(&validation)), (Split::Test, test.as_ref())];
    let ranked: BTreeMap<Split, RankedUsers> =
        sets.into_iter().filter_map(|(split, set)| Some((split, set?.ranked(k)))).collect();
    for (split, users) in &ranked {
        if let Some(note) = users.note(split.name(), k) {
            tracing::warn!("{split}: {note}");
        }
    }
    let begins = state.is_none();
    let (users, items) = (training.users.len(), training.items.len());
    let mut state =
        state.unwrap_or_else(|| EnsembleState::new(spec, Models::new(spec, users, items, job.seed, 0, device)));
    let models = &mut state.current.models;
    if let Some(uniform) = evaluations.get(&Split::Uniform) {
        let naive_bayes = NaiveBayes::fit(&training, population_size(job, &training), uniform)?;
        models.naive_bayes = Some(naive_bayes);
    }
    let Fingerprint { rows, treated, .. } = training.fingerprint;
    let fits_logistic = begins && spec.propensity.source == PropensitySource::Logistic;
    let (l2, interrupt) = (spec.propensity.l2, &context.interrupt);
    let fitting = fits_logistic.then(|| Threads::for_step(usize::MAX, job.session.threads));
    // From the rows of a matrix before the sampler takes them, from those of a log as the sampler gives them.
    let mut table = None;
    if let (Shape::Matrix, true, Some(rows)) = (job.population.shape, fits_logistic, &training.rows) {
        let [of_users, of_items] = covariates.each_ref().map(Option::as_ref);
        table = Some(logistic::fit_matrix(rows, [(users, of_users), (items, of_items)], l2, device, interrupt)?);
    }
    let sampler = sampler(job, spec, set, training, device, runtime.clone())?;
    if fits_logistic && table.is_none() {
        table = Some(logistic::fit_log(&*sampler, [rows, treated], [users, items], l2, device, interrupt)?);
    }
    if let Some(table) = table {
        models.propensity = logistic::model(&table, users);
    }
    drop(fitting);
    let _threads = Threads::for_step(step_values(job, spec, models), job.session.threads);
    if begins && spec.propensity.source == PropensitySource::Model {
        fit_propensity(spec, models, &*sampler, &context.interrupt)?;
    }
    let (epochs, members) = (spec.optimizer.epochs, spec.model.members);
    let report = |finished: &[Fitted], state: &TrainingState| {
        if let Some(record) = state.history.last() {
            let (member, record) = (finished.len(), Box::new(record.clone()));
            context.events.emit(Event::Epoch { member, members, epochs, record });
        }
        let now = context.interrupt.is_cancelled();
        if let Err(error) = runtime.block_on(checkpoints.save(finished, state, now)) {
            tracing::warn!("cannot write a checkpoint of this epoch: {error}");
        }
    };
    let ensemble = fit_ensemble(spec, job.seed, state, &*sampler, &validation, &context.interrupt, report)?;
    let Ensemble { members, stop } = ensemble;
    if !stop.is_good()
        && let Err(error) = runtime.block_on(checkpoints.flush())
    {
        tracing::warn!("cannot write a checkpoint of the last epoch: {error}");
    }
    let of_only = if let [only] = &members[..] { Some(only.best().validation.clone()) } else { None };
    let parts = members
        .into_iter()
        .map(|Fitted { models, best_epoch, history, .. }| (models, MemberRecord { best_epoch, history }));
    let (models, members): (Vec<_>, Vec<_>) = parts.unzip();
    let models = Models::mean(models);
    let validation = match of_only {
        Some(metrics) => metrics,
        None => evaluate(spec, &models, &*sampler, &validation)?,
    };
    let test = test.map(|test| test.evaluate(&models.prediction, k));
    let training = TrainingRecord { device: device_name(device), stop, members, validation, test, ranked };
    Ok((Learned { models, training }, checkpoints))
}

/// How many pairs the population has.
fn population_size(job: &Job, training: &Training) -> f64 {
    match job.population.shape {
        Shape::Matrix => training.users.len() as f64 * training.items.len() as f64,
        Shape::Log => training.fingerprint.rows as f64,
    }
}

/// About how many numbers a step reads or writes: the products of its pairs' embeddings or hidden activations, and the
/// tables and moments that Adam moves.
fn step_values(job: &Job, spec: &TrainSpec, models: &Models) -> usize {
    let rates = &spec.optimizer;
    let pairs = match job.population.shape {
        Shape::Matrix => rates.block_users * rates.block_items,
        Shape::Log => rates.batch_size,
    };
    models
        .named()
        .map(|(_, model)| {
            let tables = model.weights().chain(model.embeddings());
            pairs * model.head().products(spec.model.dim) + 4 * tables.map(Tensor::numel).sum::<usize>()
        })
        .sum()
}

fn sampler(
    job: &Job,
    spec: &TrainSpec,
    set: DataSet,
    training: Training,
    device: Device,
    runtime: Handle,
) -> Result<Box<dyn Sampler>> {
    let Training { users, items, rows, .. } = training;
    let rates = &spec.optimizer;
    // From memory, batches cost a CPU a few hundredths of its steps, and one thread more may cost those as much.
    let ahead = rows.is_none() || device != Device::Cpu;
    let sampler: Box<dyn Sampler> = match (job.population.shape, rows) {
        (Shape::Matrix, rows) => {
            let describe = |user: u32, item: u32| {
                let name =
                    |ids: &Vocabulary, at: u32| array_value_to_string(ids.ids(), at as usize).unwrap_or_default();
                format!("train.data.train: (user {}, item {})", name(&users, user), name(&items, item))
            };
            let population = (users.len(), items.len());
            let side = (rates.block_users, rates.block_items);
            let rows = rows.unwrap_or_default();
            let sampler = BlockSampler::new(rows, population, side, job.seed, device, describe)?;
            Box::new(sampler.sampling(rates.blocks_per_epoch))
        }
        (Shape::Log, rows) => {
            let count = users.len();
            let source: Box<dyn RowSource> = match rows {
                Some(rows) => Box::new(rows),
                None => Box::new(RowStream::new(set, users, items, runtime)),
            };
            Box::new(RowSampler::new(source, count, rates.batch_size, SHUFFLE_ROWS, job.seed, device))
        }
    };
    Ok(if ahead { Box::new(Prefetch::new(sampler)) } else { sampler })
}

/// Refuses validation rows on which `metric` has no value.
fn check_defined(metric: Metric, validation: &EvaluationSet) -> Result<()> {
    let (positives, rows) = (validation.positives(), validation.len());
    match metric {
        Metric::Auc if positives == 0 || positives == rows => invalid!(
            "train.data.validation: all {rows} treated rows have the same outcome class, and AUC needs both; \
             take more rows, or set train.evaluation.metric = \"log_loss\""
        ),
        Metric::Recall | Metric::Ndcg if positives == 0 => invalid!(
            "train.data.validation: none of {rows} treated rows is positive, and a ranking needs one; \
             take more rows, or set train.evaluation.metric = \"log_loss\""
        ),
        _ => Ok(()),
    }
}

/// Refuses a log in which every row is treated: propensities learned from it would all be 1.
fn check_untreated(job: &Job, spec: &TrainSpec, log: &Fingerprint) -> Result<()> {
    let needs = job.population.shape == Shape::Log && spec.loss.method != Method::Naive;
    if needs && log.rows > 0 && log.treated == log.rows {
        invalid!(
            "train.data.train: every element of the population is treated, in all {} rows; in a log untreated rows are \
             needed, too: give every exposure, not only those that were clicked, or set population.shape = \"matrix\" where \
             the population is all users × items",
            log.rows
        );
    }
    Ok(())
}

/// A training thread that panicked: libtorch reports exhausted memory in this way.
pub(super) fn stopped(error: JoinError) -> Error {
    let panic = match error.try_into_panic() {
        Ok(panic) => panic,
        Err(error) => return std::io::Error::other(error).into(),
    };
    match panic.downcast_ref::<String>().filter(|message| message.contains("Torch(")) {
        Some(message) => Error::Engine(TchError::Torch(message.clone()).into()),
        None => std::panic::resume_unwind(panic),
    }
}
