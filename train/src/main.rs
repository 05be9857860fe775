//! The executable `counterweight-train`: what `counterweight train` and `counterweight score` hand over to, and what an
//! operator of another process lets work for it.

mod operate;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use counterweight::command::{
    GlobalArgs, PATIENCE, PATIENCE_OF_TRAINING, ScoreArgs, TrainArgs, execute, show, start_logging,
};
use counterweight::operator::Operator;
use counterweight_train::{ScoreOperator, TrainOperator};

/// Train conversion models with losses that balance their propensities, and score tables with them.
#[derive(Debug, Parser)]
#[command(name = "counterweight-train", version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Train(TrainArgs),
    Score(ScoreArgs),
    /// Work for an operator of another process: a request on standard input, messages on standard output
    #[command(hide = true)]
    Operate,
}

fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    if let Command::Operate = command {
        return operate::main(&global);
    }
    start_logging(&global);
    let patience = match command {
        Command::Train(_) => PATIENCE_OF_TRAINING,
        Command::Score(_) | Command::Operate => PATIENCE,
    };
    execute(&global, patience, async || match command {
        Command::Train(args) => show(&TrainOperator.run(&args.context(&global)?).await?),
        Command::Score(args) => show(&ScoreOperator.run(&args.context(&global)?).await?),
        Command::Operate => Ok(()),
    })
}
