//! Functions of balance whose results are lists and structs: every field against plain formulas, on every path that
//! DataFusion has.

use std::collections::BTreeMap;

use datafusion::prelude::{SessionConfig, SessionContext};
use statrs::distribution::{ChiSquared, ContinuousCDF};

use crate::population::{K, Row, partitions, population};
use crate::sql::{assert_close, config, failure, number, numbers, session, session_with, skipping_partial_aggregation};

/// A row that counts.
struct Element {
    treated: f64,
    propensity: f64,
    error: f64,
    imputed_error: f64,
    phi: [f64; K],
}

impl Element {
    /// The balance weight times φ.
    fn imbalance(&self) -> [f64; K] {
        let Element { treated: o, propensity: p, .. } = self;
        self.phi.map(|x| (o / p - (1.0 - o) / (1.0 - p)) * x)
    }
}

/// The rows with everything that a call reads.
fn elements(rows: &[&Row], reads_error: bool, reads_imputed: bool) -> Vec<Element> {
    let element = |row: &&Row| {
        let treated = row.treated?;
        let mut phi = [0.0; K];
        for (phi, value) in phi.iter_mut().zip(&row.phi) {
            *phi = (*value)?;
        }
        Some(Element {
            treated: f64::from(treated),
            propensity: row.propensity?,
            error: if reads_error && treated { row.error? } else { 0.0 },
            imputed_error: if reads_imputed { row.imputed_error? } else { 0.0 },
            phi,
        })
    };
    rows.iter().filter_map(element).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn covariance(a: &[f64], b: &[f64]) -> f64 {
    let (mean_a, mean_b) = (mean(a), mean(b));
    a.iter().zip(b).map(|(a, b)| (a - mean_a) * (b - mean_b)).sum::<f64>() / (a.len() as f64 - 1.0)
}

fn columns(rows: &[Element]) -> [Vec<f64>; K] {
    std::array::from_fn(|k| rows.iter().map(|row| row.imbalance()[k]).collect())
}

/// `x` of `matrix · x = y`, by elimination.
fn solve(mut matrix: [[f64; K]; K], mut y: [f64; K]) -> [f64; K] {
    for i in 0..K {
        let pivot = (i..K).max_by(|&a, &b| matrix[a][i].abs().total_cmp(&matrix[b][i].abs())).unwrap();
        matrix.swap(i, pivot);
        y.swap(i, pivot);
        for row in i + 1..K {
            let factor = matrix[row][i] / matrix[i][i];
            let above = matrix[i];
            matrix[row].iter_mut().zip(above).for_each(|(own, above)| *own -= factor * above);
            y[row] -= factor * y[i];
        }
    }
    for i in (0..K).rev() {
        let known: f64 = (i + 1..K).map(|j| matrix[i][j] * y[j]).sum();
        y[i] = (y[i] - known) / matrix[i][i];
    }
    y
}

/// Second and fourth moment of the balance weight of a treatment drawn with p.
fn weight_moments(row: &Element) -> (f64, f64) {
    let (p, q) = (row.propensity, 1.0 - row.propensity);
    if p > 0.0 && q > 0.0 { (1.0 / p + 1.0 / q, p.powi(-3) + q.powi(-3)) } else { (1.0, -3.0) }
}

/// Covariance of the mean imbalance over draws of the treatments.
fn expected_covariance(rows: &[Element]) -> [[f64; K]; K] {
    let n = rows.len() as f64;
    [0, 1, 2].map(|i| {
        [0, 1, 2].map(|j| rows.iter().map(|row| weight_moments(row).0 * row.phi[i] * row.phi[j]).sum::<f64>() / n / n)
    })
}

fn statistic(rows: &[Element]) -> f64 {
    let z = columns(rows);
    let means = [0, 1, 2].map(|k| mean(&z[k]));
    means.iter().zip(solve(expected_covariance(rows), means)).map(|(a, b)| a * b).sum()
}

/// By the moments of each row, with `Σ φ²/V` for its part in the statistic.
fn scale(rows: &[Element]) -> f64 {
    let (n, covariance) = (rows.len() as f64, expected_covariance(rows));
    let excess = rows.iter().map(|row| {
        let (second, fourth) = weight_moments(row);
        let part: f64 = (0..K).map(|k| row.phi[k].powi(2) / covariance[k][k]).sum();
        (fourth - 3.0 * second * second) * (part / (n * n)).powi(2)
    });
    (1.0 + excess.sum::<f64>() / (2.0 * K as f64)).max(1.0)
}

fn p_value(rows: &[Element]) -> f64 {
    ChiSquared::new(K as f64 / scale(rows)).unwrap().sf(statistic(rows) / scale(rows))
}

fn z_of(rows: &[Element], k: usize) -> f64 {
    mean(&columns(rows)[k]) / expected_covariance(rows)[k][k].sqrt()
}

/// The struct's numbers of a change from the propensity p to p², by two passes.
fn change(rows: &[Element]) -> [f64; 4] {
    let n = rows.len() as f64;
    let squared = |row: &Element| Element { propensity: row.propensity.powi(2), phi: row.phi, ..*row };
    let after: Vec<Element> = rows.iter().map(squared).collect();
    let bmse = |rows: &[Element]| columns(rows).iter().map(|z| mean(z).powi(2)).sum::<f64>();
    let trace = |rows: &[Element]| columns(rows).iter().map(|z| covariance(z, z)).sum::<f64>() / n;
    // What a row moves the difference by.
    let means = [rows, &after].map(|rows| columns(rows).map(|z| mean(&z)));
    let along = |row: &Element, at: usize| row.imbalance().iter().zip(means[at]).map(|(x, m)| 2.0 * x * m).sum::<f64>();
    let influence: Vec<f64> = rows.iter().zip(&after).map(|(b, a)| along(a, 1) - along(b, 0)).collect();
    let change = bmse(&after) - trace(&after) - bmse(rows) + trace(rows);
    [bmse(rows), bmse(&after), change, (covariance(&influence, &influence) / n).sqrt()]
}

/// Covariate `k` of one arm and its weights, weighted or not.
fn arm(rows: &[Element], treated: f64, k: usize, weighted: bool) -> Vec<(f64, f64)> {
    let weight = |row: &Element| match weighted {
        true => 1.0 / if treated == 1.0 { row.propensity } else { 1.0 - row.propensity },
        false => 1.0,
    };
    rows.iter().filter(|row| row.treated == treated).map(|row| (row.phi[k], weight(row))).collect()
}

fn weighted_mean(sample: &[(f64, f64)]) -> f64 {
    sample.iter().map(|(x, w)| x * w).sum::<f64>() / sample.iter().map(|(_, w)| w).sum::<f64>()
}

fn weighted_variance(sample: &[(f64, f64)]) -> f64 {
    let (mean, total) = (weighted_mean(sample), sample.iter().map(|(_, w)| w).sum::<f64>());
    let squares: f64 = sample.iter().map(|(_, w)| w * w).sum();
    sample.iter().map(|(x, w)| w * (x - mean).powi(2)).sum::<f64>() * total / (total * total - squares)
}

fn smd(rows: &[Element], k: usize, weighted: bool) -> Option<f64> {
    let variance = |treated| weighted_variance(&arm(rows, treated, k, false));
    let pooled = ((variance(1.0) + variance(0.0)) / 2.0).sqrt();
    let of = |treated| weighted_mean(&arm(rows, treated, k, weighted));
    let value = (of(1.0) - of(0.0)) / pooled;
    value.is_finite().then_some(value)
}

fn variance_ratio(rows: &[Element], k: usize, weighted: bool) -> Option<f64> {
    let arms = [1.0, 0.0].map(|treated| arm(rows, treated, k, weighted));
    if arms.iter().any(|arm| arm.len() < 2) {
        return None;
    }
    let value = weighted_variance(&arms[0]) / weighted_variance(&arms[1]);
    value.is_finite().then_some(value)
}

/// λ and ρ, by two passes.
fn lambda_opt(rows: &[Element], doubly_robust: bool) -> Option<(f64, f64)> {
    let n = rows.len() as f64;
    if n < 3.0 {
        return None;
    }
    let loss: Vec<f64> = rows
        .iter()
        .map(|row| {
            let imputed = if doubly_robust { row.imputed_error } else { 0.0 };
            imputed + row.treated * (row.error - imputed) / row.propensity
        })
        .collect();
    let z = columns(rows);
    let means = [0, 1, 2].map(|k| mean(&z[k]));
    let distances: Vec<f64> =
        rows.iter().map(|row| row.imbalance().iter().zip(means).map(|(x, m)| (x - m).powi(2)).sum()).collect();
    let along = |other: &[f64]| (0..K).map(|k| means[k] * covariance(&z[k], other)).sum::<f64>();
    let with_bmse = 2.0 * along(&loss) / n - covariance(&loss, &distances) / (n * n);
    let within: f64 = (0..K).map(|k| means[k] * along(&z[k])).sum();
    let trace: f64 = (0..K).map(|i| (0..K).map(|j| covariance(&z[i], &z[j]).powi(2)).sum::<f64>()).sum();
    let balanced = 2.0 * trace / (n * n);
    let of_bmse = (4.0 * within / n - 4.0 * along(&distances) / (n * n) - balanced).max(balanced);
    let of_loss = covariance(&loss, &loss) / n;
    let rho = if of_loss > 0.0 { with_bmse / (of_loss * of_bmse).sqrt() } else { 0.0 };
    let rho = rho.clamp(-1.0, 1.0);
    Some((-rho * (of_loss / of_bmse).sqrt(), rho))
}

type Formula = Box<dyn Fn(&[&Row]) -> Option<f64>>;

/// An aggregate, how a number is picked from its result, and what that number is.
struct Case {
    call: String,
    field: String,
    expected: Formula,
}

impl Case {
    fn new(call: &str, field: &str, expected: impl Fn(&[Element]) -> Option<f64> + 'static) -> Self {
        let (errors, imputed) = (call.contains(", e"), call.contains(", i"));
        let expected = move |rows: &[&Row]| {
            let rows = elements(rows, errors, imputed);
            if rows.is_empty() { None } else { expected(&rows) }
        };
        Self { call: call.to_owned(), field: field.to_owned(), expected: Box::new(expected) }
    }

    fn sql(&self, clause: &str) -> String {
        self.field.replace('@', &format!("{} {clause}", self.call))
    }
}

fn field(name: &str) -> String {
    format!("get_field(@, '{name}')")
}

fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for shape in ["f0, f1, f2", "list32", "large64", "fixed16", "fixed64"] {
        let call = format!("balance_vector(o, p, {shape})");
        for k in 0..K {
            let element = format!("array_element(@, {})", k + 1);
            cases.push(Case::new(&call, &element, move |rows| Some(mean(&columns(rows)[k]))));
        }
    }
    let several = |rows: &[Element], f: fn(&[Element]) -> f64| (rows.len() > 1).then(|| f(rows));
    for call in ["balance_test(o, p, f0, f1, f2)", "balance_test(o_int, p, fixed32)"] {
        cases.push(Case::new(call, &field("n"), |rows| Some(rows.len() as f64)));
        cases.push(Case::new(call, &field("bmse"), |rows| Some(columns(rows).iter().map(|z| mean(z).powi(2)).sum())));
        cases.push(Case::new(call, &field("noise_floor"), move |rows| {
            several(rows, |rows| {
                let n = rows.len() as f64;
                columns(rows).iter().map(|z| covariance(z, z)).sum::<f64>() * (n - 1.0) / (n * n)
            })
        }));
        cases.push(Case::new(call, &field("unbiased"), move |rows| {
            several(rows, |rows| {
                let n = rows.len() as f64;
                columns(rows).iter().map(|z| mean(z).powi(2) - covariance(z, z) / n).sum()
            })
        }));
        cases.push(Case::new(call, &field("worst_z"), move |rows| {
            let z = (0..K).map(|k| z_of(rows, k)).filter(|z| !z.is_nan());
            z.max_by(|a, b| a.abs().total_cmp(&b.abs()))
        }));
        cases.push(Case::new(call, &field("expected_bmse"), |rows| {
            Some((0..K).map(|k| expected_covariance(rows)[k][k]).sum())
        }));
        let element = "array_element(get_field(@, 'std_errors'), 2)";
        cases.push(Case::new(call, element, |rows| Some(expected_covariance(rows)[1][1].sqrt())));
        // A covariance of three elements takes more rows than that.
        for (name, formula) in
            [("statistic", statistic as fn(&[Element]) -> f64), ("scale", scale), ("p_value", p_value)]
        {
            let enough = format!("CASE WHEN get_field(@, 'n') > 8 THEN get_field(@, '{name}') END");
            cases.push(Case::new(call, &enough, move |rows| (rows.len() > 8).then(|| formula(rows))));
        }
    }
    for (at, name) in ["before", "after", "change", "std_error"].into_iter().enumerate() {
        let call = "bmse_change(o, p, p * p, f0, f1, f2)";
        let needs_variance = at > 1;
        cases.push(Case::new(call, &field(name), move |rows| {
            (rows.len() > 1 || !needs_variance).then(|| change(rows)[at])
        }));
    }
    for (name, formula) in
        [("smd", smd as fn(&[Element], usize, bool) -> Option<f64>), ("variance_ratio", variance_ratio)]
    {
        for (part, weighted) in [("raw", false), ("weighted", true)] {
            let list = format!("{name}(o, p, large32)");
            let element = format!("array_element(get_field(@, '{part}'), 2)");
            cases.push(Case::new(&list, &element, move |rows| formula(rows, 1, weighted)));
            let columns = format!("{name}(o, p, f0, f1, f2)");
            let element = format!("array_element(get_field(@, '{part}'), 3)");
            cases.push(Case::new(&columns, &element, move |rows| formula(rows, 2, weighted)));
        }
    }
    for (call, doubly_robust) in
        [("lambda_opt(o, p, e, f0, f1, f2)", false), ("lambda_opt_dr(o, p, e, i, fixed64)", true)]
    {
        cases.push(Case::new(call, &field("lambda"), move |rows| Some(lambda_opt(rows, doubly_robust)?.0)));
        cases.push(Case::new(call, &field("correlation"), move |rows| Some(lambda_opt(rows, doubly_robust)?.1)));
    }
    let state = "balance_state(o, p, f0, f1, f2)";
    cases.push(Case::new(state, "get_field(balance_test_of(@), 'n')", |rows| Some(rows.len() as f64)));
    cases.push(Case::new(state, "bmse_of(@)", |rows| Some(columns(rows).iter().map(|z| mean(z).powi(2)).sum())));
    cases.push(Case::new(state, "array_element(balance_vector_of(@), 2)", |rows| Some(mean(&columns(rows)[1]))));
    cases
}

