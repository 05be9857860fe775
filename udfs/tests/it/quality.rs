//! The quality functions whose results are structs and lists, against plain computations; ties, bounds and bad rows.

use std::collections::BTreeMap;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::prelude::SessionContext;

use crate::population::{Row, bin, calls, partitions, population};
use crate::sql::{
    assert_close, config, failure, number, session_with, skipping_partial_aggregation, sorted_by_segment,
};

/// A number, and the relative accuracy it is known to.
type Known = (Option<f64>, f64);

struct Case {
    sql: &'static str,
    /// The result, its structs and lists laid out.
    expected: fn(&[&Row]) -> Vec<Known>,
}

const CASES: [Case; 5] = [
    Case { sql: "ks(o, p, f0)", expected: ks },
    Case { sql: "propensity_profile(o, p, 0.3, 0.6)", expected: |rows| profile(rows, 0.3, 0.6) },
    Case { sql: "propensity_profile(o_int, p)", expected: |rows| profile(rows, 0.01, 0.99) },
    Case { sql: "calibration_curve(o_float, p, 8)", expected: |rows| curve(rows, 8, false) },
    Case { sql: "calibration_curve(o, p, 6, 'mass')", expected: |rows| curve(rows, 6, true) },
];

fn exactly(numbers: impl IntoIterator<Item = Option<f64>>) -> Vec<Known> {
    numbers.into_iter().map(|number| (number, 1e-9)).collect()
}

/// Treatments and propensities of the rows that have both.
fn pairs(rows: &[&Row]) -> Vec<(bool, f64)> {
    rows.iter().filter_map(|row| Some((row.treated?, row.propensity?))).collect()
}

fn ks(rows: &[&Row]) -> Vec<Known> {
    let rows: Vec<(bool, f64, f64)> =
        rows.iter().filter_map(|row| Some((row.treated?, row.propensity?, row.phi[0]?))).collect();
    if rows.is_empty() {
        return exactly([None]);
    }
    let distance = |weight: fn(bool, f64) -> f64| {
        let share = |treated: bool, up_to: f64| {
            let arm = || rows.iter().filter(move |row| row.0 == treated);
            let below: f64 = arm().filter(|row| row.2 <= up_to).map(|row| weight(row.0, row.1)).sum();
            below / arm().map(|row| weight(row.0, row.1)).sum::<f64>()
        };
        let both = rows.iter().any(|row| row.0) && rows.iter().any(|row| !row.0);
        both.then(|| rows.iter().map(|row| (share(true, row.2) - share(false, row.2)).abs()).fold(0.0, f64::max))
    };
    exactly([distance(|_, _| 1.0), distance(|o, p| if o { 1.0 / p } else { 1.0 / (1.0 - p) })])
}

fn curve(rows: &[&Row], bins: usize, mass: bool) -> Vec<Known> {
    let rows = pairs(rows);
    let mut filled: BTreeMap<usize, Vec<(bool, f64)>> = BTreeMap::new();
    for &(o, p) in &rows {
        let count = |holds: &dyn Fn(f64) -> bool| rows.iter().filter(|row| holds(row.1)).count() as f64;
        filled.entry(bin(p, bins, mass, &count)).or_default().push((o, p));
    }
    if filled.is_empty() {
        return exactly([None]);
    }
    let mut numbers = vec![filled.len() as f64];
    for (k, rows) in filled {
        let n = rows.len() as f64;
        let propensities = || rows.iter().map(|row| row.1);
        let rate = rows.iter().filter(|row| row.0).count() as f64 / n;
        let (lower, upper) = match mass {
            true => (propensities().fold(1.0, f64::min), propensities().fold(0.0, f64::max)),
            false => (k as f64 / bins as f64, (k + 1) as f64 / bins as f64),
        };
        let z2 = 1.959963984540054f64.powi(2);
        let half = (z2 * (rate * (1.0 - rate) / n + z2 / (4.0 * n * n))).sqrt();
        let interval = [-half, half].map(|half| (rate + z2 / (2.0 * n) + half) / (1.0 + z2 / n));
        numbers.extend([lower, upper, n, propensities().sum::<f64>() / n, rate, interval[0], interval[1]]);
    }
    exactly(numbers.into_iter().map(Some))
}

