use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use counterweight::error::Result;
use counterweight::experiment::{Experiment, Options, Seeds, experiment};
use counterweight::external::{ExternalOperator, Program};
use counterweight::session::Bytes;
use serde_json::json;

use counterweight::command::{GlobalArgs, StderrEvents, interrupt, print, tell};

/// Compare methods: train each with every seed on every data set, and report figures over the seeds
///
/// Trials that have ended are kept: after a failure, Ctrl-C or a kill the same command resumes.
#[derive(Debug, Args)]
pub(super) struct ExperimentArgs {
    /// The experiment file
    #[arg(value_name = "EXPERIMENT")]
    experiment: PathBuf,
    /// Set a key of the job for every trial, such as `vars.dir=/data`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The folder of results, in place of the file's `output`
    #[arg(long, value_name = "URL")]
    output: Option<String>,
    /// The seeds, such as 0-9 or 0,3,5, in place of the file's `seeds`
    #[arg(long)]
    seeds: Option<Seeds>,
    /// Trials at a time, in place of the file's `parallel`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    parallel: Option<u16>,
    /// Run nothing: report on the trials that have ended
    #[arg(long)]
    report_only: bool,
}

pub(super) async fn run(global: &GlobalArgs, args: ExperimentArgs) -> Result<()> {
    let mut file = Experiment::load(&args.experiment, &args.set)?;
    file.output = args.output.unwrap_or(file.output);
    file.seeds = args.seeds.unwrap_or(file.seeds);
    file.parallel = args.parallel.map(usize::from).or(file.parallel);
    file.threads = global.threads.unwrap_or(file.threads);
    if !args.report_only {
        Program::default().checked()?;
    }
    let mut options = Options::default();
    options.assignments.extend(global.memory_limit.map(|Bytes(bytes)| format!("session.memory_limit={bytes}")));
    options.assignments.extend(global.storage_timeout.map(|seconds| format!("storage.timeout={seconds}")));
    options.report_only = args.report_only;
    if file.parallel != Some(1) {
        options.trainer = Arc::new(ExternalOperator::train().beside_others());
    }
    options.events = Arc::new(StderrEvents);
    options.interrupt = interrupt();
    let report = experiment(&file, &Arc::new(global.storage()), &options).await?;
    tell(json!({"failures": report.failures.len()}), &report.outputs);
    let printed = print(&report.text);
    for url in report.outputs.iter().filter(|url| !url.path().ends_with(".svg")) {
        tracing::info!("wrote {url}");
    }
    report.all_finished()?;
    printed
}
