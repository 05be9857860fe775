//! Prints how often tests reject what is right, intervals hold and verdicts are given, over simulated logs of worlds in which
//! that is known: the tables of `docs/statistics.md`.
//!
//!     cargo run --release --workspace --example sizes [LOGS]
#![allow(missing_docs, clippy::unwrap_used, dead_code)]

#[path = "../tests/it/worlds.rs"]
mod worlds;

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::datasource::MemTable;
use datafusion::error::Result;
use datafusion::prelude::{SessionConfig, SessionContext};
use rand::rngs::StdRng;

use worlds::{Part, Row, independent, logs, of_users, of_users_and_items, tilted, truth_of_tilted};

/// Logs that are held in memory at a time.
const AT_ONCE: u64 = 50;

/// A column of a table: its heading, and what must hold of a log.
type Column<'a> = (&'a str, String);

/// The shares of `count` logs of a world for which each condition holds.
async fn shares(
    world: u64,
    count: u64,
    make: &(dyn Fn(&mut StdRng) -> Vec<Row> + Sync),
    calls: &str,
    columns: &[Column<'_>],
) -> Result<Vec<f64>> {
    let mut sums = vec![0.0; columns.len()];
    let mut done = 0;
    while done < count {
        let some = AT_ONCE.min(count - done);
        let batches = logs(1000 * world + done / AT_ONCE, some, make);
        let mut ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
        counterweight_udfs::register_all(&mut ctx)?;
        let halves = batches.chunks(batches.len().div_ceil(2)).map(<[_]>::to_vec).collect();
        ctx.register_table("log", Arc::new(MemTable::try_new(batches[0].schema(), halves)?))?;
        let holds = columns.iter().map(|(_, holds)| format!("sum(CAST({holds} AS DOUBLE))"));
        let holds = holds.collect::<Vec<_>>().join(", ");
        let sql = format!("SELECT {holds} FROM (SELECT {calls} FROM log GROUP BY log)");
        let result = ctx.sql(&sql).await?.collect().await?.remove(0);
        for (sum, column) in sums.iter_mut().zip(result.columns()) {
            let column = cast(column, &DataType::Float64)?;
            let column = column.as_primitive::<Float64Type>();
            *sum += if column.is_valid(0) { column.value(0) } else { 0.0 };
        }
        done += some;
    }
    Ok(sums.into_iter().map(|sum| sum / count as f64).collect())
}

fn head(title: &str, headings: &[&str]) {
    println!("\n{title}\n\n| world | {} |", headings.join(" | "));
    println!("|---|{}", "---|".repeat(headings.len()));
}

fn row(world: &str, shares: &[f64]) {
    let cells: Vec<String> = shares.iter().map(|share| format!("{:.1} %", 100.0 * share)).collect();
    println!("| {world} | {} |", cells.join(" | "));
}

/// The p-value that audits had before: from BMSE over its noise.
const TIMES_NOISE: &str =
    "exp(-bmse(o, p, x) / greatest(bmse_noise_floor(o, p, x), (bmse_noise_floor(o, p, x) + bmse(o, p, x) /
    count(*)) * avg(1 / (p * (1 - p))) / avg(power(balance_weight(o, p), 2))) / 2) AS noise";

