//! The executable `counterweight-train`: what `counterweight train` and `counterweight score` hand over to, and what an
//! operator of another process lets work for it.

mod operate;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};
use counterweight::command::{
    GlobalArgs, PATIENCE, PATIENCE_OF_TRAINING, ScoreArgs, TrainArgs, execute, show, start_logging,
};
use counterweight::external::waiting;
use counterweight::operator::Operator;
use counterweight_train::{ScoreOperator, TrainOperator};

/// Train conversion models with losses that balance their propensities, and score tables with them.
#[derive(Debug, Parser)]
#[command(name = "counterweight-train", version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    Train(TrainArgs),
    Score(ScoreArgs),
    /// Work for an operator of another process: a request on standard input, messages on standard output
    #[command(hide = true)]
    Operate,
}

fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    let (name, patience) = match &command {
        Subcommands::Train(_) => ("train", PATIENCE_OF_TRAINING),
        Subcommands::Score(_) => ("score", PATIENCE),
        Subcommands::Operate => return operate::main(&global),
    };
    start_logging(&global);
    let beside_others = || match &command {
        Subcommands::Train(args) => args.beside_others(&global),
        Subcommands::Score(args) => args.beside_others(&global),
        Subcommands::Operate => false,
    };
    if let Some(error) = start_anew(beside_others) {
        tracing::debug!("threads wait as libtorch has it: {error}");
    }
    execute(&global, name, patience, async || match command {
        Subcommands::Train(args) => {
            let (report, ended) = TrainOperator.report(&args.context(&global)?).await?;
            show(&report)?;
            ended
        }
        Subcommands::Score(args) => show(&ScoreOperator.run(&args.context(&global)?).await?),
        Subcommands::Operate => Ok(()),
    })
}

/// Starts this process anew with what its environment lacks: see [`waiting`]. Returns where there is nothing to add, or it
/// cannot be done.
fn start_anew(beside_others: impl FnOnce() -> bool) -> Option<std::io::Error> {
    let variable = waiting(beside_others)?;
    let this = std::env::current_exe().ok()?;
    Some(Command::new(this).args(std::env::args_os().skip(1)).envs([variable]).exec())
}
