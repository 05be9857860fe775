//! Intervals against plain computations of two passes.

use std::collections::BTreeMap;

use datafusion::prelude::SessionConfig;

use crate::population::{Row, partitions, population};
use crate::sql::{assert_close, failure, number, numbers, session, session_with};

const FIELDS: [&str; 6] = ["estimate", "std_error", "lower", "upper", "n", "ess"];

type Interval = [Option<f64>; FIELDS.len()];

/// A call of an interval: the estimator, its arguments, its literal and its level.
#[derive(Clone, Copy)]
struct Case(&'static str, &'static str, f64, Option<f64>);

const CASES: [Case; 14] = [
    Case("naive", "o, e", 0.0, None),
    Case("naive_treated", "o_int, e", 0.0, Some(0.8)),
    Case("eib", "o_uint, e, i", 0.0, None),
    Case("ips", "o_float, p, e", 0.0, Some(0.8)),
    Case("snips", "o, p, e", 0.0, None),
    Case("dr", "o, p, e, i", 0.0, None),
    Case("snips_dr", "o_int, p, e, i", 0.0, Some(0.8)),
    Case("snips_dr", "o, p, e, i", 0.0, None),
    Case("ips_clipped", "o, p, e, 1.5", 1.5, None),
    Case("ips_clipped", "o, p, e, 5", 5.0, Some(0.8)),
    Case("switch_dr", "o, p, e, i, 1.5", 1.5, None),
    Case("switch_dr", "o, p, e, i, 5", 5.0, None),
    Case("dr_os", "o, p, e, i, 0", 0.0, None),
    Case("dr_os", "o_float, p, e, i, 7", 7.0, Some(0.8)),
];

impl Case {
    fn sql(self) -> String {
        let level = self.3.map(|level| format!(", {level}")).unwrap_or_default();
        format!("{}_interval({}{level})", self.0, self.1)
    }

    fn expected(self, rows: &[&Row]) -> Interval {
        let Self(function, arguments, literal, level) = self;
        let (with_propensity, with_imputed) = (arguments.contains(" p"), arguments.contains(" i"));
        let rows: Vec<(f64, f64, f64, f64)> = rows
            .iter()
            .filter_map(|row| {
                let treated = row.treated?;
                let p = if with_propensity { row.propensity? } else { 1.0 };
                let e = if treated { row.error? } else { 0.0 };
                let imputed = if with_imputed { row.imputed_error? } else { 0.0 };
                Some((f64::from(u8::from(treated)), p, e, imputed))
            })
            .collect();
        let n = rows.len() as f64;
        if rows.is_empty() {
            return [None; 6];
        }
        let weight = |o: f64, p: f64| match function {
            "ips_clipped" => o / p.max(1.0 / literal),
            "switch_dr" if 1.0 / p > literal => 0.0,
            "dr_os" => o * literal / p / (1.0 / (p * p) + literal),
            _ => o / p,
        };
        let weights: Vec<f64> = rows.iter().map(|&(o, p, ..)| weight(o, p)).collect();
        let used = weights.iter().filter(|weight| **weight > 0.0).count();
        let mean = |values: &[f64]| values.iter().sum::<f64>() / n;
        let corrections: Vec<f64> = rows.iter().zip(&weights).map(|(&(_, _, e, i), w)| w * (e - i)).collect();
        let imputed: Vec<f64> = rows.iter().map(|&(.., i)| i).collect();
        let (estimate, enough, influences): (_, _, Vec<f64>) =
            if matches!(function, "naive_treated" | "snips" | "snips_dr") {
                let (weight, addend) = (mean(&weights), mean(&imputed));
                let ratio = mean(&corrections) / weight;
                let influence = |k: usize| (imputed[k] - addend) + (corrections[k] - ratio * weights[k]) / weight;
                ((used > 0).then_some(addend + ratio), used > 1, (0..rows.len()).map(influence).collect())
            } else {
                let terms: Vec<f64> = imputed.iter().zip(&corrections).map(|(i, correction)| i + correction).collect();
                let estimate = mean(&terms);
                (Some(estimate), rows.len() > 1, terms.iter().map(|term| term - estimate).collect())
            };
        let squares: f64 = influences.iter().map(|x| x * x).sum();
        let std_error = enough.then(|| (squares / (n - 1.0) / n).sqrt());
        let z = match level {
            None => 1.959_963_984_540_054,
            Some(_) => 1.281_551_565_544_600_4,
        };
        let bound = |z: f64| Some(estimate? + z * std_error?);
        let kish = weights.iter().sum::<f64>().powi(2) / weights.iter().map(|w| w * w).sum::<f64>();
        [estimate, std_error, bound(-z), bound(z), Some(n), (used > 0).then_some(kish)]
    }
}

