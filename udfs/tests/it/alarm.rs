//! The alarm: a second implementation of a day's state and of the fold, and what it does over simulated days.

use std::collections::BTreeMap;

use datafusion::arrow::array::RecordBatch;
use datafusion::prelude::SessionContext;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::day_worlds::Days;
use crate::sql::{assert_close, config, failure, numbers, session_with};
use crate::worlds::{Row, batch};

/// Days of a world, from a seed.
fn days(world: &Days, count: u32, seed: u64) -> Vec<Vec<Row>> {
    let rng = &mut StdRng::seed_from_u64(seed);
    let effects = world.effects(rng, count as usize);
    (0..count).map(|day| world.rows(rng, &effects, day)).collect()
}

/// The days of each log in pieces, of which each partition has some.
fn session_of(logs: &[Vec<Vec<Row>>], partitions: usize, batch_size: usize, seed: u64) -> SessionContext {
    let rng = &mut StdRng::seed_from_u64(seed);
    let mut parts: Vec<Vec<RecordBatch>> = vec![Vec::new(); partitions];
    for (log, days) in logs.iter().enumerate() {
        for day in days {
            for piece in day.chunks(day.len().div_ceil(partitions)) {
                parts[rng.random_range(0..partitions)].push(batch(log as u32, piece));
            }
        }
    }
    parts.retain(|part| !part.is_empty());
    parts.iter_mut().for_each(|part| part.reverse());
    session_with(config(partitions, batch_size), parts)
}

/// The alarms of all logs, with directions of the first days.
fn query(treated: &str, reference: u32, figures: &str, arguments: &str) -> String {
    format!(
        "WITH reference AS (SELECT log AS l, alarm_directions(o, p, x, e) AS d FROM log WHERE i < {reference} GROUP BY log),
           states AS (SELECT log, i AS day, alarm_state({treated}, p, d, x, e) AS s
                      FROM log JOIN reference ON log = l GROUP BY log, i)
         SELECT {figures} FROM (SELECT log, balance_alarm(day, s, {arguments}) AS a FROM states GROUP BY log) ORDER BY log"
    )
}

const REFERENCE: usize = 14;
const TOLERANCE: f64 = 0.5;
const FALSE_ALARMS: f64 = 0.2;

/// What the second implementation finds.
struct Found {
    /// Of both detectors, the level and the day on which it reached the threshold.
    levels: [(Option<f64>, Option<f64>); 2],
    /// Of each direction: imbalance, error, change and design effect.
    directions: Vec<[f64; 4]>,
}

