//! A batch system that embeds Counterweight: it has a DataFusion session of its own, lets a job's audit run in it, reads the
//! figures, and adds an operator to those of the job.
//!
//!     cargo run --example embed

use std::sync::Arc;

use async_trait::async_trait;
use counterweight::arrow::array::{ArrayRef, Float64Array, RecordBatch};
use counterweight::datafusion::prelude::{SessionContext, col, lit};
use counterweight::events::{Event, EventSink};
use counterweight::job::Job;
use counterweight::operator::{Finding, Operator, Report};
use counterweight::{JobContext, Result};
use counterweight_udfs::expr_fn;
use serde_json::json;

/// The job as its author wrote it. It reads a table of the host's, `log`; the result goes nowhere but to the report.
const JOB: &str = r#"
name = "embedded"
[columns]
treated = "clicked"
propensity = "p"
[audit.log]
query = "SELECT * FROM log"
"#;

/// Every event, on standard output.
#[derive(Debug)]
struct Printed;

impl EventSink for Printed {
    fn emit(&self, event: Event) {
        println!("event: {event:?}");
    }
}

/// An operator of the host's own: how many rows the job's session sees in `log`.
struct Count;

#[async_trait]
impl Operator for Count {
    fn name(&self) -> &str {
        "count"
    }

    async fn check(&self, context: &JobContext) -> Vec<Finding> {
        vec![Finding::new("log", context.query("count", "SELECT * FROM log").await.map(drop))]
    }

    async fn run(&self, context: &JobContext) -> Result<Report> {
        let rows = context.query("count", "SELECT * FROM log").await?.count().await?;
        Ok(Report::new(self.name(), format!("{rows} rows\n"), json!({ "rows": rows }), Vec::new()))
    }
}

/// A log of the host's: propensities of 0.2, 0.5 and 0.8 that are right.
fn log() -> Result<RecordBatch> {
    let rows = (0..30_000).map(|row| (row % 3, row / 3 % 10));
    let propensity = |group| [0.2, 0.5, 0.8][group];
    let clicked = |(group, turn): (usize, usize)| f64::from((turn as f64) < 10.0 * propensity(group));
    let columns: [(&str, ArrayRef); 2] = [
        ("clicked", Arc::new(rows.clone().map(clicked).collect::<Float64Array>())),
        ("p", Arc::new(rows.map(|(group, _)| propensity(group)).collect::<Float64Array>())),
    ];
    Ok(RecordBatch::try_from_iter(columns)?)
}

#[tokio::main]
async fn main() -> Result<()> {
    // The host's session: its catalogs, its memory pool, its functions, and ours beside them.
    let mut host = SessionContext::new();
    host.register_batch("log", log()?)?;
    counterweight_udfs::register_all(&mut host)?;
    let imbalance = expr_fn::bmse(col("clicked"), col("p"), vec![lit(1.0)]).alias("bmse");
    host.table("log").await?.aggregate(vec![], vec![imbalance])?.show().await?;

    // A job in it. Tables of the job lie beside those of the host, which stays as it is.
    let context = JobContext::builder(Job::parse(JOB, &[])?)
        .session(host)
        .events(Arc::new(Printed))
        .operator(Arc::new(Count))
        .build()?;
    for operator in context.operators() {
        Finding::all(operator.check(&context).await)?;
        let report = operator.run(&context).await?;
        print!("{}: {}", report.operator, report.text);
        if let Some(balance) = report.summary.pointer("/audits/log/checks/balance/rows/0") {
            println!("n = {}, BMSE = {}", balance["n"], balance["bmse"]);
        }
    }
    Ok(())
}
