use clap::Args;
use counterweight::error::Result;

use super::{GlobalArgs, JobArgs, print};

/// Validate a job without running it: tables, columns and their types, queries, device
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    job: JobArgs,
}

pub(super) async fn run(global: &GlobalArgs, args: CheckArgs) -> Result<()> {
    let context = args.job.open(global).await?;
    print(&format!("{}: {} tables open\n", context.job.name, context.job.tables.len()))
}