async fn sizes(count: u64) -> Result<()> {
    head(
        "Propensities are right and rows independent: how often the p-value is at most 0.01, or 0.0001",
        &["BMSE over its noise ≤ 0.01", "`balance_test` ≤ 0.01", "≤ 0.0001", "`imbalance` ≤ 0.01", "≤ 0.0001"],
    );
    let worlds: [(&str, u64, &[Part]); 6] = [
        ("500 rows p = 0.002 φ = 1; 20,000 p = 0.3 φ = 0", 1, &[Part(500, 0.002, 1.0), Part(20_000, 0.3, 0.0)]),
        (
            "1,000 rows p = 0.001 φ = 300; 50,000 p = 0.1 φ = 10",
            1,
            &[Part(1000, 0.001, 300.0), Part(50_000, 0.1, 10.0)],
        ),
        ("100 rows p = 0.001 φ = 10; 10,000 p = 0.5 φ = 0.1", 1, &[Part(100, 0.001, 10.0), Part(10_000, 0.5, 0.1)]),
        ("1,000 rows p = 0.003", 20, &[Part(1000, 0.003, 1.0)]),
        ("100 rows p = 0.001", 50, &[Part(100, 0.001, 1.0)]),
        ("500 rows p = 0.02", 20, &[Part(500, 0.02, 1.0)]),
    ];
    for (world, (name, times, parts)) in (1..).zip(worlds) {
        let calls = format!("{TIMES_NOISE}, balance_test(o, p, x)['p_value'] AS t, imbalance(o, p, x)['p_value'] AS i");
        let columns: Vec<Column<'_>> = [
            "coalesce(noise, 1) <= 0.01",
            "coalesce(t, 1) <= 0.01",
            "coalesce(t, 1) <= 0.0001",
            "least(i[1], coalesce(i[2], 1)) <= 0.01",
            "least(i[1], coalesce(i[2], 1)) <= 0.0001",
        ]
        .map(|holds| ("", holds.to_owned()))
        .into();
        let found = shares(world, count * times, &|rng| independent(rng, parts), &calls, &columns).await?;
        row(name, &found);
    }
    Ok(())
}

fn covers(interval: &str, at: &str, truth: f64) -> String {
    format!("{interval}['lower']{at} <= {truth} AND {truth} <= {interval}['upper']{at}")
}

async fn coverage(count: u64) -> Result<()> {
    head(
        "Rows of a user belong together, p = 0.15 is right on average: how often tests reject, intervals of 95 % hold and \
         verdicts are false",
        &[
            "`balance_test` ≤ 0.05: independent",
            "clustered",
            "interval of `imbalance`: independent",
            "clustered",
            "`ips_interval`: independent",
            "clustered",
            "`unbalanced`: independent",
            "clustered",
            "exact tail ≤ 0.01",
        ],
    );
    let zipf = |users: usize| (1..=users).map(|user| 4000 / user).collect::<Vec<usize>>();
    let worlds: Vec<(&str, Vec<usize>, f64)> = vec![
        ("400 users × 25 rows, ρ = 0", vec![25; 400], 0.0),
        ("400 users × 25 rows, ρ = 0.01", vec![25; 400], 0.01),
        ("400 users × 25 rows, ρ = 0.05", vec![25; 400], 0.05),
        ("400 users × 100 rows, ρ = 0.01", vec![100; 400], 0.01),
        ("400 users × 100 rows, ρ = 0.05", vec![100; 400], 0.05),
        ("5 users × 400 rows, ρ = 0.05", vec![400; 5], 0.05),
        ("20 users × 400 rows, ρ = 0.05", vec![400; 20], 0.05),
        ("20 users of 4000/k rows, ρ = 0.05", zipf(20), 0.05),
        ("300 users of 4000/k rows, ρ = 0.01", zipf(300), 0.01),
        ("5,000 users × 1 row", vec![1; 5000], 0.0),
    ];
    for (world, (name, users, rho)) in (20..).zip(worlds) {
        let calls = "balance_test(o, p)['p_value'] AS t, balance_test(treatment(o, u), p)['p_value'] AS tc,
            imbalance(o, p) AS i, imbalance(treatment(o, u), p) AS ic,
            ips_interval(o, p, e) AS s, ips_interval(treatment(o, u), p, e) AS sc,
            balance_verdict(imbalance(o, p))['verdict'] AS v, balance_verdict(imbalance(treatment(o, u), p))['verdict'] AS vc";
        let columns: Vec<Column<'_>> = [
            "t <= 0.05".into(),
            "tc <= 0.05".into(),
            covers("i", "[1]", 0.0),
            covers("ic", "[1]", 0.0),
            covers("s", "", 1.0),
            covers("sc", "", 1.0),
            "v = 'unbalanced'".into(),
            "vc = 'unbalanced'".into(),
            "i['p_value'][1] <= 0.01".into(),
        ]
        .map(|holds: String| ("", holds))
        .into();
        let found = shares(world, count, &|rng| of_users(rng, &users, rho, 0.15), calls, &columns).await?;
        row(name, &found);
    }
    head(
        "60 users × 60 items, p = 0.2: how often the interval of 95 % of the constant's imbalance holds",
        &["independent", "by user", "by user and item"],
    );
    for (world, rho) in [(40, 0.0), (41, 0.01), (42, 0.05)] {
        let calls = "imbalance(o, p) AS a, imbalance(treatment(o, u), p) AS b, imbalance(treatment(o, u, i), p) AS c";
        let columns: Vec<Column<'_>> = ["a", "b", "c"].map(|name| ("", covers(name, "[1]", 0.0))).into();
        let found = shares(world, count, &|rng| of_users_and_items(rng, 60, 60, rho, 0.2), calls, &columns).await?;
        row(&format!("ρ = {rho} along each"), &found);
    }
    Ok(())
}

