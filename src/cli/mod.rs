//! The command line: parse and dispatch, one file a subcommand.

mod audit;
mod check;
mod experiment;
mod functions;
mod schema;
mod simulate;
mod sql;
mod train;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use counterweight::command::{
    GlobalArgs, PATIENCE, PATIENCE_OF_EXPERIMENTS, ScoreArgs, TrainArgs, execute, start_logging,
};

/// Audit learned propensities in SQL, and train conversion models with losses that balance them.
#[derive(Debug, Parser)]
#[command(name = "counterweight", version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Audit(audit::AuditArgs),
    Check(check::CheckArgs),
    Experiment(experiment::ExperimentArgs),
    Functions(functions::FunctionsArgs),
    Schema(schema::SchemaArgs),
    Score(ScoreArgs),
    Simulate(simulate::SimulateArgs),
    Sql(sql::SqlArgs),
    Train(TrainArgs),
}

impl Command {
    fn name(&self) -> &'static str {
        match self {
            Self::Audit(_) => "audit",
            Self::Check(_) => "check",
            Self::Experiment(_) => "experiment",
            Self::Functions(_) => "functions",
            Self::Schema(_) => "schema",
            Self::Score(_) => "score",
            Self::Simulate(_) => "simulate",
            Self::Sql(_) => "sql",
            Self::Train(_) => "train",
        }
    }
}

pub(crate) fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    start_logging(&global);
    let patience = match command {
        Command::Experiment(_) => PATIENCE_OF_EXPERIMENTS,
        _ => PATIENCE,
    };
    execute(&global, command.name(), patience, async || match command {
        Command::Audit(args) => audit::run(&global, args).await,
        Command::Check(args) => check::run(&global, args).await,
        Command::Experiment(args) => experiment::run(&global, args).await,
        Command::Functions(args) => functions::run(args),
        Command::Schema(args) => schema::run(args),
        Command::Score(args) => train::hand_over(|| args.beside_others(&global)),
        Command::Simulate(args) => simulate::run(&global, args).await,
        Command::Sql(args) => sql::run(&global, args).await,
        Command::Train(args) => train::hand_over(|| args.beside_others(&global)),
    })
}