fn profile(rows: &[&Row], lower: f64, upper: f64) -> Vec<Known> {
    if rows.is_empty() {
        return exactly([None]);
    }
    let pairs = pairs(rows);
    let valid: Vec<(bool, f64)> =
        pairs.iter().copied().filter(|&(o, p)| (0.0..=1.0).contains(&p) && (p > 0.0 || !o)).collect();
    let n = valid.len() as f64;
    let mean = |f: &dyn Fn(bool, f64) -> f64| (n > 0.0).then(|| valid.iter().map(|&(o, p)| f(o, p)).sum::<f64>() / n);
    let mut sorted: Vec<f64> = valid.iter().map(|row| row.1).collect();
    sorted.sort_by(f64::total_cmp);
    let quantile = |share: f64| Some(*sorted.get((share * (n - 1.0)) as usize)?);
    let weights: Vec<f64> = valid.iter().filter(|row| row.0).map(|row| 1.0 / row.1).collect();
    let treated = weights.len() as f64;
    let ess = (treated > 0.0)
        .then(|| weights.iter().sum::<f64>().powi(2) / weights.iter().map(|weight| weight * weight).sum::<f64>());
    let mut numbers = exactly([
        Some(n),
        mean(&|o, _| f64::from(o)),
        mean(&|_, p| p),
        sorted.first().copied(),
        sorted.last().copied(),
    ]);
    numbers.extend([0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99].map(|share| (quantile(share), 0.01)));
    numbers.extend(exactly([
        mean(&|_, p| f64::from(p < lower)),
        mean(&|_, p| f64::from(p > upper)),
        Some((rows.len() - pairs.len()) as f64),
        Some((pairs.len() - valid.len()) as f64),
        weights.iter().copied().reduce(f64::max),
        ess,
        ess.map(|ess| treated / ess),
    ]));
    numbers
}

/// The numbers in one row of a result, its structs and lists laid out, a list after its length.
fn lay_out(array: &ArrayRef, row: usize, numbers: &mut Vec<Option<f64>>) {
    match array.data_type() {
        _ if array.is_null(row) => numbers.push(None),
        DataType::Struct(_) => array.as_struct().columns().iter().for_each(|column| lay_out(column, row, numbers)),
        DataType::List(_) => {
            let list = array.as_list::<i32>().value(row);
            numbers.push(Some(list.len() as f64));
            (0..list.len()).for_each(|row| lay_out(&list, row, numbers));
        }
        _ => numbers.push(Some(cast(array, &DataType::Float64).unwrap().as_primitive::<Float64Type>().value(row))),
    }
}

async fn query(ctx: &SessionContext, sql: &str) -> Vec<Vec<Vec<Option<f64>>>> {
    let mut rows = vec![];
    for batch in ctx.sql(sql).await.unwrap().collect().await.unwrap() {
        for row in 0..batch.num_rows() {
            let numbers = |column: &ArrayRef| {
                let mut numbers = vec![];
                lay_out(column, row, &mut numbers);
                numbers
            };
            rows.push(batch.columns().iter().map(numbers).collect());
        }
    }
    rows
}

#[track_caller]
fn assert_known(actual: &[Option<f64>], expected: &[Known], what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}: {actual:?}, expected {expected:?}");
    for (at, (actual, (expected, accuracy))) in actual.iter().zip(expected).enumerate() {
        let scale = expected.filter(|_| *accuracy > 1e-6).map_or(1.0, f64::abs);
        assert_close(*actual, *expected, accuracy * scale, &format!("{what}, number {at}"));
    }
}

