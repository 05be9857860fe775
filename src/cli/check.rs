use std::sync::Arc;

use clap::Args;
use counterweight::audit::AuditOperator;
use counterweight::error::{Error, Result};
use counterweight::job::Job;
use counterweight::operator::{Finding, JobContext, Operator};
use counterweight::storage::Storage;

use super::{GlobalArgs, JobArgs, print};

/// Validate a job without running it: tables, columns and their types, queries, device
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    job: JobArgs,
}

pub(super) async fn run(global: &GlobalArgs, args: CheckArgs) -> Result<()> {
    let context = JobContext::new(args.job.load(global)?, Arc::new(Storage::from_env()))?;
    let mut problems = 0;
    for name in context.job.tables.keys() {
        if context.is_to_be_scored(name).await {
            print(&format!("later    tables.{name} is written by `counterweight score`\n"))?;
            continue;
        }
        problems += tell(&Finding::new(format!("tables.{name}"), context.open_table(name).await))?;
    }
    for operator in operators(&context.job) {
        for finding in operator.findings(&context).await {
            problems += tell(&finding)?;
        }
    }
    match problems {
        0 => Ok(()),
        1 => Err(Error::Invalid(format!("{}: there is a problem", args.job.job.display()))),
        _ => Err(Error::Invalid(format!("{}: there are {problems} problems", args.job.job.display()))),
    }
}

/// Everything that has work in the job.
fn operators(job: &Job) -> Vec<Box<dyn Operator>> {
    let mut operators: Vec<Box<dyn Operator>> = Vec::new();
    #[cfg(feature = "train")]
    {
        if job.train.is_some() {
            operators.push(Box::new(counterweight::train::TrainOperator));
        }
        if job.score.is_some() {
            operators.push(Box::new(counterweight::score::ScoreOperator));
        }
    }
    if !job.audit.is_empty() {
        operators.push(Box::new(AuditOperator::default()));
    }
    operators
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
