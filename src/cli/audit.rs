use clap::{Args, ValueEnum};
use counterweight::audit::{AuditOperator, CHECKS};
use counterweight::error::{Error, Result};
use counterweight::operator::Operator;

use counterweight::command::{GlobalArgs, JobArgs, print, show};

/// Audit the propensities of a job's tables: balance, weights, calibration, estimates
#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    #[command(flatten)]
    job: Option<JobArgs>,
    /// Run only the audit `[audit.NAME]`; may be repeated
    #[arg(long, value_name = "NAME")]
    audit: Vec<String>,
    /// What is printed: tables to read, or every figure as JSON
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Print the checks that an audit runs, what they need and how to read them
    #[arg(long, exclusive = true)]
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
    let Some(job) = args.job.filter(|_| !args.list) else {
        return print(&CHECKS.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    };
    let context = job.context(global)?;
    let mut report = AuditOperator { audits: args.audit }.run(&context).await?;
    if let Format::Json = args.format {
        let json = serde_json::to_string_pretty(&report.summary).map_err(std::io::Error::from).map_err(Error::Io)?;
        report.text = json + "\n";
    }
    show(&report)
}