/// `SELECT` with the fields of every case, from a query that gives case k under the name `ik`.
fn fields(cases: usize, query: &str) -> String {
    let fields = (0..cases).flat_map(|k| FIELDS.map(|field| format!("i{k}['{field}']")));
    format!("SELECT key, {} FROM ({query}) ORDER BY key", fields.collect::<Vec<_>>().join(", "))
}

fn select_list(suffix: &str) -> String {
    let columns = CASES.iter().enumerate().map(|(k, case)| format!("{} {suffix} AS i{k}", case.sql()));
    columns.collect::<Vec<_>>().join(", ")
}

fn check(results: &[Option<f64>], rows: &[&Row], tolerance: f64, what: &str) {
    assert_eq!(results.len(), CASES.len() * FIELDS.len());
    for (results, case) in results.chunks(FIELDS.len()).zip(CASES) {
        let expected = case.expected(rows);
        for ((result, expected), field) in results.iter().zip(expected).zip(FIELDS) {
            assert_close(*result, expected, tolerance, &format!("{field} of {} {what}", case.sql()));
        }
    }
}

#[tokio::test]
async fn partitions_batches_groups_and_filters() {
    for (nulls, rows) in [(false, population(150, 4, false, 21)), (true, population(150, 40, true, 22))] {
        let kept = |row: &&Row| row.keep == Some(true);
        let mut segments: BTreeMap<i32, Vec<&Row>> = BTreeMap::new();
        rows.iter().for_each(|row| segments.entry(row.segment).or_default().push(row));
        for (parts, batch_size) in [(1, 8192), (2, 7), (8, 1), (8, 16)] {
            let config = SessionConfig::new().with_target_partitions(parts).with_batch_size(batch_size);
            let ctx = session_with(config, partitions(&rows, parts, batch_size));
            for (filter, suffix) in [(false, ""), (true, "FILTER (WHERE keep)")] {
                let what = format!("{suffix} ({parts} partitions, batches of {batch_size}, nulls: {nulls})");
                let of = |rows: &[&Row]| -> Vec<Row> {
                    rows.iter().copied().filter(|row| !filter || kept(row)).cloned().collect()
                };
                let list = select_list(suffix);
                let sql = fields(CASES.len(), &format!("SELECT 0 AS key, {list} FROM log"));
                let counted = of(&rows.iter().collect::<Vec<_>>());
                let results = numbers(&ctx, &sql).await.unwrap();
                check(&results[0][1..], &counted.iter().collect::<Vec<_>>(), 1e-9, &what);
                let sql = fields(CASES.len(), &format!("SELECT segment AS key, {list} FROM log GROUP BY segment"));
                let results = numbers(&ctx, &sql).await.unwrap();
                assert_eq!(results.len(), segments.len());
                for (result, (segment, rows)) in results.iter().zip(&segments) {
                    let counted = of(rows);
                    let what = format!("{what}, segment {segment}");
                    check(&result[1..], &counted.iter().collect::<Vec<_>>(), 1e-9, &what);
                }
            }
        }
    }
}

#[tokio::test]
async fn windows() {
    const N: usize = 120;
    let rows = population(N, 1, true, 23);
    for batch_size in [8, 8192] {
        let config = SessionConfig::new().with_batch_size(batch_size);
        let ctx = session_with(config, partitions(&rows, 1, 50));
        for (frame, before, after) in [
            ("ROWS BETWEEN 3 PRECEDING AND 2 FOLLOWING", 3, 2),
            ("ROWS BETWEEN CURRENT ROW AND CURRENT ROW", 0, 0),
            ("ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW", N, 0),
        ] {
            let list = select_list(&format!("OVER (ORDER BY seq {frame})"));
            let sql = fields(CASES.len(), &format!("SELECT seq AS key, {list} FROM log"));
            let results = numbers(&ctx, &sql).await.unwrap();
            assert_eq!(results.len(), N);
            for (at, result) in results.iter().enumerate() {
                let frame: Vec<_> = rows[at.saturating_sub(before)..(at + after + 1).min(N)].iter().collect();
                check(&result[1..], &frame, 1e-9, &format!("at row {at}"));
            }
        }
    }
}

#[tokio::test]
async fn estimates_are_those_of_the_plain_functions() {
    let rows = population(500, 3, true, 24);
    let ctx = session_with(SessionConfig::new(), partitions(&rows, 3, 64));
    for case in CASES {
        let (name, arguments) = (case.0, case.1);
        let sql = format!(
            "SELECT plain, i['estimate'] FROM \
             (SELECT {name}({arguments}) AS plain, {} AS i FROM log GROUP BY segment)",
            case.sql()
        );
        for result in numbers(&ctx, &sql).await.unwrap() {
            assert!(result[0].is_some());
            assert_close(result[1], result[0], 1e-13, &sql);
        }
    }
}

