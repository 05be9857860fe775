//! Sessions, and queries that give numbers.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::Float64Type;
use datafusion::datasource::MemTable;
use datafusion::error::Result;
use datafusion::prelude::{SessionConfig, SessionContext, col};
use datafusion::scalar::ScalarValue;

pub(crate) fn session(config: SessionConfig) -> SessionContext {
    let mut ctx = SessionContext::new_with_config(config);
    counterweight_udfs::register_all(&mut ctx).unwrap();
    ctx
}

pub(crate) fn config(partitions: usize, batch_size: usize) -> SessionConfig {
    SessionConfig::new().with_target_partitions(partitions).with_batch_size(batch_size)
}

/// Rows become states of their own, as where nearly every row is a group.
pub(crate) fn skipping_partial_aggregation(config: SessionConfig) -> SessionConfig {
    let skip = "datafusion.execution.skip_partial_aggregation_probe";
    config
        .set_usize(&format!("{skip}_rows_threshold"), 0)
        .set(&format!("{skip}_ratio_threshold"), &ScalarValue::Float64(Some(0.0)))
}

/// A session that knows that the batches of `log` are sorted by segment.
pub(crate) fn sorted_by_segment(config: SessionConfig, partitions: Vec<Vec<RecordBatch>>) -> SessionContext {
    let ctx = session(config);
    let table = MemTable::try_new(partitions[0][0].schema(), partitions).unwrap();
    let table = table.with_sort_order(vec![vec![col("segment").sort(true, true)]]);
    ctx.register_table("log", Arc::new(table)).unwrap();
    ctx
}

/// A session whose table `log` has one partition for each of `partitions`.
pub(crate) fn session_with(config: SessionConfig, partitions: Vec<Vec<RecordBatch>>) -> SessionContext {
    let schema = partitions.iter().flatten().next().unwrap().schema();
    let ctx = session(config);
    let table = MemTable::try_new(schema, partitions).unwrap();
    ctx.register_table("log", Arc::new(table)).unwrap();
    ctx
}

/// The result of a query, every column cast to float.
pub(crate) async fn numbers(ctx: &SessionContext, sql: &str) -> Result<Vec<Vec<Option<f64>>>> {
    let mut rows = vec![];
    for batch in ctx.sql(sql).await?.collect().await? {
        for row in 0..batch.num_rows() {
            let cell = |column: &datafusion::arrow::array::ArrayRef| {
                let column =
                    datafusion::arrow::compute::cast(column, &datafusion::arrow::datatypes::DataType::Float64).unwrap();
                let column = column.as_primitive::<Float64Type>();
                column.is_valid(row).then(|| column.value(row))
            };
            rows.push(batch.columns().iter().map(cell).collect());
        }
    }
    Ok(rows)
}

/// The one number that a query gives.
pub(crate) async fn number(sql: &str) -> Option<f64> {
    let rows = numbers(&session(SessionConfig::new()), sql).await;
    let rows = rows.unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert_eq!((rows.len(), rows[0].len()), (1, 1), "{sql}");
    rows[0][0]
}

/// The message of the error that a query ends in.
pub(crate) async fn failure(sql: &str) -> String {
    match numbers(&session(SessionConfig::new()), sql).await {
        Ok(rows) => panic!("{sql} gave {rows:?}"),
        Err(error) => error.strip_backtrace(),
    }
}

#[track_caller]
pub(crate) fn assert_close(actual: Option<f64>, expected: Option<f64>, tolerance: f64, what: &str) {
    let close = match (actual, expected) {
        (None, None) => true,
        (Some(a), Some(e)) => (a - e).abs() <= tolerance * e.abs().max(1.0),
        _ => false,
    };
    assert!(close, "{what}: {actual:?}, expected {expected:?}");
}