/// Checks all cases, plain and filtered, over all rows and by segment.
async fn check(ctx: &SessionContext, cases: &[Case], rows: &[Row], case: &str) {
    let calls = cases.iter().flat_map(|case| [case.sql.into(), format!("{} FILTER (WHERE keep)", case.sql)]);
    let calls = calls.collect::<Vec<_>>().join(", ");
    let mut segments: BTreeMap<i32, Vec<&Row>> = BTreeMap::new();
    rows.iter().for_each(|row| segments.entry(row.segment).or_default().push(row));
    let whole = query(ctx, &format!("SELECT {calls} FROM log")).await;
    let by_segment = query(ctx, &format!("SELECT {calls} FROM log GROUP BY segment ORDER BY segment")).await;
    assert_eq!((whole.len(), by_segment.len()), (1, segments.len()), "{case}");
    let groups = [rows.iter().collect()].into_iter().chain(segments.into_values());
    for (results, rows) in whole.iter().chain(&by_segment).zip(groups) {
        let kept: Vec<_> = rows.iter().copied().filter(|row| row.keep == Some(true)).collect();
        for (results, each) in results.as_chunks::<2>().0.iter().zip(cases) {
            let what = format!("{} ({case}, {} rows)", each.sql, rows.len());
            assert_known(&results[0], &(each.expected)(&rows), &what);
            assert_known(&results[1], &(each.expected)(&kept), &format!("{what}, filtered"));
        }
    }
}

/// The population, with propensities that many rows share.
fn tied(mut rows: Vec<Row>) -> Vec<Row> {
    rows.iter_mut()
        .for_each(|row| row.propensity = row.propensity.map(|p| ((p * 8.0).round() / 8.0).clamp(0.125, 0.875)));
    rows
}

/// The population, with values that cannot be propensities, and zeros.
fn spoiled(mut rows: Vec<Row>) -> Vec<Row> {
    let bad = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.1, 1.5, 0.0, 1.0];
    rows.iter_mut().step_by(3).enumerate().for_each(|(i, row)| row.propensity = Some(bad[i % bad.len()]));
    rows
}

#[tokio::test]
async fn partitions_and_batch_sizes() {
    for (nulls, ties) in [(false, false), (true, false), (true, true)] {
        let rows = population(160, 4, nulls, 31);
        let rows = if ties { tied(rows) } else { rows };
        for parts in [1, 2, 8] {
            for batch_size in [1, 7, 8192] {
                let case = format!("{parts} partitions, batches of {batch_size}, nulls: {nulls}, ties: {ties}");
                let ctx = session_with(config(parts, batch_size), partitions(&rows, parts, batch_size));
                check(&ctx, &CASES, &rows, &case).await;
            }
        }
    }
}

#[tokio::test]
async fn many_rows() {
    let rows = population(3000, 3, true, 32);
    check(&session_with(config(2, 8192), partitions(&rows, 2, 8192)), &CASES, &rows, "many rows").await;
}

#[tokio::test]
async fn groups_of_few_rows_without_partial_aggregation() {
    let rows = population(400, 200, true, 33);
    let config = skipping_partial_aggregation(config(2, 16));
    check(&session_with(config, partitions(&rows, 2, 16)), &CASES, &rows, "few rows").await;
}

#[tokio::test]
async fn groups_emitted_early_from_sorted_input() {
    let mut rows = population(300, 20, true, 37);
    rows.sort_by_key(|row| row.segment);
    let ctx = sorted_by_segment(config(1, 8), partitions(&rows, 1, 8));
    check(&ctx, &CASES, &rows, "sorted input").await;
}

#[tokio::test]
async fn bad_rows_are_counted() {
    let rows = spoiled(population(210, 4, true, 34));
    for parts in [1, 8] {
        let ctx = session_with(config(parts, 7), partitions(&rows, parts, 7));
        check(&ctx, &CASES[1..3], &rows, &format!("bad rows, {parts} partitions")).await;
    }
}

#[tokio::test]
async fn windows() {
    let rows = tied(population(100, 1, true, 35));
    let ctx = session_with(config(2, 8), partitions(&rows, 1, 30));
    for (frame, before, after) in
        [("3 PRECEDING AND 2 FOLLOWING", 3, 2), ("UNBOUNDED PRECEDING AND CURRENT ROW", 100, 0)]
    {
        let columns = CASES.map(|case| format!("{} OVER (ORDER BY seq ROWS BETWEEN {frame})", case.sql));
        let results = query(&ctx, &format!("SELECT {} FROM log ORDER BY seq", columns.join(", "))).await;
        assert_eq!(results.len(), rows.len());
        for (at, results) in results.iter().enumerate() {
            let frame: Vec<&Row> = rows[at.saturating_sub(before)..(at + after + 1).min(rows.len())].iter().collect();
            for (result, case) in results.iter().zip(&CASES) {
                assert_known(result, &(case.expected)(&frame), &format!("{} at row {at}", case.sql));
            }
        }
    }
}

