//! What no unit and no origin of φ decides.

use datafusion::prelude::SessionContext;

use crate::population::{Row, partitions, population};
use crate::sql::{assert_close, config, numbers, session_with, skipping_partial_aggregation};

/// `scale · f + offset` of each of the first two elements; all exact, so that φ says the same of every row.
const UNITS: [(f64, f64); 6] = [
    (1.0, 0.0),
    (1.0, 4_503_599_627_370_496.0),
    (0.25, 1_783_468_800_000.0),
    (-65_536.0, 1_783_468_800_000.0),
    (1.0 / 1_099_511_627_776.0, 0.0),
    (1e30, 0.0),
];

/// The figures of a test that φ's constant makes free of unit and origin.
const FIGURES: &str = "t['statistic'], t['dof'], t['scale'], t['p_value'], t['untested']";

fn log(rows: &[Row], parts: usize, batch_size: usize) -> [SessionContext; 2] {
    let whole = config(parts, batch_size);
    [whole.clone(), skipping_partial_aggregation(whole)]
        .map(|config| session_with(config, partitions(rows, parts, batch_size)))
}

fn element(k: usize, (scale, offset): (f64, f64)) -> String {
    format!("({scale:?} * f{k} + {offset:?})")
}

/// Runs `sql` of the elements of φ in each unit, and compares the figures with those of the first.
async fn compare(ctx: &SessionContext, sql: impl Fn(&str, &str) -> String, tolerance: f64) {
    let mut first = None;
    for unit in UNITS {
        let sql = sql(&element(0, unit), &element(1, unit));
        let found = numbers(ctx, &sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert!(!found.is_empty() && found.iter().flatten().any(Option::is_some), "{sql}");
        let first = first.get_or_insert_with(|| found.clone());
        for (row, (found, expected)) in found.iter().zip(&*first).enumerate() {
            for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
                assert_close(*found, *expected, tolerance, &format!("figure {at} of row {row} of {sql}"));
            }
        }
    }
}

#[tokio::test]
async fn tests_of_balance_do_not_depend_on_the_unit_or_the_origin_of_phi() {
    for (seed, parts, batch_size) in [(40, 1, 8192), (41, 3, 16), (42, 7, 3)] {
        let rows = population(400, 5, true, seed);
        for ctx in log(&rows, parts, batch_size) {
            let of = |call: String| format!("SELECT {FIGURES} FROM (SELECT {call} AS t FROM log)");
            compare(&ctx, |x, y| of(format!("balance_test(o, p, 1, {x}, {y})")), 1e-8).await;
            compare(&ctx, |x, y| of(format!("balance_test(o, p, {x}, 0.1, {y})")), 1e-8).await;
            compare(&ctx, |x, y| of(format!("balance_test(o, p, [1, {x}, {y}])")), 1e-8).await;
            compare(
                &ctx,
                |x, y| {
                    format!(
                        "SELECT {FIGURES} FROM (SELECT segment, balance_test(o, p, 1, {x}, {y}) AS t FROM log
                         GROUP BY segment) ORDER BY segment"
                    )
                },
                1e-8,
            )
            .await;
            compare(
                &ctx,
                |x, y| {
                    format!(
                        "SELECT {FIGURES} FROM (SELECT balance_test_of(balance_merge(s)) AS t FROM (
                         SELECT balance_state(o, p, 1, {x}, {y}) AS s FROM log GROUP BY seq % 17))"
                    )
                },
                1e-8,
            )
            .await;
            compare(
                &ctx,
                |x, y| {
                    format!(
                        "SELECT {FIGURES} FROM (SELECT balance_drift(
                           balance_state(o, p, 1, {x}, {y}) FILTER (WHERE segment < 2),
                           balance_state(o, p, 1, {x}, {y}) FILTER (WHERE segment >= 2)) AS t FROM log)"
                    )
                },
                1e-8,
            )
            .await;
        }
    }
}

#[tokio::test]
async fn tests_over_windows_do_not_depend_on_the_unit_or_the_origin_of_phi() {
    let rows = population(80, 2, true, 43);
    let ctx = session_with(config(2, 16), partitions(&rows, 1, 16));
    let frame = "OVER (ORDER BY seq ROWS BETWEEN 19 PRECEDING AND CURRENT ROW)";
    compare(
        &ctx,
        |x, y| {
            format!(
                "SELECT {FIGURES} FROM (SELECT seq, balance_test(o, p, 1, {x}, {y}) {frame} AS t FROM log)
                 WHERE seq >= 20 ORDER BY seq"
            )
        },
        1e-6,
    )
    .await;
    compare(
        &ctx,
        |x, y| {
            format!(
                "SELECT get_field(s, 'raw'), get_field(s, 'weighted'), get_field(v, 'raw')
                 FROM (SELECT seq, smd(o, p, {x}) {frame} AS s, variance_ratio(o, p, {y}) {frame} AS v FROM log)
                 WHERE seq >= 20 ORDER BY seq"
            )
            .replace("get_field(s, 'raw')", "abs(get_field(s, 'raw'))")
            .replace("get_field(s, 'weighted')", "abs(get_field(s, 'weighted'))")
        },
        1e-8,
    )
    .await;
}

