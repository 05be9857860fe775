//! Runs trials, each by the operator that trains: in a process of its own, unless a host brings another operator.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use futures::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::file::Experiment;
use super::record::{Finished, Outcome, Record, Store};
use super::trial::{Trial, identity};
use crate::context::JobContext;
use crate::error::{Context, DIVERGED, Error, Result, invalid};
use crate::events::{Event, EventSink, NoEvents};
use crate::external::ExternalOperator;
use crate::job::{Job, settings_of};
use crate::model::{Manifest, Stop};
use crate::operator::Operator;
use crate::session::Bytes;

/// How an experiment is run, which does not affect what it finds.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// Trains the job of a trial.
    pub trainer: Arc<dyn Operator>,
    /// Assignments to the job of every trial, as `--set` takes them.
    pub assignments: Vec<String>,
    /// Runs nothing: reports on the trials that have ended.
    pub report_only: bool,
    /// Hears of every trial that ends.
    pub events: Arc<dyn EventSink>,
    /// Stops the trials under way; the records of those that have ended are kept.
    pub interrupt: CancellationToken,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            trainer: Arc::new(ExternalOperator::train()),
            assignments: Vec::new(),
            report_only: false,
            events: Arc::new(NoEvents),
            interrupt: CancellationToken::new(),
        }
    }
}

/// Runs trials, and knows the records of those that have ended.
pub(super) struct Runner<'a> {
    experiment: &'a Experiment,
    store: &'a Store<'a>,
    options: &'a Options,
    parallel: usize,
    known: BTreeMap<String, Record>,
    progress: Progress<'a>,
}

impl<'a> Runner<'a> {
    pub(super) fn new(experiment: &'a Experiment, store: &'a Store<'a>, options: &'a Options) -> Self {
        let parallel = experiment.parallel.unwrap_or_else(|| room(experiment.threads, experiment.memory));
        let progress = Progress::new(&*options.events);
        Self { experiment, store, options, parallel, known: BTreeMap::new(), progress }
    }

    /// The records of the trials so far.
    pub(super) fn known(&self) -> &BTreeMap<String, Record> {
        &self.known
    }

    /// All records, at the end.
    pub(super) fn finish(self) -> BTreeMap<String, Record> {
        self.known
    }

    /// Runs those of `trials` that have not ended, now or in an earlier run of the experiment, and says whether there is a
    /// record of each: only [`Options::report_only`] leaves some without.
    pub(super) async fn run(&mut self, trials: Vec<Trial>) -> Result<bool> {
        let mut open: BTreeMap<String, Trial> = BTreeMap::new();
        let mut complete = true;
        for trial in trials {
            if self.known.contains_key(&trial.id) || open.contains_key(&trial.id) {
                continue;
            }
            match self.store.read(&trial.id).await? {
                Some(record) if record.is_final() || self.options.report_only => {
                    self.progress.found();
                    self.known.insert(trial.id, record);
                }
                None if self.options.report_only => complete = false,
                _ => drop(open.insert(trial.id.clone(), trial)),
            }
        }
        self.progress.start(open.len());
        let mut order: Vec<Trial> = open.into_values().collect();
        order.sort_by_key(|trial| (trial.data, trial.seed, trial.method, trial.candidate));
        let mut records = stream::iter(order).map(|trial| self.run_trial(trial)).buffer_unordered(self.parallel);
        let mut done = Vec::new();
        while let Some(record) = records.next().await {
            done.extend(record?);
        }
        drop(records);
        self.known.extend(done.into_iter().map(|record| (record.id.clone(), record)));
        if self.options.interrupt.is_cancelled() {
            let finished = self.known.len();
            return Err(Error::Unfinished(format!(
                "interrupted after {finished} trials, which are kept; the same command resumes from there"
            )));
        }
        Ok(complete)
    }

