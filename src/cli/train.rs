use clap::Args;
use counterweight::error::Result;
use counterweight::job::DeviceSpec;
use counterweight::operator::Operator;
use counterweight::train::TrainOperator;

use super::{GlobalArgs, JobArgs, show};

/// Train the models of a job's [train] section, and write them to its output folder
#[derive(Debug, Args)]
pub(super) struct TrainArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Where to train: auto, cpu or cuda:0; wins over the job's `device`
    #[arg(long)]
    device: Option<DeviceSpec>,
}

pub(super) async fn run(global: &GlobalArgs, mut args: TrainArgs) -> Result<()> {
    args.job.set.extend(args.device.map(|device| format!("device={device}")));
    let context = args.job.open(global).await?;
    show(&TrainOperator.run(&context).await?)
}
