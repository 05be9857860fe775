mod report;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use datafusion::arrow::util::display::array_value_to_string;
use serde_json::json;
use tch::{Device, TchError, Tensor};
use tokio::runtime::Handle;
use tokio::task::JoinError;
use url::Url;

use crate::artifact::checkpoint::{Checkpoints, Run};
use crate::artifact::model_folder::{Description, Files, vocabulary_file};
use crate::data::population::{Covariates, Listing};
use crate::data::sampler::{BlockSampler, Prefetch, RowSampler, RowSource, Sampler};
use crate::data::vocabulary::Vocabulary;
use crate::data::{DataSet, Evaluation, RowStream, TRAIN, Training, read, scan};
use crate::device::{device, device_name};
use crate::fit::ensemble::{Ensemble, EnsembleState, fit_ensemble};
use crate::fit::evaluation::{EvaluationSet, population_bmse};
use crate::fit::models::Models;
use crate::fit::threads::Threads;
use crate::fit::trainer::{Fitted, TrainingState, fit_propensity};
use crate::propensity::logistic;
use crate::propensity::naive_bayes::NaiveBayes;
use counterweight::context::JobContext;
use counterweight::error::{Context, Error, Result, invalid};
use counterweight::events::Event;
use counterweight::job::{Job, Metric, PropensitySource, Shape, TrainSpec};
use counterweight::model::{DataRecord, Fingerprint, Manifest, MemberRecord, Metrics, Stop, TrainingRecord};
use counterweight::operator::{Finding, Operator, Report};
use counterweight::storage::parse_url;

/// Rows of a log that are kept in memory, and of a longer one's shuffle buffer: 24 bytes each.
const SHUFFLE_ROWS: usize = 1 << 23;

/// Trains the models of a job's `[train]` section and writes them to its output folder.
///
/// Interrupted, it writes the best models so far. Where a loss or a gradient stops being finite it writes them too, and
/// fails.
#[derive(Debug, Clone, Copy, Default)]
pub struct TrainOperator;

/// The data sets of a job, read.
struct Data {
    training: Training,
    validation: Evaluation,
    test: Option<Evaluation>,
    uniform: Option<Evaluation>,
    /// Of users and of items, where the job lists them.
    covariates: [Option<Covariates>; 2],
}

/// The queries of a job's data sets, planned.
struct Sets {
    train: DataSet,
    validation: DataSet,
    test: Option<DataSet>,
    uniform: Option<DataSet>,
    users: Option<Listing>,
    items: Option<Listing>,
}

impl Data {
    fn record(&self) -> DataRecord {
        DataRecord {
            train: self.training.fingerprint.clone(),
            validation: self.validation.fingerprint.clone(),
            test: self.test.as_ref().map(|test| test.fingerprint.clone()),
            uniform: self.uniform.as_ref().map(|uniform| uniform.fingerprint.clone()),
            covariates: Covariates::hash(self.covariates.each_ref().map(Option::as_ref)),
        }
    }
}

#[async_trait]
impl Operator for TrainOperator {
    fn name(&self) -> &str {
        "train"
    }

    async fn check(&self, context: &JobContext) -> Vec<Finding> {
        vec![Finding::new("train", validate(context).await)]
    }

