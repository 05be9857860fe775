use clap::Args;
use counterweight::context::JobContext;
use counterweight::error::{Error, Result};
use counterweight::operator::Finding;

use counterweight::command::{GlobalArgs, JobArgs, print};

/// Validate a job without running it: tables, columns and their types, queries, device
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    job: JobArgs,
}

pub(super) async fn run(global: &GlobalArgs, args: CheckArgs) -> Result<()> {
    let context = args.job.context(global)?;
    let problems = tokio::select! {
        problems = look(&context) => problems?,
        () = context.interrupt.cancelled() => return Err(Error::Interrupted),
    };
    match problems {
        0 => Ok(()),
        1 => Err(Error::Invalid(format!("{}: there is a problem", args.job.job.display()))),
        _ => Err(Error::Invalid(format!("{}: there are {problems} problems", args.job.job.display()))),
    }
}

/// Prints what is found in the job, and counts the problems.
async fn look(context: &JobContext) -> Result<usize> {
    let mut problems = 0;
    for name in context.job.tables.keys() {
        if context.is_to_be_scored(name).await {
            print(&format!("later    tables.{name} is written by `counterweight score`\n"))?;
            continue;
        }
        problems += tell(&Finding::new(format!("tables.{name}"), context.open_table(name).await))?;
    }
    for operator in context.operators() {
        for finding in operator.check(context).await {
            problems += tell(&finding)?;
        }
    }
    Ok(problems)
}

/// Prints a line for the thing that was checked, and counts its problem.
fn tell(finding: &Finding) -> Result<usize> {
    match &finding.problem {
        None => print(&format!("ok       {}\n", finding.what))?,
        Some(later @ Error::ToBeScored { .. }) => {
            print(&format!("later    {later}\n"))?;
            return Ok(0);
        }
        Some(problem) => {
            let lines = problem.to_string().replace('\n', "\n         ");
            print(&format!("problem  {}\n         {lines}\n", finding.what))?;
        }
    }
    Ok(usize::from(finding.problem.is_some()))
}