async fn check(ctx: &SessionContext, rows: &[Row], case: &str) {
    let cases = cases();
    let list = |clause: &str| cases.iter().map(|case| case.sql(clause)).collect::<Vec<_>>().join(", ");
    let (plain, kept) = (list(""), list("FILTER (WHERE keep)"));
    let verify = |results: &[Option<f64>], rows: &[&Row], what: &str| {
        let kept: Vec<_> = rows.iter().copied().filter(|row| row.keep == Some(true)).collect();
        let (plain, filtered) = results.split_at(cases.len());
        for ((plain, filtered), case) in plain.iter().zip(filtered).zip(&cases) {
            assert_close(*plain, (case.expected)(rows), 1e-7, &format!("{} {what}", case.sql("")));
            assert_close(*filtered, (case.expected)(&kept), 1e-7, &format!("{} {what}", case.sql("FILTER")));
        }
    };
    let results = numbers(ctx, &format!("SELECT {plain}, {kept} FROM log")).await.unwrap();
    verify(&results[0], &rows.iter().collect::<Vec<_>>(), case);

    let mut segments: BTreeMap<i32, Vec<&Row>> = BTreeMap::new();
    rows.iter().for_each(|row| segments.entry(row.segment).or_default().push(row));
    let sql = format!("SELECT {plain}, {kept} FROM log GROUP BY segment ORDER BY segment");
    let results = numbers(ctx, &sql).await.unwrap();
    assert_eq!(results.len(), segments.len());
    for (results, (segment, rows)) in results.iter().zip(&segments) {
        verify(results, rows, &format!("{case}, segment {segment}"));
    }
}