/// Everything from the rows, one by one: the groups of a row are those of its clusters, in each way.
fn by_hand(days: &[Vec<Row>], groups: &dyn Fn(&Row) -> Vec<u64>) -> Found {
    let reference: Vec<&Row> = days[..REFERENCE].iter().flatten().collect();
    let n = reference.len() as f64;
    let features = |row: &Row| [row.x, row.e];
    let mean = [0, 1].map(|k| reference.iter().map(|row| features(row)[k]).sum::<f64>() / n);
    let sd = [0, 1].map(|k| {
        let squares = reference.iter().map(|row| (features(row)[k] - mean[k]).powi(2));
        (squares.sum::<f64>() / n).sqrt()
    });
    let z = |row: &Row, k: usize| if k == 0 { 1.0 } else { (features(row)[k - 1] - mean[k - 1]) / sd[k - 1] };
    let d = |row: &Row, k: usize| if k == 0 { 1.0 } else { (z(row, k) / 2.0).clamp(-1.0, 1.0) };
    let outcome = |row: &Row| f64::from(u8::from(row.o));
    let shifted = |row: &Row, k: usize, s: f64| {
        let odds = row.p / (1.0 - row.p) * (s * d(row, k)).exp();
        odds / (1.0 + odds)
    };
    let likelihood = |row: &Row, k: usize, s: f64| {
        let q = shifted(row, k, s);
        if row.o { (q / row.p).ln() } else { ((1.0 - q) / (1.0 - row.p)).ln() }
    };
    let information = |rows: &[&Row], k: usize, s: f64| {
        rows.iter().map(|row| d(row, k).powi(2) * shifted(row, k, s) * (1.0 - shifted(row, k, s))).sum::<f64>()
    };
    let best = |rows: &[&Row], k: usize| {
        let mut s = 0.0;
        for _ in 0..50 {
            let score: f64 = rows.iter().map(|row| d(row, k) * (outcome(row) - shifted(row, k, s))).sum();
            s += score / information(rows, k, s);
        }
        s
    };
    let mut bets = [Vec::new(), Vec::new()];
    let mut directions = Vec::new();
    for k in 0..3 {
        let unit = TOLERANCE / (reference.iter().map(|row| (1.0 - row.p) * d(row, k) * z(row, k)).sum::<f64>() / n);
        let s = best(&reference, k);
        let errors = |row: &Row| d(row, k) * (outcome(row) - row.p);
        let variance = |row: &Row| d(row, k).powi(2) * row.p * (1.0 - row.p);
        let total: f64 = reference.iter().map(|row| variance(row)).sum();
        let ratio = reference.iter().map(|row| errors(row)).sum::<f64>() / total;
        let left = |row: &Row| errors(row) - ratio * variance(row);
        let implied = information(&reference, k, s);
        let ways = groups(reference[0]).len();
        let (mut by_day, mut scores) = (0.0, 0.0);
        let (mut by_group, mut by_group_and_day) = (0.0, 0.0);
        for day in &days[..REFERENCE] {
            let sum: f64 = day.iter().map(left).sum();
            by_day += sum * sum * REFERENCE as f64 / (REFERENCE as f64 - 1.0);
            scores += sum * sum / (implied / total * day.iter().map(variance).sum::<f64>());
        }
        for way in 0..ways {
            let sign = if way == 2 { -1.0 } else { 1.0 };
            let mut whole = BTreeMap::<u64, f64>::new();
            for day in &days[..REFERENCE] {
                let mut of_day = BTreeMap::<u64, f64>::new();
                for row in day {
                    *of_day.entry(groups(row)[way]).or_default() += left(row);
                    *whole.entry(groups(row)[way]).or_default() += left(row);
                }
                by_group_and_day += sign * of_day.values().map(|sum| sum * sum).sum::<f64>();
            }
            let count = whole.len() as f64;
            by_group += sign * whole.values().map(|sum| sum * sum).sum::<f64>() * count / (count - 1.0);
        }
        let variance = [implied, by_day, by_group, by_group_and_day].into_iter().fold(0.0, f64::max);
        let error = variance.sqrt() / implied;
        // The quantile of 10 % of χ² with 13 degrees of freedom.
        let design = (by_group_and_day / implied).max(scores / 7.041_504_580_095_46).max(1.0);
        let recent: Vec<&Row> = days[days.len() - 7..].iter().flatten().collect();
        let scale = TOLERANCE / unit;
        directions.push([s * scale, error * scale, (best(&recent, k) - s) * scale, design]);
        for (detector, around, right) in [(0, s, unit + 2.5 * error), (1, 0.0, unit)] {
            if detector == 1 || error <= unit / 4.0 {
                for sign in [1.0, -1.0] {
                    for step in [0.5, 1.0, 2.0] {
                        bets[detector].push((k, around + sign * right, around + sign * (right + step * unit), design));
                    }
                }
            }
        }
    }
    let levels = bets.map(|bets| {
        let count = bets.len() as f64;
        let cap = (365.0 * count / FALSE_ALARMS).ln() / 2.0;
        let mut won = vec![0.0; bets.len()];
        let mut since = None;
        for (at, day) in days.iter().enumerate().skip(REFERENCE) {
            for ((k, from, to, design), won) in bets.iter().zip(&mut won) {
                let log: f64 = day.iter().map(|row| likelihood(row, *k, *to) - likelihood(row, *k, *from)).sum();
                *won = ((1.0 + *won) * (log / design).min(cap).exp()).min(1e300);
            }
            if since.is_none() && won.iter().sum::<f64>() / count >= 365.0 / FALSE_ALARMS {
                since = Some(at as f64);
            }
        }
        ((count > 0.0).then(|| won.iter().sum::<f64>() / count), since)
    });
    Found { levels, directions }
}

