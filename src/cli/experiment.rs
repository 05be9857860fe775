use std::path::PathBuf;

use clap::Args;
use counterweight::error::Result;
use counterweight::experiment::grid::{Experiment, Seeds};
use counterweight::experiment::{Findings, Options, experiment};
use counterweight::session::Bytes;
use counterweight::storage::Storage;

use counterweight::command::{GlobalArgs, on_signal, print};

/// Compare methods: train each with every seed on every data set, and report figures over the seeds
///
/// Runs are kept: after a failure, Ctrl-C or a kill the same command goes on where it was.
#[derive(Debug, Args)]
pub(super) struct ExperimentArgs {
    /// The experiment file
    #[arg(value_name = "EXPERIMENT")]
    experiment: PathBuf,
    /// Set a key of the job for every run, such as `vars.dir=/data`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The folder of results, in place of the file's `output`
    #[arg(long, value_name = "URL")]
    output: Option<String>,
    /// The seeds, such as 0-9 or 0,3,5, in place of the file's `seeds`
    #[arg(long)]
    seeds: Option<Seeds>,
    /// Runs at a time, in place of the file's `parallel`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    parallel: Option<u16>,
    /// Run nothing: report on the runs that are done
    #[arg(long)]
    report_only: bool,
}

pub(super) async fn run(global: &GlobalArgs, args: ExperimentArgs) -> Result<()> {
    let mut file = Experiment::load(&args.experiment, &args.set)?;
    file.output = args.output.unwrap_or(file.output);
    file.seeds = args.seeds.unwrap_or(file.seeds);
    file.parallel = args.parallel.map(usize::from).or(file.parallel);
    file.threads = global.threads.unwrap_or(file.threads);
    let arguments = global.memory_limit.map(|Bytes(bytes)| format!("--memory-limit={bytes}"));
    let options = Options {
        program: std::env::current_exe()?,
        arguments: arguments.into_iter().collect(),
        report_only: args.report_only,
        interrupt: on_signal(),
    };
    let findings = experiment(&file, &Storage::from_env(), &options).await?;
    let Findings { text, outputs, .. } = &findings;
    print(text)?;
    for url in outputs.iter().filter(|url| !url.path().ends_with(".svg")) {
        tracing::info!("wrote {url}");
    }
    findings.all_finished()
}