#[tokio::test]
async fn partitions_batches_groups_and_filters() {
    for nulls in [false, true] {
        let rows = population(180, 4, nulls, 11);
        for parts in [1, 2, 8] {
            for batch_size in [1, 7, 8192] {
                let ctx = session_with(config(parts, batch_size), partitions(&rows, parts, batch_size));
                check(&ctx, &rows, &format!("{parts} partitions, batches of {batch_size}, nulls: {nulls}")).await;
            }
        }
    }
}

#[tokio::test]
async fn partial_aggregation_is_skipped() {
    let rows = population(400, 40, true, 12);
    let config = skipping_partial_aggregation(config(2, 16));
    check(&session_with(config, partitions(&rows, 2, 16)), &rows, "partial aggregation skipped").await;
}

#[tokio::test]
async fn sliding_windows() {
    let rows = population(90, 1, true, 13);
    let ctx = session_with(config(2, 8), partitions(&rows, 1, 50));
    let cases = cases();
    let frame = "OVER (ORDER BY seq ROWS BETWEEN 20 PRECEDING AND 4 FOLLOWING)";
    let list = cases.iter().map(|case| case.sql(frame)).collect::<Vec<_>>().join(", ");
    let results = numbers(&ctx, &format!("SELECT {list} FROM log ORDER BY seq")).await.unwrap();
    assert_eq!(results.len(), rows.len());
    for (at, results) in results.iter().enumerate() {
        let frame: Vec<_> = rows[at.saturating_sub(20)..(at + 5).min(rows.len())].iter().collect();
        for (result, case) in results.iter().zip(&cases) {
            assert_close(*result, (case.expected)(&frame), 1e-6, &format!("{} at row {at}", case.sql("")));
        }
    }
}