const FIGURES: &str = "a['level'], CAST(a['since'] AS DOUBLE), a['truth_level'], CAST(a['truth_since'] AS DOUBLE),
    a['imbalance'][1], a['std_error'][1], a['change'][1], a['design_effect'][1],
    a['imbalance'][2], a['std_error'][2], a['change'][2], a['design_effect'][2],
    a['imbalance'][3], a['std_error'][3], a['change'][3], a['design_effect'][3],
    CASE a['verdict'] WHEN 'alarm' THEN 1 WHEN 'steady' THEN 2 ELSE 3 END, a['days'], a['reference_days']";

#[tokio::test]
async fn states_and_alarms_are_what_the_rows_give_one_by_one() {
    let steady = Days { rows: 300, ..Days::STEADY };
    let users = Days { rows: 300, of_user: 6, rho: 0.05, ..steady };
    let late = Days { from: 20, change: [0.9, 0.4], ..steady };
    let worlds = [
        ("o", 0, steady),
        ("o", 0, late),
        ("o", 0, Days { wobble: 0.2, season: 0.2, from: 25, change: [-0.8, -1.5], ..steady }),
        ("treatment(o, u)", 1, users),
        ("treatment(o, u)", 1, Days { turnover: 10, from: 16, change: [0.7, 0.0], ..users }),
        ("treatment(o, u, i)", 3, Days { from: 30, change: [1.5, 0.0], ..users }),
        ("treatment(o, u, NULL, 8)", 1, users),
    ];
    let mut alarms = 0;
    for (seed, (treated, ways, world)) in (0..).zip(worlds) {
        let log = days(&world, 36, seed);
        let ctx =
            session_of(std::slice::from_ref(&log), 1 + seed as usize % 4, [8192, 7, 100][seed as usize % 3], seed);
        let groups = match ways {
            0 => BTreeMap::new(),
            _ => {
                let names = ["cluster", "second", "both"].iter().take(ways).map(|name| format!("t['{name}']"));
                let names = names.collect::<Vec<_>>().join(", ");
                let sql = format!("SELECT DISTINCT u, i, {names} FROM (SELECT u, i, {treated} AS t FROM log)");
                let rows = numbers(&ctx, &sql).await.unwrap();
                let whole = |x: &Option<f64>| x.unwrap() as u64;
                let entry = |row: &Vec<Option<f64>>| {
                    ((whole(&row[0]), whole(&row[1])), row[2..].iter().map(whole).collect::<Vec<_>>())
                };
                rows.iter().map(entry).collect::<BTreeMap<_, _>>()
            }
        };
        let of = |row: &Row| match ways {
            0 => Vec::new(),
            _ => groups[&(u64::from(row.user), u64::from(row.item))].clone(),
        };
        let expected = by_hand(&log, &of);
        let sql = query(treated, REFERENCE as u32, FIGURES, &format!("{TOLERANCE}, {FALSE_ALARMS}, {REFERENCE}"));
        let found = &numbers(&ctx, &sql).await.unwrap()[0];
        let mut wanted = vec![];
        for (level, since) in expected.levels {
            wanted.extend([level, since]);
        }
        wanted.extend(expected.directions.iter().flatten().copied().map(Some));
        for (at, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
            assert_close(*found, *wanted, 1e-5, &format!("figure {at} of {treated}, {world:?}"));
        }
        let undecided = expected.directions.iter().any(|[_, error, ..]| *error > TOLERANCE / 4.0);
        let verdict = match expected.levels[0].1 {
            Some(_) => 1.0,
            None if undecided => 3.0,
            None => 2.0,
        };
        alarms += usize::from(verdict == 1.0);
        assert_eq!(found[16..], [Some(verdict), Some(22.0), Some(14.0)], "{treated}, {world:?}");
    }
    assert!(alarms >= 2, "{alarms}");
}

