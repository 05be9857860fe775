//! Arguments that more than one executable takes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{StderrEvents, interrupt};
use crate::context::JobContext;
use crate::error::Result;
use crate::job::{DeviceSpec, Job};
use crate::session::{Bytes, SessionOptions};
use crate::storage::Storage;

/// The arguments of every subcommand.
#[derive(Debug, Args)]
pub struct GlobalArgs {
    /// How log lines look on standard error
    #[arg(long, global = true, value_enum, default_value_t, env = "COUNTERWEIGHT_LOG_FORMAT")]
    pub log_format: LogFormat,
    /// Which log lines are shown, such as `debug` or `counterweight=trace`
    #[arg(long, global = true, default_value = "info", env = "COUNTERWEIGHT_LOG")]
    pub log: String,
    /// Bytes that queries may hold before they spill, such as 512MB or 2GiB
    #[arg(long, global = true, value_name = "BYTES")]
    pub memory_limit: Option<Bytes>,
    /// Threads that run queries and train models
    #[arg(long, global = true, value_name = "N", value_parser = at_least_one)]
    pub threads: Option<usize>,
    /// Seconds that a store may take for an answer, retries included [default: 60]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub storage_timeout: Option<u64>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub enum LogFormat {
    /// One line of text an event
    #[default]
    Text,
    /// One JSON object an event
    Json,
}

/// Reads a count that 0 makes no sense for.
fn at_least_one(text: &str) -> std::result::Result<usize, String> {
    match text.parse::<u16>() {
        Ok(count @ 1..) => Ok(count.into()),
        _ => Err(format!("give a whole number from 1 to {}", u16::MAX)),
    }
}

impl GlobalArgs {
    /// Reads a job. What the command line says of the session wins.
    pub fn load(&self, job: &Path, set: &[String]) -> Result<Job> {
        let memory_limit = self.memory_limit.map(|Bytes(bytes)| format!("session.memory_limit={bytes}"));
        let threads = self.threads.map(|threads| format!("session.threads={threads}"));
        let timeout = self.storage_timeout.map(|seconds| format!("storage.timeout={seconds}"));
        let set: Vec<String> = set.iter().cloned().chain(memory_limit).chain(threads).chain(timeout).collect();
        Job::load(job, &set)
    }

    /// The session of a command that has no job.
    pub fn session_options(&self) -> SessionOptions {
        SessionOptions { memory_limit: self.memory_limit, threads: self.threads, ..SessionOptions::default() }
    }

    /// The stores of a command that has no job.
    pub fn storage(&self) -> Storage {
        let storage = Storage::from_env();
        match self.storage_timeout {
            Some(seconds) => storage.with_timeout(Duration::from_secs(seconds)),
            None => storage,
        }
    }
}

/// The arguments of every subcommand that runs a job.
#[derive(Debug, Args)]
pub struct JobArgs {
    /// The job file
    #[arg(value_name = "JOB")]
    pub job: PathBuf,
    /// Set a key of the job, such as `vars.dir=/data`, `seed=3` or `train.loss.phi=product`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Read and write nothing but what lies under PREFIX, a path or URL; may be repeated
    #[arg(long, value_name = "PREFIX")]
    pub allow_location: Vec<String>,
}

impl JobArgs {
    /// Reads the job.
    pub fn load(&self, global: &GlobalArgs) -> Result<Job> {
        global.load(&self.job, &self.set)
    }

    /// The context that the job's operators run in: Ctrl-C interrupts it, and its events are shown on the terminal.
    pub fn context(&self, global: &GlobalArgs) -> Result<JobContext> {
        let job = self.load(global)?;
        let storage = Arc::new(job.storage.stores().with_allowed(&self.allow_location)?);
        let context = JobContext::builder(job).storage(storage);
        context.events(Arc::new(StderrEvents)).interrupt(interrupt()).build()
    }
}

/// The arguments of a subcommand that runs a job's models.
#[derive(Debug, Args)]
pub struct ModelArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Where the models run: auto, cpu or cuda:0; wins over the job's `device`
    #[arg(long)]
    device: Option<DeviceSpec>,
}

impl ModelArgs {
    /// Whether the job says that other work runs on the same processors.
    fn beside_others(&self, global: &GlobalArgs) -> bool {
        self.job.load(global).is_ok_and(|job| job.session.beside_others)
    }

    /// The context that the job's models run in, after `set`.
    fn context(&self, global: &GlobalArgs, set: impl Iterator<Item = String>) -> Result<JobContext> {
        let device = self.device.map(|device| format!("device={device}"));
        let set = self.job.set.iter().cloned().chain(device).chain(set).collect();
        let allow_location = self.job.allow_location.clone();
        JobArgs { job: self.job.job.clone(), set, allow_location }.context(global)
    }
}

/// Train the models of a job's `[train]` section, and write them to its output folder
#[derive(Debug, Args)]
pub struct TrainArgs {
    #[command(flatten)]
    models: ModelArgs,
    /// Resume an interrupted run of the same job, or train from the start where there is none; with `if-same` also where the
    /// interrupted run was of another job or other data
    #[arg(long, value_name = "if-same", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = ["true", "false", "if-same"])]
    resume: Option<String>,
    /// Show what the seconds of an epoch are spent on
    #[arg(long)]
    timing: bool,
}

impl TrainArgs {
    /// Whether the job says that other work runs on the same processors.
    pub fn beside_others(&self, global: &GlobalArgs) -> bool {
        self.models.beside_others(global)
    }

    /// The context to train in.
    pub fn context(&self, global: &GlobalArgs) -> Result<JobContext> {
        let resume = self.resume.as_ref().map(|resume| format!("train.checkpoint.resume={resume}"));
        let timing = self.timing.then(|| "train.timing=true".to_owned());
        self.models.context(global, resume.into_iter().chain(timing))
    }
}

/// Write a job's `[score]` table again, with the propensity and prediction of a trained model
#[derive(Debug, Args)]
pub struct ScoreArgs {
    #[command(flatten)]
    models: ModelArgs,
}

impl ScoreArgs {
    /// Whether the job says that other work runs on the same processors.
    pub fn beside_others(&self, global: &GlobalArgs) -> bool {
        self.models.beside_others(global)
    }

    /// The context to score in.
    pub fn context(&self, global: &GlobalArgs) -> Result<JobContext> {
        self.models.context(global, std::iter::empty())
    }
}
