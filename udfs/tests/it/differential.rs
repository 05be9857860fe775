//! SQL against the plain formulas, over everything that changes the way DataFusion runs it.

use std::collections::BTreeMap;

use datafusion::prelude::SessionContext;

use crate::population::{Call, Row, calls, partitions, population};
use crate::sql::{assert_close, config, numbers, session_with, skipping_partial_aggregation, sorted_by_segment};

const FILTER: &str = "FILTER (WHERE keep)";

fn select_list(calls: &[Call]) -> String {
    let plain = calls.iter().map(|call| call.sql.clone());
    let filtered = calls.iter().map(|call| format!("{} {FILTER}", call.sql));
    plain.chain(filtered).collect::<Vec<_>>().join(", ")
}

/// Checks one row of results: each call plain, then each with the filter.
fn check(results: &[Option<f64>], calls: &[Call], rows: &[&Row], case: &str) {
    let kept: Vec<_> = rows.iter().copied().filter(|r| r.keep == Some(true)).collect();
    let (plain, filtered) = results.split_at(calls.len());
    for ((result, filtered), call) in plain.iter().zip(filtered).zip(calls) {
        let what = format!("{} ({case})", call.sql);
        assert_close(*result, call.expected(rows), 1e-9, &what);
        let what = format!("{} {FILTER} ({case})", call.sql);
        assert_close(*filtered, call.expected(&kept), 1e-9, &what);
    }
}

async fn check_ungrouped(ctx: &SessionContext, rows: &[Row], case: &str) {
    let calls = calls();
    let sql = format!("SELECT {} FROM log", select_list(&calls));
    let results = numbers(ctx, &sql).await.unwrap();
    check(&results[0], &calls, &rows.iter().collect::<Vec<_>>(), case);
}

async fn check_grouped(ctx: &SessionContext, rows: &[Row], case: &str) {
    let calls = calls();
    let mut segments: BTreeMap<i32, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        segments.entry(row.segment).or_default().push(row);
    }
    let sql = format!("SELECT segment, {} FROM log GROUP BY segment ORDER BY segment", select_list(&calls));
    let results = numbers(ctx, &sql).await.unwrap();
    assert_eq!(results.len(), segments.len(), "{case}");
    for (result, (segment, rows)) in results.iter().zip(segments) {
        assert_eq!(result[0], Some(f64::from(segment)));
        check(&result[1..], &calls, &rows, &format!("{case}, segment {segment}"));
    }
}

#[tokio::test]
async fn partitions_and_batch_sizes() {
    for nulls in [false, true] {
        let rows = population(150, 4, nulls, 1);
        for parts in [1, 2, 8] {
            for batch_size in [1, 7, 8192] {
                let case = format!("{parts} partitions, batches of {batch_size}, nulls: {nulls}");
                let ctx = session_with(config(parts, batch_size), partitions(&rows, parts, batch_size));
                check_ungrouped(&ctx, &rows, &case).await;
                check_grouped(&ctx, &rows, &case).await;
            }
        }
    }
}

#[tokio::test]
async fn batches_longer_than_one_run() {
    let rows = population(5000, 3, true, 2);
    let ctx = session_with(config(2, 8192), partitions(&rows, 2, 8192));
    check_ungrouped(&ctx, &rows, "long batches").await;
    check_grouped(&ctx, &rows, "long batches").await;
}

#[tokio::test]
async fn skipped_partial_aggregation() {
    let rows = population(400, 200, true, 3);
    let config = skipping_partial_aggregation(config(2, 16));
    let ctx = session_with(config, partitions(&rows, 2, 16));
    let plan = "EXPLAIN ANALYZE SELECT segment, bmse(o, p, fixed64) FROM log GROUP BY segment";
    let plan = ctx.sql(plan).await.unwrap().to_string().await.unwrap();
    assert!(plan.contains("skipped_aggregation_rows"), "{plan}");
    assert!(!plan.contains("skipped_aggregation_rows=0"), "{plan}");
    check_grouped(&ctx, &rows, "partial aggregation skipped").await;
}

#[tokio::test]
async fn groups_emitted_early_from_sorted_input() {
    let mut rows = population(300, 20, true, 4);
    rows.sort_by_key(|row| row.segment);
    let ctx = sorted_by_segment(config(1, 8), partitions(&rows, 1, 8));
    let plan = "EXPLAIN SELECT segment, bmse(o, p, fixed64) FROM log GROUP BY segment";
    let plan = ctx.sql(plan).await.unwrap().to_string().await.unwrap();
    assert!(plan.contains("ordering_mode=Sorted"), "{plan}");
    check_grouped(&ctx, &rows, "sorted input").await;
}
