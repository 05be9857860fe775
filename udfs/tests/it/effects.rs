//! Effect sizes and the errors of rows that belong together, against plain computations of two passes.

use std::collections::BTreeMap;

use datafusion::prelude::SessionContext;

use crate::population::{K, Row, partitions, population};
use crate::sql::{assert_close, config, failure, number, numbers, session_with, skipping_partial_aggregation};

/// A row that counts: its treatment, propensity, error, imputed error and φ, and the group that each way puts it into.
#[derive(Debug, Clone)]
struct Counted {
    o: f64,
    p: f64,
    e: f64,
    i: f64,
    phi: Vec<f64>,
    groups: Vec<i64>,
}

/// Rows with NULLs, whose clusters are few and of uneven size.
const CLUSTER: &str = "CASE WHEN seq % 3 = 0 THEN 0 ELSE seq % 29 END";
const SECOND: &str = "concat('item ', CAST(seq % 13 AS VARCHAR))";

/// How rows belong together, in SQL, and how many ways there are.
const WAYS: [(&str, usize); 4] = [
    ("o", 0),
    ("treatment(o, {cluster})", 1),
    ("treatment(o_int, {cluster}, NULL, 8)", 1),
    ("treatment(o, {cluster}, {second})", 3),
];

fn treated(pattern: &str) -> String {
    pattern.replace("{cluster}", CLUSTER).replace("{second}", SECOND)
}

/// The rows of each segment, with the groups of their clusters as `treatment` gives them.
async fn counted(ctx: &SessionContext, rows: &[Row], pattern: &str, ways: usize) -> BTreeMap<i32, Vec<Counted>> {
    let fields = ["cluster", "second", "both"].map(|way| format!("CAST(t['{way}'] AS BIGINT)"));
    let fields: Vec<_> = std::iter::once("seq".to_string()).chain(fields.into_iter().take(ways)).collect();
    let sql = match ways {
        0 => "SELECT seq FROM log ORDER BY seq".to_string(),
        _ => format!("SELECT {} FROM (SELECT seq, {} AS t FROM log) ORDER BY seq", fields.join(", "), treated(pattern)),
    };
    let groups = numbers(ctx, &sql).await.unwrap();
    let mut segments: BTreeMap<i32, Vec<Counted>> = BTreeMap::new();
    for (row, groups) in rows.iter().zip(groups) {
        let counted = || {
            let o = row.treated?;
            Some(Counted {
                o: f64::from(o),
                p: row.propensity?,
                e: if o { row.error? } else { 0.0 },
                i: row.imputed_error?,
                phi: row.phi.iter().copied().collect::<Option<_>>()?,
                groups: groups[1..].iter().map(|group| group.unwrap() as i64).collect(),
            })
        };
        let segment = segments.entry(row.segment).or_default();
        segment.extend(counted());
    }
    segments
}

fn mean(values: impl Iterator<Item = f64> + Clone) -> f64 {
    values.clone().sum::<f64>() / values.count() as f64
}

/// The variance and the degrees of freedom of a figure, by leaving out each group in turn.
fn jackknife(rows: &[Counted], figure: &dyn Fn(&[Counted]) -> f64) -> Option<(f64, f64)> {
    let of_way = |way: usize| -> Option<(f64, f64)> {
        let mut groups: Vec<i64> = rows.iter().map(|row| row.groups[way]).collect();
        groups.sort_unstable();
        groups.dedup();
        let without: Vec<f64> = groups
            .iter()
            .map(|group| figure(&rows.iter().filter(|row| row.groups[way] != *group).cloned().collect::<Vec<_>>()))
            .collect();
        if groups.len() < 2 || without.iter().any(|x| !x.is_finite()) {
            return None;
        }
        let g = groups.len() as f64;
        let middle = mean(without.iter().copied());
        let squares: Vec<f64> = without.iter().map(|x| (x - middle).powi(2)).collect();
        let (sum, fourths) = (squares.iter().sum::<f64>(), squares.iter().map(|x| x * x).sum::<f64>());
        let degrees = if fourths > 0.0 { sum * sum / fourths - 1.0 } else { g - 1.0 };
        Some(((g - 1.0) / g * sum, degrees.max(1.0).min(g - 1.0)))
    };
    match rows.first()?.groups.len() {
        1 => of_way(0),
        3 => {
            let (first, second, both) = (of_way(0)?, of_way(1)?, of_way(2)?);
            Some((first.0 + second.0 - both.0, first.1.min(second.1)))
        }
        _ => None,
    }
}