#[tokio::test]
async fn a_single_numeric_covariate_gives_numbers() {
    let rows = population(60, 1, false, 14);
    let ctx = session_with(config(2, 16), partitions(&rows, 2, 16));
    let of_rows = elements(&rows.iter().collect::<Vec<_>>(), false, false);
    let sql = "SELECT smd(o, p, f1)['raw'], smd(o, p, f1)['weighted'], variance_ratio(o, p, f1)['weighted'] FROM log";
    let results = &numbers(&ctx, sql).await.unwrap()[0];
    assert_close(results[0], smd(&of_rows, 1, false), 1e-9, "raw");
    assert_close(results[1], smd(&of_rows, 1, true), 1e-9, "weighted");
    assert_close(results[2], variance_ratio(&of_rows, 1, true), 1e-9, "variance ratio");
}

const TEST_FIELDS: [&str; 9] =
    ["n", "bmse", "unbiased", "noise_floor", "statistic", "dof", "scale", "p_value", "worst_component"];

/// The fields of the tests that a query gives, fewest rows first.
async fn fields(ctx: &SessionContext, test: &str, from: &str) -> Vec<Vec<Option<f64>>> {
    let list = TEST_FIELDS.map(|field| format!("get_field(t, '{field}')")).join(", ");
    let mut rows = numbers(ctx, &format!("SELECT {list} FROM (SELECT {test} AS t FROM {from})")).await.unwrap();
    rows.sort_by(|a, b| a[0].partial_cmp(&b[0]).unwrap());
    rows
}