    async fn run(&self, context: &JobContext) -> Result<Report> {
        let start = Instant::now();
        let spec = section(context)?;
        let device = device(context.job.device)?;
        let output = output(context, spec)?;
        let (train, data) = load(context, spec).await?;
        let record = data.record();
        let unknown = [data.validation.unknown, data.test.as_ref().map_or(0, |test| test.unknown)];
        let Training { users, items, .. } = &data.training;
        let (users, items) = (Arc::clone(users), Arc::clone(items));

        let (user_file, item_file) = (vocabulary_file("users", &users)?, vocabulary_file("items", &items)?);
        let names = [user_file.0.file.as_str(), item_file.0.file.as_str()];
        let run = Run::new(&context.job, &device_name(device), &record, names)?;
        let every = Duration::from_secs(spec.checkpoint.every_seconds);
        let mut checkpoints = Checkpoints::open(&context.storage, &output, run.clone(), every).await?;
        if spec.checkpoint.resume && checkpoints.epochs().is_none() {
            let manifest = Manifest::read(&context.storage, &output).await.ok();
            if let Some(manifest) = manifest.filter(|manifest| run.has_made(manifest)) {
                checkpoints.remove().await;
                return Ok(finished(&manifest, &output));
            }
        }
        let state = unfinished(spec, &mut checkpoints, device).await?;

        let (job, handle) = (context.clone(), Handle::current());
        let work = move || learn(&job, train, data, device, state, checkpoints, handle);
        let (learned, checkpoints) = tokio::task::spawn_blocking(work).await.map_err(stopped)??;

        let about = Description {
            model: spec.model.clone(),
            loss: spec.loss.clone(),
            data: record,
            training: learned.training,
            job: serde_json::to_value(&*context.job).map_err(std::io::Error::from)?,
        };
        let summary = json!({
            "users": users.len(),
            "items": items.len(),
            "unknown": unknown,
            "data": &about.data,
            "training": &about.training,
            "seconds": start.elapsed().as_secs_f64(),
        });
        let text = report::render(&about, &users, &items, unknown);
        let stop = about.training.stop.clone();
        let files = Files::new(&learned.models, user_file, item_file, about)?;
        let outputs = files.write(&context.storage, &output).await?;
        if stop.is_good() {
            checkpoints.remove().await;
        }
        if let Stop::Diverged(divergence) = stop {
            return Err(divergence).context(|| format!("the best models so far are at {output}"));
        }
        Ok(Report::new(self.name(), text, summary, outputs))
    }
}

async fn validate(context: &JobContext) -> Result<()> {
    let spec = section(context)?;
    device(context.job.device)?;
    plan(context, spec).await?;
    output(context, spec).map(drop)
}

/// The state that an unfinished run kept, where it is to be resumed.
async fn unfinished(spec: &TrainSpec, checkpoints: &mut Checkpoints, device: Device) -> Result<Option<EnsembleState>> {
    match (spec.checkpoint.resume, checkpoints.epochs()) {
        (true, Some(epoch)) => tracing::info!(epoch, "resuming after the last epoch of an unfinished run"),
        (true, None) => tracing::info!("no unfinished run: training from the start"),
        (false, Some(epoch)) => {
            tracing::info!(epoch, "training from the start; --resume would resume an unfinished run");
        }
        (false, None) => {}
    }
    if spec.checkpoint.resume { checkpoints.load(spec, device).await } else { Ok(None) }
}

/// The report of a run that has nothing left to do.
fn finished(manifest: &Manifest, output: &Url) -> Report {
    let text = format!("{output} holds the finished model of this job and these data: there is nothing to resume\n");
    let summary = json!({
        "users": manifest.users.count,
        "items": manifest.items.count,
        "data": &manifest.data,
        "training": &manifest.training,
    });
    Report::new(TrainOperator.name(), text, summary, Vec::new())
}

fn section(context: &JobContext) -> Result<&TrainSpec> {
    match &context.job.train {
        Some(spec) => Ok(spec),
        None => invalid!("the job has no [train] section"),
    }
}

/// The output folder.
fn output(context: &JobContext, spec: &TrainSpec) -> Result<Url> {
    let url = parse_url(&spec.output).context(|| "train.output")?;
    if matches!(url.scheme(), "http" | "https") {
        invalid!("train.output = {:?}: models are written to a path, or to s3://, gs:// or az://", spec.output);
    }
    context.storage.resolve(&url).context(|| "train.output")?;
    Ok(url)
}

async fn plan(context: &JobContext, spec: &TrainSpec) -> Result<Sets> {
    let uniform = spec.data.uniform.as_ref().filter(|_| spec.propensity.source == PropensitySource::NaiveBayes);
    let optional = async |key, sql: Option<&String>| match sql {
        Some(sql) => DataSet::plan(context, key, sql).await.map(Some),
        None => Ok(None),
    };
    let listing = async |key, sql: Option<&String>| match sql {
        Some(sql) => Listing::plan(context, key, sql).await.map(Some),
        None => Ok(None),
    };
    let population = &context.job.population;
    Ok(Sets {
        users: listing("population.users", population.users.as_ref()).await?,
        items: listing("population.items", population.items.as_ref()).await?,
        test: optional("train.data.test", spec.data.test.as_ref()).await?,
        uniform: optional("train.data.uniform", uniform).await?,
        train: DataSet::plan(context, TRAIN, &spec.data.train).await?,
        validation: DataSet::plan(context, "train.data.validation", &spec.data.validation).await?,
    })
}