/// Every field of a call over some rows.
async fn interval(call: &str, rows: &str) -> Interval {
    let query = format!("SELECT 0 AS key, {call} AS i0 FROM (VALUES {rows}) AS log (o, p, e, i)");
    let results = numbers(&session(SessionConfig::new()), &fields(1, &query)).await.unwrap();
    results[0][1..].try_into().unwrap()
}

async fn check_interval(call: &str, rows: &str, expected: Interval) {
    for ((result, expected), field) in interval(call, rows).await.into_iter().zip(expected).zip(FIELDS) {
        assert_close(result, expected, 1e-12, &format!("{field} of {call} over {rows}"));
    }
}

#[tokio::test]
async fn one_row() {
    let row = "(1, 0.5, 3.0, 2.0)";
    for (call, estimate) in [
        ("naive_interval(o, e)", 3.0),
        ("naive_treated_interval(o, e)", 3.0),
        ("eib_interval(o, e, i)", 3.0),
        ("ips_interval(o, p, e)", 6.0),
        ("snips_interval(o, p, e)", 3.0),
        ("dr_interval(o, p, e, i)", 4.0),
        ("snips_dr_interval(o, p, e, i)", 3.0),
        ("ips_clipped_interval(o, p, e, 1.5)", 4.5),
        ("switch_dr_interval(o, p, e, i, 2)", 4.0),
        ("dr_os_interval(o, p, e, i, 1)", 2.4),
    ] {
        check_interval(call, row, [Some(estimate), None, None, None, Some(1.0), Some(1.0)]).await;
    }
}

#[tokio::test]
async fn no_row() {
    for call in ["ips_interval(o, p, e)", "snips_dr_interval(o, p, e, i, 0.5)"] {
        let rows = "(VALUES (1, 0.5, 3.0, 2.0), (NULL, 0.5, 3.0, 2.0)) AS log (o, p, e, i)";
        for (filter, is_null) in [("o > 1", 1.0), ("o IS NULL", 1.0), ("TRUE", 0.0)] {
            let sql = format!("SELECT {call} FILTER (WHERE {filter}) IS NULL FROM {rows}");
            assert_eq!(number(&sql).await, Some(is_null), "{sql}");
        }
    }
}

#[tokio::test]
async fn all_treated_with_certainty() {
    let rows = "(1, 1.0, 3.0, 2.0), (1, 1.0, 5.0, 0.0), (1, 1.0, 4.0, 1.0)";
    let (std_error, z) = ((1f64 / 3.0).sqrt(), 1.959_963_984_540_054);
    let expected =
        [Some(4.0), Some(std_error), Some(4.0 - z * std_error), Some(4.0 + z * std_error), Some(3.0), Some(3.0)];
    for call in [
        "naive_interval(o, e)",
        "naive_treated_interval(o, e)",
        "eib_interval(o, e, i)",
        "ips_interval(o, p, e)",
        "snips_interval(o, p, e)",
        "dr_interval(o, p, e, i)",
        "snips_dr_interval(o, p, e, i)",
        "ips_clipped_interval(o, p, e, 1)",
        "switch_dr_interval(o, p, e, i, 1)",
    ] {
        check_interval(call, rows, expected).await;
    }
}

#[tokio::test]
async fn none_treated() {
    let rows = "(0, 0.5, NULL, 2.0), (0, 0.0, NULL, 4.0)";
    let of_imputed = |z: f64| [Some(3.0), Some(1.0), Some(3.0 - z), Some(3.0 + z), Some(2.0), None];
    for call in ["eib_interval(o, e, i)", "dr_interval(o, p, e, i)", "dr_os_interval(o, p, e, i, 9)"] {
        check_interval(call, rows, of_imputed(1.959_963_984_540_054)).await;
    }
    check_interval("switch_dr_interval(o, p, e, i, 9, 0.8)", rows, of_imputed(1.281_551_565_544_600_4)).await;
    for call in ["naive_interval(o, e)", "ips_interval(o, p, e)", "ips_clipped_interval(o, p, e, 2)"] {
        check_interval(call, rows, [Some(0.0), Some(0.0), Some(0.0), Some(0.0), Some(2.0), None]).await;
    }
    for call in ["naive_treated_interval(o, e)", "snips_interval(o, p, e)", "snips_dr_interval(o, p, e, i)"] {
        check_interval(call, rows, [None, None, None, None, Some(2.0), None]).await;
    }
}

