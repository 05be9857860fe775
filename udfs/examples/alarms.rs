//! Prints how often `balance_alarm` alarms in simulated years, and how many days it takes to find a change: the table of
//! `docs/statistics.md`.
//!
//!     cargo run --release --workspace --example alarms [YEARS]
#![allow(missing_docs, clippy::unwrap_used, dead_code)]

#[path = "../tests/it/day_worlds.rs"]
mod day_worlds;
#[path = "../tests/it/worlds.rs"]
mod worlds;

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::UInt32Type;
use datafusion::datasource::MemTable;
use datafusion::error::Result;
use datafusion::prelude::{SessionConfig, SessionContext};
use rand::SeedableRng;
use rand::rngs::StdRng;

use day_worlds::Days;
use worlds::batch;

/// Days that are made and added up at a time.
const AT_ONCE: u32 = 14;

fn put(ctx: &SessionContext, name: &str, batches: Vec<RecordBatch>) -> Result<()> {
    ctx.deregister_table(name)?;
    let table = MemTable::try_new(batches[0].schema(), vec![batches])?;
    ctx.register_table(name, Arc::new(table))?;
    Ok(())
}

/// What a log said in the end: its verdict, and the days on which it alarmed, beside its reference and beside the truth.
struct Said {
    verdict: String,
    since: [Option<u32>; 2],
}

/// Of `reference` days and so many more.
async fn log(seed: u64, world: &Days, reference: u32, days: u32) -> Result<Said> {
    let rng = &mut StdRng::seed_from_u64(seed);
    let effects = world.effects(rng, (reference + days) as usize);
    let mut ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    counterweight_udfs::register_all(&mut ctx)?;
    let rows: Vec<_> = (0..reference).map(|day| batch(0, &world.rows(rng, &effects, day))).collect();
    put(&ctx, "log", rows.clone())?;
    let directions = ctx.sql("SELECT alarm_directions(o, p, x, e) AS d FROM log").await?.collect().await?;
    put(&ctx, "directions", directions)?;
    let treated = if world.of_user > 1 { "treatment(o, u)" } else { "o" };
    let states = format!("SELECT i, alarm_state({treated}, p, d, x, e) AS s FROM log CROSS JOIN directions GROUP BY i");
    let mut all = ctx.sql(&states).await?.collect().await?;
    for start in (reference..reference + days).step_by(AT_ONCE as usize) {
        let end = (start + AT_ONCE).min(reference + days);
        put(&ctx, "log", (start..end).map(|day| batch(0, &world.rows(rng, &effects, day))).collect())?;
        all.extend(ctx.sql(&states).await?.collect().await?);
    }
    all.retain(|batch| batch.num_rows() > 0);
    put(&ctx, "states", all)?;
    let alarm = format!(
        "SELECT a['verdict'], a['since'], a['truth_since']
         FROM (SELECT balance_alarm(i, s, 0.1, 0.01, {reference}) AS a FROM states)"
    );
    let result = ctx.sql(&alarm).await?.collect().await?.remove(0);
    let day = |at: usize| {
        let column = result.column(at).as_primitive::<UInt32Type>();
        column.is_valid(0).then(|| column.value(0))
    };
    Ok(Said { verdict: result.column(0).as_string::<i32>().value(0).to_owned(), since: [day(1), day(2)] })
}

fn share(count: usize, of: usize) -> String {
    format!("{:.1} %", 100.0 * count as f64 / of.max(1) as f64)
}

/// A tolerance of 0.1 is worth about 0.113 of a logit for the constant, and 0.236 for a standard normal element.
const CONSTANT: f64 = 0.1133;
const ELEMENT: f64 = 0.2361;

#[tokio::main]
async fn main() -> Result<()> {
    let years: usize = std::env::args().nth(1).and_then(|years| years.parse().ok()).unwrap_or(100);
    let changed = |times: f64| [times * CONSTANT, 0.0];
    let steady = Days::STEADY;
    let users = Days { of_user: 25, rho: 0.05, ..steady };
    println!("| world, of 365 days after 28 | years | alarm | alarm of truth | undecided |\n|---|---|---|---|---|");
    let worlds = [
        ("no change", steady),
        ("exactly the tolerance, all rows", Days { from: 28, change: changed(1.0), ..steady }),
        ("exactly the tolerance, an element", Days { from: 28, change: [0.0, ELEMENT], ..steady }),
        ("no change, users of 25 rows a day, ρ = 0.05", users),
        ("the tolerance, users of 25 rows a day", Days { from: 28, change: changed(1.0), ..users }),
        ("no change, a tenth of the users new a day", Days { turnover: 8, ..users }),
        (
            "the tolerance, a tenth of the users new a day",
            Days { turnover: 8, from: 28, change: changed(1.0), ..users },
        ),
        ("no change, a season of 0.1 by week", Days { season: 0.1, ..steady }),
        ("the tolerance, a season of 0.1 by week", Days { season: 0.1, from: 28, change: changed(1.0), ..steady }),
        ("no change, days wobble by 0.07", Days { wobble: 0.07, ..steady }),
        ("the tolerance, days wobble by 0.07", Days { wobble: 0.07, from: 28, change: changed(1.0), ..steady }),
    ];
    for (world, (name, days)) in (1..).zip(&worlds) {
        let mut counts = [0; 3];
        for year in 0..years {
            let said = log(1_000_000 * world + year as u64, days, 28, 365).await?;
            counts[0] += usize::from(said.since[0].is_some());
            counts[1] += usize::from(said.since[1].is_some());
            counts[2] += usize::from(said.verdict == "undecided");
        }
        let [reference, truth, undecided] = counts.map(|count| share(count, years));
        println!("| {name} | {years} | {reference} | {truth} | {undecided} |");
    }
    println!(
        "\n| change after 60 healthy days | rows a day | reference | logs | found in 60 days | median of days | false before |"
    );
    println!("|---|---|---|---|---|---|---|");
    let finds =
        [(2.0, 2000, 28), (3.0, 2000, 28), (2.0, 2000, 14), (3.0, 2000, 14), (2.0, 20_000, 28), (3.0, 20_000, 28)];
    for (world, (times, rows, reference)) in (50..).zip(finds) {
        let logs = if rows > 2000 { (years / 10).max(1) } else { years };
        let from = reference + 60;
        let mut found = Vec::new();
        let mut before = 0;
        for seed in 0..logs {
            let days = Days { rows, from, change: changed(times), ..steady };
            match log(1_000_000 * world + seed as u64, &days, reference, 120).await?.since[0] {
                Some(day) if day < from => before += 1,
                Some(day) => found.push(day - from + 1),
                None => {}
            }
        }
        found.sort_unstable();
        let median = found.get(found.len() / 2).map_or("-".to_owned(), u32::to_string);
        let (found, before) = (share(found.len(), logs), share(before, logs));
        println!("| {times} × the tolerance | {rows} | {reference} days | {logs} | {found} | {median} | {before} |");
    }
    Ok(())
}
