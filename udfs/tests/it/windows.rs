//! Window frames: the same formulas over the rows of each frame.

use datafusion::prelude::SessionConfig;

use crate::population::{Row, calls, partitions, population};
use crate::sql::{assert_close, numbers, session_with};

/// Runs every aggregate over `frame`, and checks it against the rows `from(i)..to(i)`.
async fn check(frame: &str, from: impl Fn(usize) -> usize, to: impl Fn(usize) -> usize) {
    let rows = population(120, 1, true, 5);
    let calls = calls();
    for batch_size in [8, 8192] {
        let ctx = session_with(
            SessionConfig::new().with_target_partitions(2).with_batch_size(batch_size),
            partitions(&rows, 1, 50),
        );
        let columns: Vec<_> = calls.iter().map(|call| format!("{} OVER (ORDER BY seq {frame})", call.sql)).collect();
        let sql = format!("SELECT {} FROM log ORDER BY seq", columns.join(", "));
        let results = numbers(&ctx, &sql).await.unwrap();
        assert_eq!(results.len(), rows.len());
        for (at, results) in results.iter().enumerate() {
            let frame: Vec<&Row> = rows[from(at)..to(at).max(from(at))].iter().collect();
            for (result, call) in results.iter().zip(&calls) {
                let what = format!("{} at row {at} of {sql}", call.sql);
                assert_close(*result, call.expected(&frame), 1e-8, &what);
            }
        }
    }
}

const N: usize = 120;

#[tokio::test]
async fn sliding() {
    check("ROWS BETWEEN 3 PRECEDING AND 2 FOLLOWING", |i| i.saturating_sub(3), |i| (i + 3).min(N)).await;
}

#[tokio::test]
async fn single_row() {
    check("ROWS BETWEEN CURRENT ROW AND CURRENT ROW", |i| i, |i| i + 1).await;
}

#[tokio::test]
async fn ahead_of_the_row_until_nothing_is_left() {
    check("ROWS BETWEEN 2 FOLLOWING AND 5 FOLLOWING", |i| (i + 2).min(N), |i| (i + 6).min(N)).await;
}

#[tokio::test]
async fn range() {
    check("RANGE BETWEEN 10 PRECEDING AND CURRENT ROW", |i| i.saturating_sub(10), |i| i + 1).await;
}

#[tokio::test]
async fn growing() {
    check("ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW", |_| 0, |i| i + 1).await;
}

#[tokio::test]
async fn shrinking() {
    check("ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING", |i| i, |_| N).await;
}

#[tokio::test]
async fn filtered() {
    let rows = population(N, 1, true, 6);
    let ctx = session_with(SessionConfig::new(), partitions(&rows, 1, 50));
    let sql = "SELECT bmse(o, p, fixed64) FILTER (WHERE keep) \
               OVER (ORDER BY seq ROWS BETWEEN 9 PRECEDING AND CURRENT ROW) FROM log ORDER BY seq";
    let call = calls().into_iter().find(|c| c.sql == "bmse(o, p, fixed64)").unwrap();
    for (at, result) in numbers(&ctx, sql).await.unwrap().iter().enumerate() {
        let frame = rows[at.saturating_sub(9)..=at].iter();
        let kept: Vec<_> = frame.filter(|row| row.keep == Some(true)).collect();
        assert_close(result[0], call.expected(&kept), 1e-8, sql);
    }
}