#[tokio::test]
async fn ties_in_scalar_results() {
    let rows = tied(population(300, 1, true, 36));
    let calls: Vec<_> =
        calls().into_iter().filter(|call| ["auc", "ece", "ece_mass"].contains(&call.function)).collect();
    assert!(calls.len() >= 4);
    for call in calls {
        for parts in [1, 8] {
            let ctx = session_with(config(parts, 7), partitions(&rows, parts, 7));
            let results = query(&ctx, &format!("SELECT {} FROM log", call.sql)).await;
            assert_close(results[0][0][0], call.expected(&rows.iter().collect::<Vec<_>>()), 1e-12, &call.sql);
        }
    }
}

/// What scikit-learn's `roc_auc_score` and `log_loss`, SciPy's `ks_2samp` and NumPy give for ten rows.
#[tokio::test]
async fn other_programs() {
    let rows = "(VALUES (1, 0.9, 3), (0, 0.8, 1), (1, 0.7, 2), (0, 0.7, 2), (0, 0.4, 5), (1, 0.4, 4), (0, 0.35, 1), \
                (1, 0.3, 6), (0, 0.2, 0), (1, 0.1, 2)) AS log (o, p, x)";
    for (call, answer) in [
        ("auc(o, p)", 0.48),
        ("nll(o, p)", 0.8863046896723386),
        ("sv(p)", 0.07336111111111111),
        ("mis(p)", 16.365307697152936),
        ("ks(o, p, x)['raw']", 0.6),
        ("ece(o, p, 5)", 0.235),
        ("propensity_profile(o, p)['ess']", 2.79822214100171),
        ("propensity_profile(o, p)['max_weight']", 10.0),
        ("propensity_profile(o, p)['design_effect']", 1.7868488447490076),
    ] {
        assert_close(number(&format!("SELECT {call} FROM {rows}")).await, Some(answer), 1e-12, call);
    }
}

/// What statsmodels' `proportion_confint` gives with `method='wilson'`.
#[tokio::test]
async fn wilson_intervals() {
    for (part, of, lower, upper) in [
        (0, 4, 0.0, 0.4898908364545974),
        (3, 10, 0.10779126740630104, 0.6032218525388546),
        (4, 4, 0.5101091635454025, 1.0),
        (1, 1, 0.2065493143772374, 1.0),
    ] {
        for (field, answer) in [("rate_lower", lower), ("rate_upper", upper)] {
            let sql = format!(
                "SELECT calibration_curve(i <= {part}, 0.5)[1]['{field}'] FROM (SELECT unnest(range(1, {of} + 1)) AS i)"
            );
            assert_close(number(&sql).await, Some(answer), 1e-14, &sql);
        }
    }
}

async fn answers(rows: &str, answers: &[(&str, Option<f64>)]) {
    for (call, answer) in answers {
        let sql = format!("SELECT {call} FROM (VALUES {rows}) AS log (o, p, x)");
        assert_close(number(&sql).await, *answer, 1e-14, &sql);
    }
}

#[tokio::test]
async fn one_row() {
    answers(
        "(1, 0.25, 7.0)",
        &[
            ("nll(o, p)", Some(4f64.ln())),
            ("ppl(o, p)", Some(4.0)),
            ("sv(p)", None),
            ("mis(p)", Some(16.0)),
            ("auc(o, p)", None),
            ("ks(o, p, x)['raw']", None),
            ("(ks(o, p, x) IS NOT NULL)::INT", Some(1.0)),
            ("ece(o, p)", Some(0.75)),
            ("ece(o, p, 10000)", Some(0.75)),
            ("ece(o, p, 10000, 'mass')", Some(0.75)),
            ("cardinality(calibration_curve(o, p, 10000, 'mass'))", Some(1.0)),
            ("calibration_curve(o, p)[1]['lower']", Some(0.2)),
            ("calibration_curve(o, p, 4)[1]['lower']", Some(0.25)),
            ("calibration_curve(o, p, 1)[1]['upper']", Some(1.0)),
            ("propensity_profile(o, p)['p01']", Some(0.25)),
            ("propensity_profile(o, p)['p99']", Some(0.25)),
            ("propensity_profile(o, p)['ess']", Some(1.0)),
        ],
    )
    .await;
}