#[tokio::test]
async fn a_ratio_of_one_treated_row_has_no_standard_error() {
    let rows = "(1, 0.5, 3.0, 2.0), (0, 0.5, NULL, 4.0), (0, 0.25, NULL, 6.0)";
    for (call, estimate) in [
        ("naive_treated_interval(o, e)", 3.0),
        ("snips_interval(o, p, e)", 3.0),
        ("snips_dr_interval(o, p, e, i)", 5.0),
    ] {
        check_interval(call, rows, [Some(estimate), None, None, None, Some(3.0), Some(1.0)]).await;
    }
}

/// Errors on top of `offset`, treated or not, with one propensity of 1e-6.
fn far(offset: f64) -> Vec<Row> {
    let row = |k: usize| Row {
        treated: Some(!k.is_multiple_of(3)),
        propensity: Some(if k == 100 { 1e-6 } else { [0.5, 0.25, 0.8][k % 3] }),
        error: Some(offset + (k % 4) as f64),
        imputed_error: Some(offset + (k % 5) as f64),
        ..Row::default()
    };
    (0..4000).map(row).collect()
}

#[tokio::test]
async fn errors_far_from_0() {
    let calls = ["naive_treated", "snips", "snips_dr", "dr", "eib", "switch_dr"];
    let list = "naive_treated_interval(o, e) AS i0, snips_interval(o, p, e) AS i1, \
                snips_dr_interval(o, p, e, i) AS i2, dr_interval(o, p, e, i) AS i3, \
                eib_interval(o, e, i) AS i4, switch_dr_interval(o, p, e, i, 9) AS i5";
    for group in ["", "GROUP BY segment"] {
        let mut results = vec![];
        for offset in [0.0, 1e8] {
            let config = SessionConfig::new().with_target_partitions(4).with_batch_size(100);
            let ctx = session_with(config, partitions(&far(offset), 4, 100));
            let sql = fields(calls.len(), &format!("SELECT 0 AS key, {list} FROM log WHERE seq <> 100 {group}"));
            results.push(numbers(&ctx, &sql).await.unwrap().remove(0));
        }
        for (k, call) in calls.iter().enumerate() {
            let field = |offset: usize, field: usize| results[offset][1 + k * FIELDS.len() + field];
            assert_close(field(1, 0).map(|x| x - 1e8), field(0, 0), 1e-6, call);
            let relative = field(1, 1).zip(field(0, 1)).map(|(far, near)| far / near);
            assert_close(relative, Some(1.0), 1e-6, &format!("standard error of {call}"));
        }
    }
}

#[tokio::test]
async fn windows_forget_a_huge_weight_and_errors_far_from_0() {
    let frame = "OVER (ORDER BY seq ROWS BETWEEN 7 PRECEDING AND CURRENT ROW)";
    for (offset, tolerance) in [(0.0, 1e-9), (1e8, 1e-4)] {
        let rows = far(offset);
        let ctx = session_with(SessionConfig::new(), partitions(&rows, 1, 1000));
        let query = format!(
            "SELECT seq AS key, snips_interval(o, p, e) {frame} AS i0, \
             ips_interval(o, p, e - {offset:e}) {frame} AS i1, \
             snips_dr_interval(o, p, e, i) {frame} AS i2 FROM log"
        );
        let results = numbers(&ctx, &fields(3, &query)).await.unwrap();
        let near = far(0.0);
        let cases = [Case("snips", "o, p, e", 0.0, None), Case("ips", "o, p, e", 0.0, None), CASES[7]];
        for at in (7..4000).filter(|at| !(100..108).contains(at)) {
            let rows: Vec<_> = near[at - 7..=at].iter().collect();
            for (k, case) in cases.iter().enumerate() {
                let expected = case.expected(&rows);
                for field in [1, 4, 5] {
                    let result = results[at][1 + k * FIELDS.len() + field];
                    assert_close(
                        result,
                        expected[field],
                        tolerance,
                        &format!("{} of {} at {at}", FIELDS[field], case.0),
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn extreme_levels() {
    let rows = "(1, 0.5, 3.0, 2.0), (1, 0.5, 4.0, 2.0)";
    for level in ["1e-300", "0.9999999999999999"] {
        let [_, std_error, lower, upper, ..] = interval(&format!("ips_interval(o, p, e, {level})"), rows).await;
        let z = (upper.unwrap() - lower.unwrap()) / 2.0 / std_error.unwrap();
        assert!((0.0..1e-6).contains(&z) || (8.0..9.0).contains(&z), "{level}: {z}");
    }
    let message = failure("SELECT ips_interval(true, 0.5, 1, 1.0)").await;
    assert!(message.contains("ips_interval: argument 4 (level) is 1: it must be"), "{message}");
}