fn assert_same(merged: &[Option<f64>], whole: &[Option<f64>], what: &str) {
    for ((merged, whole), field) in merged.iter().zip(whole).zip(TEST_FIELDS) {
        assert_close(*merged, *whole, 1e-10, &format!("{field}, {what}"));
    }
}

#[tokio::test]
async fn stored_states_answer_for_their_rows() {
    let rows = population(600, 7, true, 15);
    let ctx = session_with(config(3, 32), partitions(&rows, 3, 32));
    let folder = std::env::temp_dir().join(format!("counterweight-states-{}", std::process::id()));
    let path = folder.join("states.parquet");
    let store = format!(
        "COPY (SELECT segment, balance_state(o, p, fixed32) AS state FROM log GROUP BY segment) TO '{}'",
        path.display()
    );
    ctx.sql(&store).await.unwrap().collect().await.unwrap();
    ctx.register_parquet("states", path.to_str().unwrap(), Default::default()).await.unwrap();

    let whole = fields(&ctx, "balance_test(o, p, fixed32)", "log").await;
    let merged = fields(&ctx, "balance_test_of(balance_merge(state))", "states").await;
    assert_same(&merged[0], &whole[0], "all states");

    let whole = fields(&ctx, "balance_test(o, p, fixed32)", "log WHERE segment % 2 = 0").await;
    let filtered = fields(&ctx, "balance_test_of(balance_merge(state) FILTER (WHERE segment % 2 = 0))", "states").await;
    assert_same(&filtered[0], &whole[0], "filtered states");

    let grouped = "(SELECT segment % 3 AS g, balance_merge(state) AS merged FROM states GROUP BY g)";
    let grouped = fields(&ctx, "balance_test_of(merged)", grouped).await;
    let rescan = "(SELECT segment % 3 AS g, balance_test(o, p, fixed32) AS whole FROM log GROUP BY g)";
    let rescan = fields(&ctx, "whole", rescan).await;
    assert_eq!(grouped.len(), 3);
    for (at, (merged, whole)) in grouped.iter().zip(&rescan).enumerate() {
        assert_same(merged, whole, &format!("group {at}"));
    }

    let frame = "balance_merge(state) OVER (ORDER BY segment ROWS 2 PRECEDING)";
    let rolling = fields(&ctx, &format!("balance_test_of({frame})"), "states").await;
    assert_eq!(rolling.len(), 7);
    let mut rescans = vec![];
    for day in 0..7_i32 {
        let days = format!("log WHERE segment BETWEEN {} AND {day}", day - 2);
        rescans.extend(fields(&ctx, "balance_test(o, p, fixed32)", &days).await);
    }
    rescans.sort_by(|a, b| a[0].partial_cmp(&b[0]).unwrap());
    for (at, (merged, whole)) in rolling.iter().zip(&rescans).enumerate() {
        assert_same(merged, whole, &format!("window {at}"));
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn what_could_be_a_state_but_for_its_numbers_is_refused() {
    let state = |count: &str, mean: &str, spread: &str, sums: &str| {
        format!(
            "named_struct('count', {count}, 'mean', [{mean}], 'spread', {spread}, 'origin', [{mean}], 'sums', [{sums}])"
        )
    };
    // Of one element: the sums of the three weights, of y with each, of y² with two, of y³ and of y⁴.
    let sound = "12.0, 2.0, -96.0, 1.0, 1.0, 1.0, 5.0, 1.0, 1.0, 1.0";
    let sums = |from: &str, to: &str| sound.replacen(from, to, 1);
    assert!(number(&format!("SELECT balance_test_of({})['p_value']", state("3", "1.0", "1.0", sound))).await.is_some());
    for (count, mean, spread, sums) in [
        ("3", "", "1.0", String::new()),
        ("3", "1.0, NULL", "1.0", sound.to_owned()),
        ("3", "1.0", "1.0", "12.0, 2.0".to_owned()),
        ("3", "1.0", "1.0", sums("5.0", "NULL")),
        ("3", "1.0", "1.0", sums("5.0", "-5.0")),
        ("3", "1.0", "1.0", sums("12.0", "0.0")),
        ("3", "1.0", "-1.0", sound.to_owned()),
        ("3", "1.0", "1.0", sums("5.0", "'Infinity'::DOUBLE")),
        ("NULL", "1.0", "1.0", sound.to_owned()),
    ] {
        for function in ["balance_merge", "bmse_of", "balance_vector_of", "balance_test_of"] {
            let message = failure(&format!("SELECT {function}({})", state(count, mean, spread, &sums))).await;
            assert!(message.contains("argument 1 (state) is no state of balance_state"), "{message}");
        }
    }
    let (many, far) = (state("9223372036854775808", "1.0", "1.0", sound), state("3", "1e300", "1.0", sound));
    for (state, says) in [(many, "more than 64 bits can count"), (far, "the sums leave the range")] {
        let other = state.replace("1e300", "-1e300");
        let sql = format!("SELECT balance_merge(s) FROM (SELECT {state} AS s UNION ALL SELECT {other})");
        let message = failure(&sql).await;
        assert!(message.contains("balance_merge: ") && message.contains(says), "{message}");
    }
}

#[tokio::test]
async fn covariances_beyond_the_variances_are_held_to_them() {
    let mut sums = vec!["0.0"; 22];
    (sums[0], sums[5], sums[9], sums[10], sums[11]) = ("36.0", "1e-160", "1e-300", "1e300", "1e-300");
    let state = format!(
        "named_struct('count', 9, 'mean', [1e-160, 0.0], 'spread', 1.0, 'origin', [0.0, 0.0], 'sums', [{}])",
        sums.join(", ")
    );
    let p_value = number(&format!("SELECT balance_test_of({state})['p_value']")).await.unwrap();
    assert!((0.0..=1.0).contains(&p_value), "{p_value}");
}

#[tokio::test]
async fn what_is_no_state_is_refused() {
    let state = "named_struct('count', 3, 'mean', [1.0, 2.0], 'spread', 1.0, 'origin', [1.0, 0.5], 'sums', [1.0])";
    for (sql, says) in [
        ("SELECT bmse_of(3)", "argument 1 (state) of bmse_of must be a state that balance_state"),
        ("SELECT balance_merge('x')", "argument 1 (state) of balance_merge must be a state"),
        ("SELECT bmse_of()", "bmse_of takes 1 argument, not 0"),
        (&format!("SELECT balance_test_of({state})"), "count 3, spread 1, 2 means, an origin of 2 and 1 sums must fit"),
        (
            "SELECT balance_drift(balance_state(true, 0.5), balance_state(true, 0.5, 1, 2))",
            "argument 1 (before) has 1 elements of phi and argument 2 (after) 2: give states of the same phi",
        ),
        ("SELECT balance_drift(balance_state(true, 0.5), 3)", "argument 2 (after) of balance_drift must be a state"),
        ("SELECT balance_drift(balance_state(true, 0.5))", "balance_drift takes 2 arguments, not 1"),
        ("SELECT bmse_change(true, 0, 0.5)", "argument 2 (propensity_before) is 0: a treated row cannot"),
        ("SELECT bmse_change(false, 0.5, 1)", "argument 3 (propensity) is 1: an untreated row cannot"),
        (
            "SELECT balance_merge(s) FROM (SELECT balance_state(true, 0.5, 1) AS s
             UNION ALL SELECT balance_state(true, 0.5, 1, 2) AS s)",
            "balance_merge: argument 1 (state) has lists of",
        ),
        (
            "SELECT smd(true, 0.5)",
            "smd takes at least 3 arguments, not 2; usage: smd(treated, propensity, covariate, ...)",
        ),
        (
            "SELECT smd(true, 0.5, x) FROM (VALUES ([1.0]), ([1.0, 2.0])) AS t (x)",
            "argument 3 (covariate) has lists of 1 and of 2 elements",
        ),
        ("SELECT smd(true, 0.5, 'NaN'::DOUBLE)", "argument 3 (covariate) holds NaN"),
        ("SELECT variance_ratio(false, 1, 3)", "an untreated row cannot have propensity 1"),
        ("SELECT balance_test(DISTINCT true, 0.5)", "balance_test(DISTINCT ...) is not supported"),
    ] {
        let message = failure(sql).await;
        assert!(message.contains(says), "{sql}\n  says: {message}\n  not: {says}");
    }
    let wide: Vec<_> = (0..63).map(|k| format!("{k}")).collect();
    let wide = wide.join(", ");
    let message = failure(&format!("SELECT lambda_opt(true, 0.5, 1, {wide})")).await;
    assert!(message.contains("phi has 63 elements") && message.contains("at most 62"), "{message}");
    let message = failure(&format!("SELECT bmse_change(true, 0.5, 0.5, {wide})")).await;
    assert!(message.contains("phi has 63 elements") && message.contains("at most 32"), "{message}");
}

#[tokio::test]
async fn few_rows() {
    for (sql, expected) in [
        ("SELECT balance_test(true, 0.5)['n']", Some(1.0)),
        ("SELECT balance_test(true, 0.5)['p_value']", Some(0.317_310_507_862_914)),
        ("SELECT balance_test(true, 0.5)['unbiased']", None),
        ("SELECT balance_test(true, 1)['p_value']", Some(0.317_310_507_862_914)),
        ("SELECT balance_test(o, 0.5, 0)['bmse'] FROM (VALUES (true), (false)) AS t (o)", Some(0.0)),
        ("SELECT balance_test(o, 0.5, 0)['p_value'] FROM (VALUES (true), (false)) AS t (o)", None),
        ("SELECT balance_test(NULL, 0.5)['n']", None),
        ("SELECT array_length(balance_vector(true, 0.5, 1, 2, 3))", Some(3.0)),
        ("SELECT array_length(balance_vector(NULL, 0.5, 1, 2, 3))", None),
        ("SELECT smd(true, 0.5, 1)['raw']", None),
        ("SELECT lambda_opt(true, 0.5, 1)['lambda']", None),
        ("SELECT bmse_change(true, 0.5, 0.25)['after']", Some(16.0)),
        ("SELECT bmse_change(true, 0.5, 0.25)['change']", None),
        ("SELECT bmse_change(o, 0.5, 0.5)['p_value'] FROM (VALUES (true), (false)) AS t (o)", None),
        ("SELECT balance_drift(balance_state(true, 0.5), NULL)['n_before']", None),
        ("SELECT bmse_of(NULL)", None),
    ] {
        assert_close(number(sql).await, expected, 1e-12, sql);
    }
}

/// Elements that determine each other, and one that is always 0, do not upset the test.
#[tokio::test]
async fn a_degenerate_phi() {
    let rows = population(300, 1, false, 16);
    let ctx = session_with(config(2, 64), partitions(&rows, 2, 64));
    let plain = &fields(&ctx, "balance_test(o, p, f0, f1)", "log").await[0];
    let redundant = &fields(&ctx, "balance_test(o, p, f0, f1, f0 + f1, 0, 2 * f0)", "log").await[0];
    let rank = TEST_FIELDS.iter().position(|field| *field == "dof").unwrap();
    assert_eq!((plain[rank], redundant[rank]), (Some(2.0), Some(2.0)));
    for (name, tolerance) in [("statistic", 1e-8), ("p_value", 0.02)] {
        let at = TEST_FIELDS.iter().position(|field| *field == name).unwrap();
        assert_close(redundant[at], plain[at], tolerance, name);
    }
}

/// Beyond 64 elements: the sum of squared z, and Bonferroni's p-value.
#[tokio::test]
async fn a_wide_phi() {
    let rows = population(500, 3, false, 17);
    let ctx = session_with(config(2, 64), partitions(&rows, 2, 64));
    for width in [65, 512] {
        let elements: Vec<_> = (0..width).map(|k| format!("sin(f{} * {}.37 + {k})", k % 3, k + 1)).collect();
        let phi = elements.join(", ");
        let each: Vec<_> = elements.iter().map(|x| format!("SELECT balance_test(o, p, {x}) AS t FROM log")).collect();
        let each = each.join(" UNION ALL ");
        let sum = format!("SELECT sum(get_field(t, 'statistic')), max(abs(get_field(t, 'worst_z'))) FROM ({each})");
        let expected = &numbers(&ctx, &sum).await.unwrap()[0];
        for grouping in ["", "GROUP BY o IS NULL"] {
            let sql = format!(
                "SELECT t['statistic'], abs(t['worst_z']), t['dof'] FROM (SELECT balance_test(o, p, make_array({phi})) AS t FROM log {grouping})"
            );
            let wide = &numbers(&ctx, &sql).await.unwrap()[0];
            assert_close(wide[0], expected[0], 1e-9, "statistic");
            assert_close(wide[1], expected[1], 1e-9, "worst z");
            assert_eq!(wide[2], Some(f64::from(width)));
        }
    }
}

/// `sf(statistic / scale, dof / scale)` of scipy.stats.chi2.
#[tokio::test]
async fn p_values_known_elsewhere() {
    for (p, [statistic, scale, p_value]) in
        [(0.5, [2.0, 1.0, 0.157_299_207_050_285_13]), (0.1, [2.0, 1.319_444_444_444_444_4, 0.15870517857124763])]
    {
        let sql = format!(
            "SELECT t['statistic'], t['scale'], t['p_value'] FROM (SELECT balance_test(o, {p}) AS t
             FROM (VALUES (1), (1), (0), (0), (0), (0), (0), (0)) AS t (o))"
        );
        let result = &numbers(&session(SessionConfig::new()), &sql).await.unwrap()[0];
        assert_close(result[0], Some(statistic), 1e-12, "statistic");
        assert_close(result[1], Some(scale), 1e-12, "scale");
        assert_close(result[2], Some(p_value), 1e-9, "p-value");
    }
}