#[tokio::test]
async fn partitions_batches_and_the_order_of_days_do_not_matter() {
    let world = Days { rows: 120, of_user: 4, rho: 0.02, from: 20, change: [0.6, 0.6], ..Days::STEADY };
    let logs = [days(&world, 30, 1), days(&Days { rows: 90, ..Days::STEADY }, 30, 2)];
    let sql = query("treatment(o, u, e > 0)", 14, FIGURES, "0.6, 0.3, 14");
    let mut expected: Option<Vec<Vec<Option<f64>>>> = None;
    for (seed, (partitions, batch_size)) in [(1, 8192), (2, 8192), (3, 5), (7, 64)].into_iter().enumerate() {
        let ctx = session_of(&logs, partitions, batch_size, seed as u64);
        let found = numbers(&ctx, &sql).await.unwrap();
        assert_eq!(found.len(), 2);
        let expected = expected.get_or_insert_with(|| found.clone());
        for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
            assert_close(*found, *expected, 1e-7, &format!("{partitions} partitions of {batch_size}"));
        }
    }
}

#[tokio::test]
async fn steady_days_do_not_alarm_and_large_changes_do() {
    let steady = Days { rows: 500, ..Days::STEADY };
    let users = Days { of_user: 10, rho: 0.02, wobble: 0.05, ..steady };
    // A tolerance of 0.3 is worth 0.34; the change is three times as much.
    let change = [1.02, 0.0];
    for (seed, (treated, world)) in [
        ("o", steady),
        ("treatment(o, u)", users),
        ("o", Days { from: 40, change, ..steady }),
        ("treatment(o, u)", Days { from: 40, change, ..users }),
    ]
    .into_iter()
    .enumerate()
    {
        let logs: Vec<_> = (0..12).map(|log| days(&world, 60, 100 * seed as u64 + log)).collect();
        let ctx = session_of(&logs, 2, 8192, 0);
        let found = numbers(&ctx, &query(treated, 28, "a['since'], a['element']", "0.3")).await.unwrap();
        let days = found.iter().map(|row| row[0]).collect::<Vec<_>>();
        match world.from {
            0 => assert!(days.iter().all(Option::is_none), "{world:?}: {days:?}"),
            from => {
                let is_found = |day: &Option<f64>| {
                    day.is_some_and(|day| (f64::from(from)..=f64::from(from) + 10.0).contains(&day))
                };
                // Few users leave some references undecided.
                let missed = days.iter().filter(|day| day.is_none()).count();
                assert!(missed <= if world.of_user > 1 { 4 } else { 0 }, "{world:?}: {days:?}");
                assert!(days.iter().all(|day| day.is_none() || is_found(day)), "{world:?}: {days:?}");
                assert!(found.iter().all(|row| row[0].is_none() || row[1] == Some(1.0)), "{found:?}");
            }
        }
    }
}