#[tokio::test]
async fn one_arm() {
    for o in [0, 1] {
        answers(
            &format!("({o}, 0.5, 1.0), ({o}, 0.5, 3.0)"),
            &[
                ("nll(o, p)", Some(2f64.ln())),
                ("ppl(o, p)", Some(2.0)),
                ("sv(p)", Some(0.0)),
                ("auc(o, p)", None),
                ("ks(o, p, x)['raw']", None),
                ("ks(o, p, x)['weighted']", None),
                ("ece(o, p)", Some(0.5)),
                ("ece(o, p, 3, 'mass')", Some(0.5)),
                ("propensity_profile(o, p)['ess']", (o == 1).then_some(2.0)),
                ("propensity_profile(o, p)['max_weight']", (o == 1).then_some(2.0)),
                ("propensity_profile(o, p)['treated_rate']", Some(f64::from(o))),
            ],
        )
        .await;
    }
}

#[tokio::test]
async fn extremes() {
    answers(
        "(1, 1.0, 1.0), (1, 1.0, 1.0), (0, 0.0, 1.0)",
        &[
            ("nll(o, p)", Some(0.0)),
            ("ppl(o, p)", Some(1.0)),
            ("auc(o, p)", Some(1.0)),
            ("ece(o, p)", Some(0.0)),
            ("calibration_curve(o, p, 10)[2]['lower']", Some(0.9)),
            ("ks(o, p, x)['raw']", Some(0.0)),
            ("ks(o, p, x)['weighted']", Some(0.0)),
            ("propensity_profile(o, p)['min']", Some(0.0)),
            ("propensity_profile(o, p)['p01']", Some(0.0)),
            ("propensity_profile(o, p)['max']", Some(1.0)),
            ("propensity_profile(o, p)['share_above']", Some(2.0 / 3.0)),
            ("propensity_profile(o, p)['design_effect']", Some(1.0)),
        ],
    )
    .await;
    // 0.29 · 100 rounds to below 29, yet 0.29 is where bin 29 starts; the greatest float below 0.05 times 100 rounds to 5.
    answers("(1, 0.29, 0.0)", &[("calibration_curve(o, p, 100)[1]['lower']", Some(0.29))]).await;
    answers(
        "(1, 0.049999999999999996::DOUBLE, 0.0)",
        &[("calibration_curve(o, p, 100)[1]['lower']", Some(0.04)), ("ece(o, p, 100)", Some(0.95))],
    )
    .await;
    answers(
        "(1, 1e-300, 0.0), (0, 1e-300, 0.0), (1, 1e-90, 0.0), (1, 1e-90, 0.0)",
        &[
            ("propensity_profile(o, p)['n']", Some(3.0)),
            ("propensity_profile(o, p)['n_invalid']", Some(1.0)),
            ("propensity_profile(o, p)['max_weight']", Some(1e90)),
            ("propensity_profile(o, p)['ess']", Some(2.0)),
        ],
    )
    .await;
}

#[tokio::test]
async fn quantiles_are_accurate_over_many_magnitudes() {
    let sql =
        "SELECT propensity_profile(false, power(10.0, -i / 1000.0)) AS t FROM (SELECT unnest(range(0, 10001)) AS i)";
    for (field, exponent) in [("p01", -9.9), ("p05", -9.5), ("p25", -7.5), ("p50", -5.0), ("p75", -2.5), ("p99", -0.1)]
    {
        let quantile = number(&format!("SELECT t['{field}'] FROM ({sql})")).await;
        let exact = 10f64.powf(exponent);
        assert_close(quantile.map(|quantile| quantile / exact), Some(1.0), 0.01 + 1e-9, field);
    }
}