/// The change between two sets, against the balance of each.
#[tokio::test]
async fn drift_is_the_difference_of_two_states() {
    let rows = population(500, 2, true, 18);
    let ctx = session_with(config(2, 64), partitions(&rows, 2, 64));
    let sql = "SELECT d['n_before'], d['n_after'], d['change'][2], d['std_errors'][2], d['worst_z'], d['statistic'],
            a['n'], b['n'], vb[2] - va[2], sqrt(power(a['std_errors'][2], 2) + power(b['std_errors'][2], 2))
        FROM (SELECT balance_drift(balance_state(o, p, f1, f2) FILTER (WHERE segment = 0),
                                   balance_state(o, p, f1, f2) FILTER (WHERE segment = 1)) AS d,
                     balance_test(o, p, f1, f2) FILTER (WHERE segment = 0) AS a,
                     balance_test(o, p, f1, f2) FILTER (WHERE segment = 1) AS b,
                     balance_vector(o, p, f1, f2) FILTER (WHERE segment = 0) AS va,
                     balance_vector(o, p, f1, f2) FILTER (WHERE segment = 1) AS vb FROM log)";
    let row = &numbers(&ctx, sql).await.unwrap()[0];
    for (ours, theirs) in [(0, 6), (1, 7), (2, 8), (3, 9)] {
        assert_close(row[ours], row[theirs], 1e-10, sql);
    }
    let sql = "SELECT d['p_value'], d['worst_z'] FROM (SELECT balance_drift(s, s) AS d FROM (
        SELECT balance_state(o, p, f1) AS s FROM log))";
    let same = &numbers(&ctx, sql).await.unwrap()[0];
    assert_eq!((same[0], same[1]), (Some(1.0), Some(0.0)));
}