async fn verdicts(count: u64) -> Result<()> {
    head(
        "The true propensity is a multiple of what is said, p = 0.15, φ = 1: verdicts at a tolerance of 0.1",
        &["balanced", "undecided", "unbalanced"],
    );
    let columns = |name: &str| -> Vec<Column<'_>> {
        ["balanced", "undecided", "unbalanced"].map(|word| ("", format!("{name} = '{word}'"))).into()
    };
    for (world, (times, rows)) in (50..).zip([
        (1.0, 1_000),
        (1.0, 8_000),
        (1.0, 40_000),
        (1.1, 8_000),
        (1.1, 40_000),
        (1.2, 8_000),
        (1.2, 40_000),
        (1.01, 400_000),
    ]) {
        let make = move |rng: &mut StdRng| {
            let mut rows = independent(rng, &[Part(rows, 0.15 * times, 0.0)]);
            rows.iter_mut().for_each(|row| row.p = 0.15);
            rows
        };
        let count = if rows > 100_000 { count / 20 } else { count / 2 }.max(1);
        let found =
            shares(world, count, &make, "balance_verdict(imbalance(o, p))['verdict'] AS v", &columns("v")).await?;
        row(&format!("{times} times, {rows} rows"), &found);
    }
    head(
        "The true logit is off by tilt · φ, the error is 1 + 0.5 φ: intervals of 95 %, and verdicts with the bias",
        &["constant", "element", "bias", "bias by user of one row", "balanced", "undecided", "unbalanced"],
    );
    for (world, (p, tilt, rows)) in (60..).zip([
        (0.15, 0.0, 10_000),
        (0.15, 0.02, 20_000),
        (0.15, 0.3, 10_000),
        (0.02, 0.3, 20_000),
        (0.02, 0.3, 2_000),
    ]) {
        let [constant, element, bias] = truth_of_tilted(p, tilt, 0.5);
        let calls =
            "imbalance(o, p, x) AS i, imbalance_bias(o, p, e, x) AS b, imbalance_bias(treatment(o, u), p, e, x) AS c,
            balance_verdict(imbalance(o, p, x), imbalance_bias(o, p, e, x))['verdict'] AS v";
        let mut wanted: Vec<Column<'_>> = vec![
            ("", covers("i", "[1]", constant)),
            ("", covers("i", "[2]", element)),
            ("", covers("b", "", bias)),
            ("", covers("c", "", bias)),
        ];
        wanted.extend(columns("v"));
        let found = shares(world, count, &|rng| tilted(rng, rows, p, tilt, 0.5), calls, &wanted).await?;
        row(&format!("p = {p}, tilt {tilt} (imbalance {element:.3}, bias {:.1} %), {rows} rows", 100.0 * bias), &found);
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let count = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(400);
    sizes(count).await?;
    coverage(count).await?;
    verdicts(count).await
}
