use clap::Args;
use counterweight::error::Result;
use counterweight::train::TrainOperator;

use super::{GlobalArgs, ModelArgs};

/// Train the models of a job's [train] section, and write them to its output folder
#[derive(Debug, Args)]
pub(super) struct TrainArgs {
    #[command(flatten)]
    models: ModelArgs,
}

pub(super) async fn run(global: &GlobalArgs, args: TrainArgs) -> Result<()> {
    args.models.run(global, TrainOperator).await
}