#[tokio::test]
async fn what_cannot_be_an_alarm_is_refused_with_a_cure() {
    let states = "(SELECT day, alarm_state(o, 0.5, d) AS s FROM (VALUES (1, true), (2, false)) AS log (day, o)
        CROSS JOIN (SELECT alarm_directions(true, 0.5) AS d) GROUP BY day)";
    for (sql, says) in [
        (format!("SELECT balance_alarm(1, s) FROM {states}"), "balance_alarm: 1 has two states: give it one"),
        (format!("SELECT balance_alarm(nullif(day, 2), s) FROM {states}"), "argument 1 (day) is NULL beside a state"),
        (format!("SELECT balance_alarm(CAST(day AS DOUBLE), s) FROM {states}"), "a date, a time, a whole number or text"),
        (format!("SELECT balance_alarm(day, day) FROM {states}"), "argument 2 (state) of balance_alarm must be a state"),
        (format!("SELECT balance_alarm(day, s, 0) FROM {states}"), "argument 3 (tolerance) is 0"),
        (format!("SELECT balance_alarm(day, s, 0.1, 1) FROM {states}"), "argument 4 (false_alarms) is 1"),
        (format!("SELECT balance_alarm(day, s, 0.1, 0.01, 7) FROM {states}"), "whole weeks, from 14 days"),
        (format!("SELECT balance_alarm(day, s, 0.1, 0.01, 15) FROM {states}"), "whole weeks, from 14 days"),
        (format!("SELECT balance_alarm(DISTINCT day, s) FROM {states}"), "DISTINCT"),
        (
            format!(
                "SELECT balance_alarm(day, s) FROM (SELECT * FROM {states} UNION ALL SELECT 3 AS day, (SELECT
                   alarm_state(o, 0.5, d, x) FROM (VALUES (true, 1.0)) AS t (o, x)
                   CROSS JOIN (SELECT alarm_directions(true, 0.5, 2) AS d)) AS s)"
            ),
            "have other directions",
        ),
        (
            format!(
                "SELECT balance_alarm(day, s) FROM (SELECT * FROM {states} UNION ALL SELECT 3 AS day, (SELECT
                   alarm_state(treatment(o, 1), 0.5, d) FROM (VALUES (true, 1.0)) AS t (o, x)
                   CROSS JOIN (SELECT alarm_directions(true, 0.5) AS d)) AS s)"
            ),
            "one knows clusters and the other does not",
        ),
        (
            "SELECT alarm_state(true, 0.5, alarm_directions, 1, 2) FROM (SELECT alarm_directions(true, 0.5))
             AS d (alarm_directions)"
                .into(),
            "argument 3 (directions) is of 1 elements, phi of 2",
        ),
        (
            "SELECT alarm_state(true, 0.5, d, 1) FROM (SELECT alarm_directions(true, 0.5, x) AS d
             FROM (VALUES (1), (2)) AS t (x) GROUP BY x)"
                .into(),
            "is of two references within one state",
        ),
        ("SELECT alarm_state(true, 0.5, 3)".into(), "argument 3 (directions) of alarm_state must be what alarm_directions"),
        (
            "SELECT alarm_state(true, 0.5, named_struct('count', 1, 'mean', [1.0], 'sd', [-1.0]))".into(),
            "a NULL, an infinity or a negative deviation",
        ),
        (
            "SELECT balance_alarm(1, named_struct('count', 1, 'mean', [1.0], 'sd', [1.0], 'sums', [1.0], 'groups', NULL,
               'keys', NULL, 'clusters', NULL))"
                .into(),
            "is no state of alarm_state",
        ),
    ] {
        let message = failure(&sql).await;
        assert!(message.contains(says), "{sql}: {message}");
    }
}

#[tokio::test]
async fn without_a_whole_reference_or_a_day_after_it_nothing_is_decided() {
    let log = days(&Days { rows: 200, ..Days::STEADY }, 16, 5);
    let figures = "a['verdict'] = 'undecided', a['days'], a['reference_days'], a['level']";
    for (seen, reference, days) in [(1, 1.0, 0.0), (13, 13.0, 0.0), (14, 14.0, 0.0), (16, 14.0, 2.0)] {
        let ctx = session_of(&[log[..seen].to_vec()], 2, 64, 3);
        let found = &numbers(&ctx, &query("o", 14, figures, "0.1, 0.01, 14")).await.unwrap()[0];
        assert_eq!(found[..3], [Some(1.0), Some(days), Some(reference)], "{seen} days");
    }
}
