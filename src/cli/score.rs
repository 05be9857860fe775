use clap::Args;
use counterweight::error::Result;
use counterweight::job::DeviceSpec;
use counterweight::operator::Operator;
use counterweight::score::ScoreOperator;

use super::{GlobalArgs, JobArgs, show};

/// Write a job's [score] table again, with the propensity and prediction of a trained model
#[derive(Debug, Args)]
pub(super) struct ScoreArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Where to score: auto, cpu or cuda:0; wins over the job's `device`
    #[arg(long)]
    device: Option<DeviceSpec>,
}

pub(super) async fn run(global: &GlobalArgs, mut args: ScoreArgs) -> Result<()> {
    args.job.set.extend(args.device.map(|device| format!("device={device}")));
    let context = args.job.open(global).await?;
    show(&ScoreOperator.run(&context).await?)
}