/// `a` of each row, and the mean of its square under true propensities.
fn errors(both_arms: bool, row: &Counted) -> (f64, f64) {
    let Counted { o, p, .. } = *row;
    match both_arms {
        true => (o / p - (1.0 - o) / (1.0 - p), 1.0 / (p * (1.0 - p))),
        false => (o / p - 1.0, (1.0 - p) / p),
    }
}

/// The standardised imbalance of an element, or of the constant.
fn effect(rows: &[Counted], element: Option<usize>, both_arms: bool) -> f64 {
    let a = |row: &Counted| errors(both_arms, row).0;
    let Some(k) = element else { return mean(rows.iter().map(a)) };
    let middle = mean(rows.iter().map(|row| row.phi[k]));
    let deviation = mean(rows.iter().map(|row| (row.phi[k] - middle).powi(2))).sqrt();
    mean(rows.iter().map(|row| a(row) * (row.phi[k] - middle))) / deviation
}

/// Estimate, standard error and degrees of freedom of an element.
fn standardised(rows: &[Counted], element: Option<usize>, both_arms: bool) -> [Option<f64>; 3] {
    let n = rows.len() as f64;
    let estimate = effect(rows, element, both_arms);
    let middle = element.map_or(0.0, |k| mean(rows.iter().map(|row| row.phi[k])));
    let deviation = element.map_or(1.0, |k| mean(rows.iter().map(|row| (row.phi[k] - middle).powi(2))).sqrt());
    if deviation == 0.0 || !deviation.is_finite() {
        return [None; 3];
    }
    let z = |row: &Counted| element.map_or(1.0, |k| (row.phi[k] - middle) / deviation);
    let second: f64 = rows.iter().map(|row| errors(both_arms, row).1 * z(row).powi(2)).sum();
    let implied = second / n / n;
    let spread = match rows[0].groups.is_empty() {
        false => jackknife(rows, &|rows| effect(rows, element, both_arms)),
        true => (rows.len() > 1).then(|| {
            let tilt = mean(rows.iter().map(|row| errors(both_arms, row).0));
            let influence = |row: &Counted| match element {
                None => errors(both_arms, row).0 - estimate,
                Some(_) => (errors(both_arms, row).0 - tilt) * z(row) - estimate * (z(row).powi(2) + 1.0) / 2.0,
            };
            let fourth: f64 = rows
                .iter()
                .map(|row| {
                    let (p, q) = (row.p, 1.0 - row.p);
                    let h = if both_arms { 1.0 / (p * q) } else { 1.0 / p };
                    h.powi(4) * (p * q.powi(4) + q * p.powi(4)) * z(row).powi(4)
                })
                .sum();
            let variance = rows.iter().map(|row| influence(row).powi(2)).sum::<f64>() / n / (n - 1.0);
            (variance, (second * second / fourth - 1.0).max(1.0).min(n - 1.0))
        }),
    };
    [Some(estimate), spread.map(|(variance, _)| variance.max(implied).sqrt()), spread.map(|(_, degrees)| degrees)]
}

/// The solution of `matrix · x = right` by elimination, for a matrix that has an inverse.
fn solve(matrix: Vec<Vec<f64>>, right: Vec<f64>) -> Vec<f64> {
    let width = right.len();
    let mut rows: Vec<Vec<f64>> = matrix;
    rows.iter_mut().zip(right).for_each(|(row, right)| row.push(right));
    for k in 0..width {
        let pivot = (k..width).max_by(|a, b| rows[*a][k].abs().total_cmp(&rows[*b][k].abs())).unwrap();
        rows.swap(k, pivot);
        let pivot = rows[k].clone();
        for (_, row) in rows.iter_mut().enumerate().filter(|(at, _)| *at != k) {
            let factor = row[k] / pivot[k];
            row.iter_mut().zip(&pivot).for_each(|(x, pivot)| *x -= factor * pivot);
        }
    }
    rows.iter().enumerate().map(|(k, row)| row[width] / row[k]).collect()
}