#[tokio::test]
async fn comparisons_of_covariates_do_not_depend_on_their_unit_or_origin() {
    for (seed, parts, batch_size) in [(44, 1, 8192), (45, 5, 7)] {
        let rows = population(300, 4, true, seed);
        for ctx in log(&rows, parts, batch_size) {
            for grouping in ["", "GROUP BY segment ORDER BY segment"] {
                compare(
                    &ctx,
                    |x, y| {
                        format!(
                            "SELECT abs(smd(o, p, {x})['raw']), abs(smd(o, p, {x})['weighted']),
                               abs(smd(o, p, [{x}, {y}])['weighted'][2]),
                               variance_ratio(o, p, {x})['raw'], variance_ratio(o, p, {y})['weighted'],
                               ks(o, p, {x})['raw'], ks(o, p, {y})['weighted'] FROM log {grouping}"
                        )
                    },
                    1e-9,
                )
                .await;
            }
        }
    }
}

#[tokio::test]
async fn effect_sizes_do_not_depend_on_the_unit_or_the_origin_of_phi() {
    for (seed, parts, batch_size) in [(48, 1, 8192), (49, 3, 16)] {
        let rows = population(400, 3, true, seed);
        for ctx in log(&rows, parts, batch_size) {
            for o in ["o", "treatment(o, seq % 37)"] {
                compare(
                    &ctx,
                    |x, y| {
                        format!(
                            "SELECT abs(i['estimate'][2]), abs(i['estimate'][3]), i['std_error'][2], i['std_error'][3],
                               i['degrees'][2], i['p_value'][2], i['p_value'][3], b['estimate'], c['std_error']
                             FROM (SELECT segment, imbalance({o}, p, {x}, {y}) AS i, imbalance_bias({o}, p, e, {x}, {y}) AS b,
                                     imbalance_bias(treatment(o, seq % 37, seq % 11), p, e, {x}, {y}) AS c
                                   FROM log GROUP BY segment) ORDER BY segment"
                        )
                    },
                    1e-7,
                )
                .await;
            }
        }
    }
}

/// The z and the p-value of one element alone ask about its own origin, but not about its unit.
#[tokio::test]
async fn what_depends_on_the_origin_does_not_depend_on_the_unit() {
    let rows = population(300, 4, true, 46);
    let ctx = session_with(config(2, 64), partitions(&rows, 2, 64));
    let figures = "t['statistic'], t['dof'], t['scale'], t['p_value'], abs(t['worst_z']), t['p_values'][2],
                   t['bmse'] / t['noise_floor'], c['change'] / c['std_error'], c['p_value']";
    let sql = |scale: f64| {
        format!(
            "SELECT {figures} FROM (SELECT balance_test(o, p, {scale:?} * f0, {scale:?} * f1) AS t,
               bmse_change(o, p, (p + 0.5) / 2, {scale:?} * f0, {scale:?} * f1) AS c FROM log)"
        )
    };
    let expected = &numbers(&ctx, &sql(1.0)).await.unwrap()[0];
    for scale in [1e-40, 1e-9, -3.0, 1e12, 1e40] {
        let found = &numbers(&ctx, &sql(scale)).await.unwrap()[0];
        for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert_close(*found, *expected, 1e-9, &format!("figure {at} at {scale}"));
        }
    }
}

#[tokio::test]
async fn elements_that_add_nothing_are_counted_as_untested() {
    let rows = population(300, 1, false, 47);
    let ctx = session_with(config(2, 64), partitions(&rows, 2, 64));
    let far = "(f0 + 1783468800000.0)";
    for (phi, dof, untested) in [
        ("f0, f1", 2.0, 0.0),
        ("1, f0, f1", 3.0, 0.0),
        ("1, f0, 2 * f0, f1, 0", 3.0, 2.0),
        (&format!("1, {far}, f1"), 3.0, 0.0),
        (&format!("{far}, f1"), 2.0, 0.0),
        (&format!("{far}, 2 * {far}"), 1.0, 1.0),
        // A sum of the first three is constant, as of one-hot columns, and so the fourth adds nothing.
        ("f0 > 2, f0 < -2, f0 BETWEEN -2 AND 2, 7", 3.0, 1.0),
        ("f0 > 2, f0 <= 2", 2.0, 0.0),
    ] {
        let sql = format!("SELECT t['dof'], t['untested'] FROM (SELECT balance_test(o, p, {phi}) AS t FROM log)");
        let found = &numbers(&ctx, &sql).await.unwrap()[0];
        assert_eq!(found, &[Some(dof), Some(untested)], "{sql}");
    }
}
