//! Small differences on top of large numbers.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int32Array, RecordBatch};
use datafusion::prelude::SessionConfig;

use crate::sql::{assert_close, numbers, session_with};

const OFFSET: f64 = 1e8;
const N: i32 = 20_000;

/// All rows treated with certainty, and `x` = 10⁸ + 0, 1, 2 or 3 in turn: mean 1.5, variance 1.25.
async fn query(sql: &str) -> Vec<Vec<Option<f64>>> {
    let rows = || 0..N;
    let floats = |f: fn(i32) -> f64| -> ArrayRef { Arc::new(Float64Array::from_iter_values(rows().map(f))) };
    let batch = RecordBatch::try_from_iter([
        ("seq", Arc::new(Int32Array::from_iter_values(rows())) as ArrayRef),
        ("o", floats(|_| 1.0)),
        ("p", floats(|_| 1.0)),
        ("x", floats(|i| OFFSET + f64::from(i % 4))),
        ("outlier", floats(|i| if i == 100 { 1e-13 } else { 1.0 })),
    ])
    .unwrap();
    let (quarter, eighth) = (N as usize / 4, N as usize / 8);
    let parts = (0..8).map(|part| match part {
        0 => vec![batch.slice(0, quarter)],
        7 => vec![],
        _ => vec![batch.slice(quarter + (part - 1) * eighth, eighth)],
    });
    let config = SessionConfig::new().with_target_partitions(8);
    numbers(&session_with(config, parts.collect()), sql).await.unwrap()
}

#[tokio::test]
async fn the_spread_of_large_numbers() {
    let n = f64::from(N);
    let floor = "bmse_noise_floor(o, p, x), bmse_noise_floor(o, p, x, x, x), \
                 bmse_noise_floor(o, p, [x])";
    let ungrouped = query(&format!("SELECT {floor} FROM log")).await;
    let grouped = query(&format!("SELECT {floor} FROM log GROUP BY o")).await;
    for results in [ungrouped, grouped] {
        for (result, dimensions) in results[0].iter().zip([1.0, 3.0, 1.0]) {
            let exact = dimensions * 1.25 / n;
            let relative = result.map(|floor| floor / exact);
            assert_close(relative, Some(1.0), 1e-7, "noise floor");
        }
    }
    let sql = "SELECT bmse_noise_floor(o, p, x) FROM log WHERE seq < 4000 GROUP BY seq % 1000";
    for result in query(sql).await {
        assert_close(result[0], Some(0.0), 1e-12, "four equal rows a group");
    }
}

#[tokio::test]
async fn the_mean_of_large_numbers() {
    let calls = "naive(o, x), naive_treated(o, x), eib(o, x, x), ips(o, p, x), snips(o, p, x), \
                 dr(o, p, x, x), sqrt(bmse(o, p, x)), ips_v2(o, p, x, 0)";
    let ungrouped = query(&format!("SELECT {calls} FROM log")).await;
    let grouped = query(&format!("SELECT {calls} FROM log GROUP BY o")).await;
    for results in [ungrouped, grouped] {
        for result in &results[0] {
            let above = result.map(|mean| mean - OFFSET);
            assert_close(above, Some(1.5), 1e-6, "mean above the offset");
        }
    }
}

#[tokio::test]
async fn windows_of_large_numbers() {
    let frame = "OVER (ORDER BY seq ROWS BETWEEN 7 PRECEDING AND CURRENT ROW)";
    let sql = format!(
        "SELECT snips(o, p, x) {frame}, sqrt(bmse(o, p, x) {frame}), \
         bmse_noise_floor(o, p, x) {frame} FROM log ORDER BY seq"
    );
    for result in query(&sql).await.iter().skip(7) {
        assert_close(result[0].map(|mean| mean - OFFSET), Some(1.5), 1e-6, "snips");
        assert_close(result[1].map(|mean| mean - OFFSET), Some(1.5), 1e-5, "bmse");
        assert_close(result[2], Some(1.25 / 8.0), 1e-3, "noise floor");
    }
}

#[tokio::test]
async fn a_window_forgets_a_huge_weight() {
    let frame = "OVER (ORDER BY seq ROWS BETWEEN 7 PRECEDING AND CURRENT ROW)";
    let sql = format!(
        "SELECT ess(o, outlier) {frame}, snips(o, outlier, x - 1e8) {frame}, \
         ips(o, outlier, x - 1e8) {frame} FROM log ORDER BY seq"
    );
    for result in query(&sql).await.iter().skip(108) {
        assert_close(result[0], Some(8.0), 1e-9, "ess");
        assert_close(result[1], Some(1.5), 1e-9, "snips");
        assert_close(result[2], Some(1.5), 1e-9, "ips");
    }
}
