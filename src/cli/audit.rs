use std::path::PathBuf;

use clap::{Args, ValueEnum};
use counterweight::audit::{AuditOperator, CHECKS};
use counterweight::error::{Error, Result};

use counterweight::command::{GlobalArgs, JobArgs, print, show};

/// Audit the propensities of a job's tables: balance, weights, calibration, estimates
#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    /// The job file
    #[arg(value_name = "JOB", required_unless_present = "list")]
    job: Option<PathBuf>,
    /// Set a key of the job, such as `vars.dir=/data` or `seed=3`; may be repeated
    #[arg(long, value_name = "KEY=VALUE", requires = "job")]
    set: Vec<String>,
    /// Read and write nothing but what lies under PREFIX, a path or URL; may be repeated
    #[arg(long, value_name = "PREFIX", requires = "job")]
    allow_location: Vec<String>,
    /// Run only the audit `[audit.NAME]`; may be repeated
    #[arg(long, value_name = "NAME")]
    audit: Vec<String>,
    /// What is printed: tables to read, or every figure as JSON
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Print the checks that an audit runs, what they need and how to read them; with JOB, the audits of that job and
    /// which checks each of them runs
    #[arg(long)]
    list: bool,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Format {
    /// Aligned tables, each under what is checked and a verdict
    #[default]
    Text,
    /// One JSON object
    Json,
}

pub(super) async fn run(global: &GlobalArgs, args: AuditArgs) -> Result<()> {
    let Some(job) = args.job else {
        return print(&CHECKS.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    };
    let context = JobArgs { job, set: args.set, allow_location: args.allow_location }.context(global)?;
    let operator = AuditOperator { audits: args.audit };
    if args.list {
        return print(&operator.list(&context.job)?);
    }
    let (mut report, ended) = operator.report(&context).await?;
    if let Format::Json = args.format {
        let json = serde_json::to_string_pretty(&report.summary).map_err(std::io::Error::from).map_err(Error::Io)?;
        report.text = json + "\n";
    }
    show(&report)?;
    ended
}