/// Reads the data sets: the training set once, to learn what it holds, and the others whole.
async fn load(context: &JobContext, spec: &TrainSpec) -> Result<(DataSet, Data)> {
    let Sets { train, validation, test, uniform, users, items } = plan(context, spec).await?;
    let listed = async |listing: Option<Listing>| match listing {
        Some(listing) => listing.read().await.map(|(vocabulary, covariates)| (Some(vocabulary), covariates)),
        None => Ok((None, None)),
    };
    let ((users, of_users), (items, of_items)) = (listed(users).await?, listed(items).await?);
    let keep = match context.job.population.shape {
        Shape::Matrix => usize::MAX,
        Shape::Log => SHUFFLE_ROWS,
    };
    let training = scan(&train, users, items, keep).await?;
    let validation = read(&validation, &training.users, &training.items).await?;
    let optional = async |set: Option<DataSet>| match set {
        Some(set) => read(&set, &training.users, &training.items).await.map(Some),
        None => Ok(None),
    };
    let (test, uniform) = (optional(test).await?, optional(uniform).await?);
    for (key, set) in [("train.data.validation", Some(&validation)), ("train.data.test", test.as_ref())] {
        if let Some(set) = set.filter(|set| set.unknown > 0) {
            tracing::warn!(
                "{key}: {} of {} rows have a user or item unknown in training, and are left out",
                set.unknown,
                set.fingerprint.rows
            );
        }
    }
    Ok((train, Data { training, validation, test, uniform, covariates: [of_users, of_items] }))
}

/// What training gave.
struct Learned {
    models: Models,
    training: TrainingRecord,
}

/// Trains on this thread, from `state` on if there is one, and gives `checkpoints` back.
fn learn(
    context: &JobContext,
    set: DataSet,
    data: Data,
    device: Device,
    state: Option<EnsembleState>,
    mut checkpoints: Checkpoints,
    runtime: Handle,
) -> Result<(Learned, Checkpoints)> {
    let (job, spec) = (&*context.job, section(context)?);
    let Data { training, validation, test, uniform, covariates } = data;
    let validation = EvaluationSet::new(validation.rows, device);
    check_defined(spec.evaluation.metric, &validation)?;
    let begins = state.is_none();
    let (users, items) = (training.users.len(), training.items.len());
    let mut state =
        state.unwrap_or_else(|| EnsembleState::new(spec, Models::new(spec, users, items, job.seed, 0, device)));
    let models = &mut state.current.models;
    if let Some(uniform) = &uniform {
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
        if let Err(error) = runtime.block_on(checkpoints.save(finished, state)) {
            tracing::warn!("cannot write a checkpoint of this epoch: {error}");
        }
    };
    let ensemble = fit_ensemble(spec, job.seed, state, &*sampler, &validation, &context.interrupt, report)?;
    let Ensemble { members, stop } = ensemble;
    let of_only = if let [only] = &members[..] { Some(only.best().validation.clone()) } else { None };
    let parts = members
        .into_iter()
        .map(|Fitted { models, best_epoch, history, .. }| (models, MemberRecord { best_epoch, history }));
    let (models, members): (Vec<_>, Vec<_>) = parts.unzip();
    let models = Models::mean(models);
    let validation = match of_only {
        Some(metrics) => metrics,
        None => Metrics {
            bmse: population_bmse(&spec.loss, &models.propensity, &models.prediction, &*sampler)?,
            ..validation.evaluate(&models.prediction, spec.evaluation.k)
        },
    };
    let test = test.map(|test| EvaluationSet::new(test.rows, device));
    let test = test.map(|test| test.evaluate(&models.prediction, spec.evaluation.k));
    let training = TrainingRecord { device: device_name(device), stop, members, validation, test };
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

/// A training thread that panicked: libtorch reports exhausted memory in this way.
fn stopped(error: JoinError) -> Error {
    let panic = match error.try_into_panic() {
        Ok(panic) => panic,
        Err(error) => return std::io::Error::other(error).into(),
    };
    match panic.downcast_ref::<String>().filter(|message| message.contains("Torch(")) {
        Some(message) => Error::Engine(TchError::Torch(message.clone()).into()),
        None => std::panic::resume_unwind(panic),
    }
}