    /// Runs a trial and writes its record; none where it was interrupted.
    async fn run_trial(&self, trial: Trial) -> Result<Option<Record>> {
        let interrupt = &self.options.interrupt;
        if interrupt.is_cancelled() {
            return Ok(None);
        }
        let start = Instant::now();
        let trained = self.options.trainer.run(&self.context(&trial)?).await;
        // It may have ended because of the interruption.
        if interrupt.is_cancelled() {
            return Ok(None);
        }
        let outcome = match trained {
            Ok(_) => self.outcome(&trial).await?,
            Err(error) if error.exit_code() == DIVERGED => Outcome::Diverged { error: error.to_string() },
            Err(error) => Outcome::Failed { error: error.to_string() },
        };
        let record = Record { id: trial.id.clone(), wall_seconds: start.elapsed().as_secs_f64(), outcome };
        let record = self.store.write(&record).await?;
        if !self.experiment.keep_models {
            let model = self.store.model(&trial.id)?;
            self.store.storage().remove_folder(&model).await.context(|| format!("cannot remove {model}"))?;
        }
        self.progress.done(&trial.name(self.experiment), &record);
        Ok(Some(record))
    }

    /// The context of a trial's job.
    fn context(&self, trial: &Trial) -> Result<JobContext> {
        let mut assignments = trial.assignments.clone();
        assignments.extend(self.options.assignments.iter().cloned());
        assignments.push(format!("session.threads={}", self.experiment.threads));
        assignments.push(format!("train.output={}", self.store.model(&trial.id)?));
        JobContext::builder(Job::load(&self.experiment.job, &assignments)?)
            .storage(Arc::clone(self.store.storage()))
            .events(Arc::new(NoEvents))
            .interrupt(self.options.interrupt.child_token())
            .build()
    }

    /// What the manifest says of the model that a trial wrote.
    async fn outcome(&self, trial: &Trial) -> Result<Outcome> {
        let model = self.store.model(&trial.id)?;
        let Manifest { data, training, job, .. } = Manifest::read(self.store.storage(), &model).await?;
        if identity(&settings_of(&job)) != trial.id {
            invalid!(
                "the job file {} has changed while the experiment ran; start it again",
                self.experiment.job.display()
            );
        }
        if let Stop::Interrupted { epoch } = training.stop {
            return Ok(Outcome::Failed { error: format!("interrupted by somebody else at epoch {epoch}") });
        }
        Ok(Outcome::Finished(Box::new(Finished { data, training })))
    }
}

/// How many trials fit the machine.
fn room(threads: usize, memory: Bytes) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from) / threads;
    let fit = available_memory().map_or(cores, |available| (available / memory.0) as usize);
    cores.min(fit).max(1)
}

/// Bytes that processes can have without pushing others out; unknown but on Linux.
fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

/// Tells how many trials have ended.
struct Progress<'a> {
    events: &'a dyn EventSink,
    done: AtomicU64,
    total: u64,
    found: u64,
}

impl<'a> Progress<'a> {
    fn new(events: &'a dyn EventSink) -> Self {
        Self { events, done: AtomicU64::new(0), total: 0, found: 0 }
    }

    /// A trial ended in an earlier run of the experiment.
    fn found(&mut self) {
        self.found += 1;
    }

    /// So many trials are to be run.
    fn start(&mut self, trials: usize) {
        if self.found > 0 || trials > 0 {
            tracing::info!(found = self.found, to_do = trials, "trials");
        }
        self.found = 0;
        self.total += trials as u64;
    }

    fn done(&self, name: &str, record: &Record) {
        let message = match record.finished() {
            Some(Finished { training, .. }) => {
                let metrics = training.test.as_ref().unwrap_or(&training.validation);
                let shown = [("auc", metrics.auc), ("recall", metrics.recall), ("ndcg", metrics.ndcg)];
                let shown = shown.iter().filter_map(|(name, value)| Some(format!(", {name} {:.4}", (*value)?)));
                format!("{name}{}, {:.1} s", shown.collect::<String>(), record.wall_seconds)
            }
            None => {
                let first = record.error().and_then(|error| error.lines().next()).unwrap_or_default();
                tracing::warn!("{name}: {first}");
                String::new()
            }
        };
        let done = self.done.fetch_add(1, Relaxed) + 1;
        self.events.emit(Event::Progress { task: "experiment".to_owned(), done, total: Some(self.total), message });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_one_trial_at_least() {
        assert_eq!(room(1 << 20, Bytes(1)), 1);
        assert_eq!(room(1, Bytes(u64::MAX)), 1);
        assert!(room(1, Bytes(1)) <= std::thread::available_parallelism().unwrap().get());
    }
}