/// β of the regression, and the bias over the mean error.
fn bias(rows: &[Counted], elements: &[usize], doubly_robust: bool) -> (Vec<f64>, f64) {
    let phi =
        |row: &Counted| -> Vec<f64> { std::iter::once(1.0).chain(elements.iter().map(|k| row.phi[*k])).collect() };
    let width = 1 + elements.len();
    let (mut products, mut responses, mut c) = (vec![vec![0.0; width]; width], vec![0.0; width], vec![0.0; width]);
    let (mut absolute, mut weights) = (0.0, 0.0);
    for row in rows {
        let (phi, w) = (phi(row), row.o / row.p);
        let residual = if doubly_robust { row.e - row.i } else { row.e };
        absolute += w * row.e.abs();
        weights += w;
        c.iter_mut().zip(&phi).for_each(|(c, phi)| *c += (w - 1.0) * phi / rows.len() as f64);
        if w > 0.0 {
            responses.iter_mut().zip(&phi).for_each(|(sum, phi)| *sum += w * residual * phi);
            for (products, one) in products.iter_mut().zip(&phi) {
                products.iter_mut().zip(&phi).for_each(|(sum, other)| *sum += w * one * other);
            }
        }
    }
    let beta = solve(products, responses);
    let value = beta.iter().zip(c).map(|(beta, c)| beta * c).sum::<f64>();
    (beta, value / (absolute / weights))
}

/// Estimate, standard error and degrees of freedom of the bias.
fn biased(rows: &[Counted], elements: &[usize], doubly_robust: bool) -> [Option<f64>; 3] {
    let n = rows.len() as f64;
    let weights = || rows.iter().map(|row| row.o / row.p);
    let squares = weights().map(|w| w * w).sum::<f64>();
    if squares == 0.0 || weights().sum::<f64>().powi(2) / squares < 2.0 * (1 + elements.len()) as f64 {
        return [None; 3];
    }
    let (beta, estimate) = bias(rows, elements, doubly_robust);
    let along = |row: &Counted| beta[0] + elements.iter().zip(&beta[1..]).map(|(k, b)| row.phi[*k] * b).sum::<f64>();
    let size = rows.iter().map(|row| row.o / row.p * row.e.abs()).sum::<f64>() / weights().sum::<f64>();
    let implied = rows.iter().map(|row| errors(false, row).1 * along(row).powi(2)).sum::<f64>() / (n * size).powi(2);
    let spread = jackknife(rows, &|rows| bias(rows, elements, doubly_robust).1);
    [Some(estimate), spread.map(|(variance, _)| variance.max(implied).sqrt()), spread.map(|(_, degrees)| degrees)]
}

/// Sessions over the rows in several cuts.
fn sessions(rows: &[Row]) -> Vec<SessionContext> {
    let cuts = [(1, 8192), (3, 16), (7, 5)];
    let whole = cuts.map(|(parts, batch)| session_with(config(parts, batch), partitions(rows, parts, batch)));
    let rows_alone = session_with(skipping_partial_aggregation(config(3, 16)), partitions(rows, 3, 16));
    whole.into_iter().chain([rows_alone]).collect()
}