#[tokio::test]
async fn a_profile_of_nothing_but_bad_rows() {
    answers(
        "(NULL, 0.5, 0.0), (1, NULL, 0.0), (NULL, NULL, 0.0), (2, 0.5, 0.0), ('NaN'::DOUBLE, 0.5, 0.0), \
         (1, 'NaN'::DOUBLE, 0.0), (1, 0.0, 0.0), (0, -1e-9, 0.0)",
        &[
            ("propensity_profile(o, p)['n']", Some(0.0)),
            ("propensity_profile(o, p)['n_null']", Some(3.0)),
            ("propensity_profile(o, p)['n_invalid']", Some(5.0)),
            ("propensity_profile(o, p)['mean']", None),
            ("propensity_profile(o, p)['min']", None),
            ("propensity_profile(o, p)['p50']", None),
            ("propensity_profile(o, p)['share_below']", None),
            ("propensity_profile(o, p)['ess']", None),
            ("(propensity_profile(o, p) FILTER (WHERE o = 7) IS NULL)::INT", Some(1.0)),
        ],
    )
    .await;
}

#[tokio::test]
async fn without_treatment() {
    answers("(NULL, 0.5, 0.0), (7, 0.25, 0.0)", &[("sv(p)", Some(0.03125)), ("mis(p)", Some(10.0))]).await;
}

#[tokio::test]
async fn errors() {
    for (call, rows, says) in [
        (
            "nll(o, p)",
            "(1, 0.0)",
            "nll: argument 2 (propensity) is 0: a treated row cannot have propensity 0; clip first",
        ),
        ("ppl(o, p)", "(0, 1.0)", "ppl: argument 2 (propensity) is 1: an untreated row cannot have propensity 1; clip"),
        ("ks(o, p, 1)", "(0, 1.0)", "ks: argument 2 (propensity) is 1: an untreated row cannot have propensity 1"),
        ("mis(p)", "(0, 0.0)", "mis: argument 1 (propensity) is 0: it cannot be 0, for it is divided by; clip first"),
        ("mis(p)", "(0, 1e-200)", "mis: the sums leave the range of a 64-bit float"),
        ("sv(p)", "(0, 1.5)", "sv: argument 1 (propensity) is 1.5: it must be a probability"),
        ("auc(o, p)", "(0, 'NaN'::DOUBLE)", "auc: argument 2 (propensity) is NaN: it must be a probability"),
        ("ece(o, p)", "(3, 0.5)", "ece: argument 1 (treated) is 3: it must be 0 or 1"),
        ("calibration_curve(o, p)", "(0, 'Infinity'::DOUBLE)", "calibration_curve: argument 2 (propensity) is inf"),
        ("ks(o, 0.5, p)", "(0, '-Infinity'::DOUBLE)", "ks: argument 3 (covariate) is -inf: it must be finite"),
        ("ece(o, p, 0)", "(1, 0.5)", "ece: argument 3 (bins) is 0: it must be a literal whole number from 1 to 10000"),
        ("ece(o, p, 2.5)", "(1, 0.5)", "ece: argument 3 (bins) is 2.5"),
        ("ece(o, p, o)", "(1, 0.5)", "literal whole number from 1 to 10000, the same for every row"),
        ("ece(o, p, 5, 'area')", "(1, 0.5)", "argument 4 (binning) is area: it must be the literal 'width' or 'mass'"),
        ("propensity_profile(o, p, -1)", "(1, 0.5)", "propensity_profile: argument 3 (lower) is -1"),
        ("propensity_profile(o, p, 0, 2)", "(1, 0.5)", "propensity_profile: argument 4 (upper) is 2"),
    ] {
        for grouping in ["", "GROUP BY o IS NULL"] {
            let sql = format!("SELECT {call} IS NULL FROM (VALUES {rows}) AS log (o, p) {grouping}");
            let message = failure(&sql).await;
            assert!(message.contains(says), "{sql}\n  says: {message}\n  not: {says}");
        }
    }
    for (call, says) in [
        ("sv(0.5, 0.5)", "sv takes 1 arguments, not 2"),
        ("ece(true)", "ece takes 2 to 4 arguments, not 1; usage: ece(treated, propensity [, bins] [, binning])"),
        ("ks(true, 0.5)", "ks takes 3 arguments, not 2"),
        ("ks(true, 0.5, 'x')", "argument 3 (covariate) of ks must be a number, not Utf8"),
        ("ece(true, 0.5, 10, 1)", "argument 4 (binning) of ece must be the literal 'width' or 'mass', not Int64"),
    ] {
        let message = failure(&format!("SELECT {call}")).await;
        assert!(message.contains(says), "{call} says: {message}\n  not: {says}");
    }
}