#[tokio::test]
async fn imbalances_are_those_of_two_passes_however_rows_belong_together() {
    for (seed, count, segments) in [(70, 400, 3), (71, 120, 9)] {
        let rows = population(count, segments, true, seed);
        for ctx in sessions(&rows) {
            for (pattern, ways) in WAYS {
                let expected = counted_all(&ctx, &rows, pattern, ways).await;
                for both_arms in [false, true] {
                    let function = if both_arms { "imbalance_both" } else { "imbalance" };
                    let figures = (1..=1 + K)
                        .flat_map(|k| ["estimate", "std_error", "degrees"].map(|field| format!("t['{field}'][{k}]")));
                    let figures = figures.collect::<Vec<_>>().join(", ");
                    let call = format!("{function}({}, p, f0, f1, f2)", treated(pattern));
                    let sql = format!(
                        "SELECT segment, t['n'], {figures} FROM (SELECT segment, {call} AS t FROM log GROUP BY segment)
                         ORDER BY segment"
                    );
                    let found = numbers(&ctx, &sql).await.unwrap();
                    assert_eq!(found.len(), expected.len());
                    for (found, rows) in found.iter().zip(expected.values()) {
                        assert_eq!(found[1], (!rows.is_empty()).then_some(rows.len() as f64), "{sql}");
                        for k in 0..=K {
                            let element = k.checked_sub(1);
                            let wanted =
                                if rows.is_empty() { [None; 3] } else { standardised(rows, element, both_arms) };
                            for (at, wanted) in wanted.into_iter().enumerate() {
                                let what = format!("figure {at} of element {k} of {sql}");
                                assert_close(found[2 + 3 * k + at], wanted, 1e-8, &what);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// As [`counted`], with the rows counted that lack an error.
async fn counted_all(ctx: &SessionContext, rows: &[Row], pattern: &str, ways: usize) -> BTreeMap<i32, Vec<Counted>> {
    let rows: Vec<Row> = rows
        .iter()
        .map(|row| Row { error: row.error.or(Some(0.0)), imputed_error: Some(0.0), ..row.clone() })
        .collect();
    counted(ctx, &rows, pattern, ways).await
}

#[tokio::test]
async fn biases_are_those_of_a_regression_and_its_repetitions_without_each_group() {
    let rows = population(600, 2, true, 72);
    for ctx in sessions(&rows) {
        for (pattern, ways) in WAYS {
            for (call, elements, doubly_robust) in [
                ("imbalance_bias({o}, p, e, f0, f2)", &[0, 2][..], false),
                ("imbalance_bias({o}, p, e)", &[], false),
                ("imbalance_bias_dr({o}, p, e, i, f0, f1, f2)", &[0, 1, 2], true),
            ] {
                let rows: Vec<Row> = rows
                    .iter()
                    .map(|row| Row {
                        imputed_error: if doubly_robust { row.imputed_error } else { Some(0.0) },
                        phi: std::array::from_fn(|k| if elements.contains(&k) { row.phi[k] } else { Some(0.0) }),
                        ..row.clone()
                    })
                    .collect();
                let expected = counted(&ctx, &rows, pattern, ways).await;
                let call = call.replace("{o}", &treated(pattern));
                let sql = format!(
                    "SELECT segment, t['n'], t['estimate'], t['std_error'], t['degrees']
                     FROM (SELECT segment, {call} AS t FROM log GROUP BY segment) ORDER BY segment"
                );
                let found = numbers(&ctx, &sql).await.unwrap();
                for (found, rows) in found.iter().zip(expected.values()) {
                    assert_eq!(found[1], Some(rows.len() as f64), "{sql}");
                    let wanted = biased(rows, elements, doubly_robust);
                    let known = if ways == 0 { 1 } else { 3 };
                    for (at, wanted) in wanted.into_iter().take(known).enumerate() {
                        assert_close(found[2 + at], wanted, 1e-7, &format!("figure {at} of {sql}"));
                    }
                    assert!(found[3].is_some_and(|error| error > 0.0), "{sql}");
                }
            }
        }
    }
}

#[tokio::test]
async fn intervals_and_tests_have_the_errors_of_rows_that_belong_together() {
    let rows = population(500, 2, true, 73);
    let term = |row: &Counted| row.o * row.e / row.p;
    let ips = |rows: &[Counted]| mean(rows.iter().map(term));
    let snips =
        |rows: &[Counted]| rows.iter().map(term).sum::<f64>() / rows.iter().map(|row| row.o / row.p).sum::<f64>();
    let w = |row: &Counted| row.o / row.p - (1.0 - row.o) / (1.0 - row.p);
    let wrong = |p: f64| (p + 0.5) / 2.0;
    let other = |row: &Counted| row.o / wrong(row.p) - (1.0 - row.o) / (1.0 - wrong(row.p));
    for ctx in sessions(&rows) {
        for (pattern, ways) in WAYS.into_iter().skip(1) {
            let of_errors: Vec<Row> =
                rows.iter().map(|row| Row { imputed_error: Some(0.0), phi: [Some(0.0); K], ..row.clone() }).collect();
            let of_phi: Vec<Row> = rows
                .iter()
                .map(|row| Row { error: Some(0.0), imputed_error: Some(0.0), phi: [row.phi[0]; K], ..row.clone() })
                .collect();
            let (of_errors, of_phi) =
                (counted(&ctx, &of_errors, pattern, ways).await, counted(&ctx, &of_phi, pattern, ways).await);
            let o = treated(pattern);
            let sql = format!(
                "SELECT segment, a['std_error'], b['std_error'], (b['upper'] - b['lower']) / b['std_error'] / 2,
                   t['std_errors'][1], s['std_errors'][1], c['change'], c['std_error'], d['change'][1], d['std_errors'][1]
                 FROM (SELECT segment, ips_interval({o}, p, e) AS a, snips_interval({o}, p, e) AS b,
                         balance_test({o}, p, f0) AS t, balance_test_of(balance_state({o}, p, f0)) AS s,
                         bmse_change({o}, p, (p + 0.5) / 2, f0) AS c,
                         balance_drift(balance_state({o}, p, f0) FILTER (WHERE seq < 200),
                                       balance_state({o}, p, f0) FILTER (WHERE seq >= 200)) AS d
                       FROM log GROUP BY segment) ORDER BY segment"
            );
            let found = numbers(&ctx, &sql).await.unwrap();
            for ((found, of_errors), of_phi) in found.iter().zip(of_errors.values()).zip(of_phi.values()) {
                let n = of_errors.len() as f64;
                let at_least = |spread: Option<(f64, f64)>, least: f64| spread.map(|(v, _)| v.max(least).sqrt());
                let variance = |values: Vec<f64>| {
                    let middle = mean(values.iter().copied());
                    values.iter().map(|x| (x - middle).powi(2)).sum::<f64>()
                        / (values.len() as f64 * (values.len() as f64 - 1.0))
                };
                let of_ips = at_least(jackknife(of_errors, &ips), variance(of_errors.iter().map(term).collect()));
                assert_close(found[1], of_ips, 1e-9, &sql);
                let ratio = snips(of_errors);
                let weight = mean(of_errors.iter().map(|row| row.o / row.p));
                let influences = of_errors.iter().map(|row| (term(row) - ratio * row.o / row.p) / weight).collect();
                let of_snips = jackknife(of_errors, &snips);
                assert_close(found[2], at_least(of_snips, variance(influences)), 1e-9, &sql);
                assert!(n > 100.0 && found[3].unwrap() > 1.97, "{sql}: Student's quantile is {:?}", found[3]);

                let squares: f64 = of_phi.iter().map(|row| row.phi[0].powi(2) / (row.p * (1.0 - row.p))).sum();
                let of_test = jackknife(of_phi, &|rows| mean(rows.iter().map(|row| w(row) * row.phi[0])));
                let of_test = at_least(of_test, squares / (of_phi.len() as f64).powi(2));
                assert_close(found[4], of_test, 1e-9, &sql);
                assert_close(found[5], of_test, 1e-9, &sql);

                let of = |w: &dyn Fn(&Counted) -> f64, rows: &[Counted]| {
                    mean(rows.iter().map(|row| w(row) * row.phi[0]).collect::<Vec<_>>().into_iter())
                };
                let (before, after) = (of(&w, of_phi), of(&other, of_phi));
                let noise = |w: &dyn Fn(&Counted) -> f64| jackknife(of_phi, &|rows| of(w, rows)).unwrap().0;
                let change = after * after - before * before - noise(&other) + noise(&w);
                assert_close(found[6], Some(change), 1e-9, &sql);
                let slope = |row: &Counted| 2.0 * row.phi[0] * (after * other(row) - before * w(row));
                let independent = variance(of_phi.iter().map(slope).collect());
                let of_change = jackknife(of_phi, &|rows| mean(rows.iter().map(slope)));
                assert_close(found[7], at_least(of_change, independent), 1e-9, &sql);
            }
            check_drift(&ctx, &rows, pattern, ways, &found).await;
        }
    }
}

/// The drift of the first 200 rows to the others, whose clusters they share.
async fn check_drift(ctx: &SessionContext, rows: &[Row], pattern: &str, ways: usize, found: &[Vec<Option<f64>>]) {
    let at = |row: &Row, seq: usize| Row {
        error: Some(f64::from(u8::from(seq >= 200))),
        imputed_error: Some(f64::from(u8::from(seq >= 200))),
        phi: [row.phi[0]; K],
        ..row.clone()
    };
    let rows: Vec<Row> = rows.iter().enumerate().map(|(seq, row)| at(row, seq)).collect();
    let w = |row: &Counted| row.o / row.p - (1.0 - row.o) / (1.0 - row.p);
    for (found, rows) in found.iter().zip(counted(ctx, &rows, pattern, ways).await.values()) {
        let of = |rows: &[Counted], after: f64| {
            let half = rows.iter().filter(|row| row.i == after).map(|row| w(row) * row.phi[0]);
            mean(half.collect::<Vec<_>>().into_iter())
        };
        let drift = |rows: &[Counted]| of(rows, 1.0) - of(rows, 0.0);
        let implied = |after: f64| {
            let half: Vec<_> = rows.iter().filter(|row| row.i == after).collect();
            half.iter().map(|row| row.phi[0].powi(2) / (row.p * (1.0 - row.p))).sum::<f64>()
                / (half.len() as f64).powi(2)
        };
        let error = jackknife(rows, &drift).map(|(v, _)| v.max(implied(0.0) + implied(1.0)).sqrt());
        assert_close(found[8], Some(drift(rows)), 1e-9, "drift");
        assert_close(found[9], error, 1e-9, "error of a drift");
    }
}

/// XXH64 of "", "a" and "abc" starts with ef, d2 and 44, as its authors' own tests say.
#[tokio::test]
async fn a_cluster_is_in_the_same_group_on_every_machine_and_in_every_type() {
    for (id, first, of_sixteen) in [("''", 0xef, 0xe), ("'a'", 0xd2, 0xd), ("'abc'", 0x44, 0x4)] {
        for id in [
            id.to_string(),
            format!("arrow_cast({id}, 'LargeUtf8')"),
            format!("arrow_cast({id}, 'Utf8View')"),
            format!("arrow_cast({id}, 'Dictionary(Int8, Utf8)')"),
            format!("arrow_cast({id}, 'Binary')"),
        ] {
            assert_eq!(
                number(&format!("SELECT treatment(true, {id})['cluster']")).await,
                Some(f64::from(first)),
                "{id}"
            );
            let sql = format!("SELECT treatment(true, {id}, NULL, 16)['cluster']");
            assert_eq!(number(&sql).await, Some(f64::from(of_sixteen)), "{id}");
        }
    }
    let of = async |id: &str| number(&format!("SELECT treatment(1, {id})['cluster']")).await;
    let whole = of("123::BIGINT").await;
    for id in [
        "123::TINYINT",
        "123::INT",
        "123::BIGINT UNSIGNED",
        "123.0::DOUBLE",
        "123::DECIMAL(9, 2)",
        "arrow_cast(123, 'Dictionary(Int32, Int16)')",
        "arrow_cast(arrow_cast(123, 'Timestamp(Second, None)'), 'Timestamp(Second, None)')",
    ] {
        assert_eq!(of(id).await, whole, "{id}");
    }
    for (one, other) in [("124", "123"), ("123.5", "123"), ("true", "false"), ("struct(1, 2)", "struct(2, 1)")] {
        assert_ne!(of(one).await, of(other).await, "{one}, {other}");
    }
}

#[tokio::test]
async fn a_pair_of_clusters_is_neither_of_them() {
    let ctx = session_with(config(1, 8192), partitions(&population(2000, 1, false, 74), 1, 8192));
    let distinct = "count(DISTINCT t['cluster']), count(DISTINCT t['second']), count(DISTINCT t['both'])";
    let sql = format!("SELECT {distinct} FROM (SELECT treatment(o, seq % 3, seq % 5) AS t FROM log)");
    assert_eq!(numbers(&ctx, &sql).await.unwrap()[0], [Some(3.0), Some(5.0), Some(15.0)]);
    let sql = "SELECT max(t['cluster']), min(t['cluster']), count(DISTINCT t['cluster'])
        FROM (SELECT treatment(o, seq, NULL, 7) AS t FROM log)";
    assert_eq!(numbers(&ctx, sql).await.unwrap()[0], [Some(6.0), Some(0.0), Some(7.0)]);
}

#[tokio::test]
async fn a_row_without_a_cluster_is_skipped_and_said_to_be() {
    let log = "FROM (VALUES (1, 0.5, 'a', 1), (0, 0.5, NULL, 2), (0, 0.5, 'b', NULL), (NULL, 0.5, 'b', 2)) AS log (o, p, u, i)";
    assert_eq!(number(&format!("SELECT imbalance(treatment(o, u), p)['n'] {log}")).await, Some(2.0));
    assert_eq!(number(&format!("SELECT imbalance(treatment(o, u, i), p)['n'] {log}")).await, Some(1.0));
    assert_eq!(number(&format!("SELECT ips(treatment(o, u), p, 1) {log}")).await, Some(1.0));
    for (lacks, rows) in [("cluster", 1.0), ("second", 1.0), ("treated", 1.0)] {
        let sql = format!("SELECT count(*) FILTER (WHERE skipped_for(treatment(o, u, i), p) = '{lacks}') {log}");
        assert_eq!(number(&sql).await, Some(rows), "{lacks}");
    }
}

#[tokio::test]
async fn what_cannot_be_clustered_is_refused_with_a_cure() {
    for (sql, message) in [
        (
            "SELECT treatment(true, [1])",
            "argument 2 (cluster) of treatment must be text, binary, a number, a date or a time",
        ),
        (
            "SELECT treatment('yes', 1)",
            "argument 1 (treated) of treatment must be a boolean, or a number that is 0 or 1",
        ),
        ("SELECT treatment(true)", "treatment takes 2 to 4 arguments, not 1"),
        ("SELECT treatment(true, 1, NULL, 257)", "argument 4 (groups) is 257: it must be a literal whole number"),
        ("SELECT treatment(true, n, NULL, n) FROM (VALUES (3), (4)) AS t (n)", "argument 4 (groups) is a column"),
        (
            "SELECT bmse(t, 0.5) FROM (SELECT struct(true, 1) AS t)",
            "argument 1 (treated) of bmse must be a boolean, a number that is 0 or 1, or what treatment() gives",
        ),
        ("SELECT bmse(treatment(3, 1), 0.5)", "bmse: argument 1 (treated) is 3: it must be 0 or 1"),
        (
            "SELECT imbalance(t, 0.5) FROM (SELECT treatment(true, 1) AS t UNION ALL SELECT treatment(true, 1, NULL, 9))",
            "call treatment() with the same number of groups for all rows",
        ),
        (
            "SELECT balance_merge(s) FROM (SELECT balance_state(treatment(true, 1), 0.5) AS s
             UNION ALL SELECT balance_state(true, 0.5))",
            "some rows have clusters and others have none",
        ),
        (
            "SELECT balance_drift(balance_state(treatment(true, 1), 0.5), balance_state(true, 0.5))",
            "argument 1 (before) has clusters in 256 groups and argument 2 (after) no clusters",
        ),
        (
            "SELECT imbalance_bias(true, 0.5, 1, range(0, 64))",
            "has 64 elements, and this function keeps all their products",
        ),
        ("SELECT balance_verdict(true)", "argument 1 (imbalance) of balance_verdict must be what imbalance()"),
        ("SELECT balance_verdict(imbalance(true, 0.5), NULL, -1)", "argument 3 (tolerance) is -1"),
        ("SELECT balance_verdict(imbalance(true, 0.5), NULL, 0.1, 0.1, 1)", "argument 5 (confidence) is 1"),
    ] {
        let found = failure(sql).await;
        assert!(found.contains(message), "{sql}: {found}");
    }
}

/// Other aggregates give for a treatment what they give for its column alone.
#[tokio::test]
async fn every_other_aggregate_takes_a_treatment_for_its_column() {
    let rows = population(300, 1, true, 75);
    let ctx = session_with(config(3, 16), partitions(&rows, 3, 16));
    for call in crate::population::calls() {
        let Some((function, arguments)) = call.sql.split_once("(o") else { continue };
        let (column, rest) = arguments.split_once(',').unwrap();
        let clustered = format!("{function}(treatment(o{column}, seq % 7, seq % 5),{rest}");
        let sql = format!("SELECT {}, {clustered} FROM log", call.sql);
        let found = &numbers(&ctx, &sql).await.unwrap()[0];
        assert!(found[0].is_some(), "{sql}");
        assert_close(found[1], found[0], 1e-12, &sql);
    }
}
