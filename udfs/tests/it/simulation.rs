//! Intervals that hold as often as they say, over simulated logs whose truth is known.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, Float64Array, Int32Array, RecordBatch};
use datafusion::prelude::SessionConfig;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::sql::{numbers, session_with};

const LOGS: usize = 2500;
const ROWS: usize = 400;

/// The mean error of the population: of `x + noise`, where both have mean 1/2.
const TRUTH: f64 = 1.0;

/// Logs whose treatments depend on x as the errors do; the imputed errors are biased.
fn logs() -> RecordBatch {
    let rng = &mut StdRng::seed_from_u64(2023);
    let (mut o, mut p, mut e, mut i) = (vec![], vec![], vec![], vec![]);
    for _ in 0..LOGS * ROWS {
        let x: f64 = rng.random();
        let noise: f64 = rng.random();
        let propensity = 0.2 + 0.6 * x;
        o.push(rng.random_bool(propensity));
        p.push(propensity);
        e.push(x + noise);
        i.push(0.3 + 0.8 * x);
    }
    let log = Int32Array::from_iter_values((0..LOGS * ROWS).map(|row| (row / ROWS) as i32));
    RecordBatch::try_from_iter([
        ("log", Arc::new(log) as ArrayRef),
        ("o", Arc::new(BooleanArray::from(o))),
        ("p", Arc::new(Float64Array::from(p))),
        ("e", Arc::new(Float64Array::from(e))),
        ("i", Arc::new(Float64Array::from(i))),
    ])
    .unwrap()
}

/// How many times the standard deviation of a binomial share the share of intervals may be off.
const SIGMAS: f64 = 4.0;

#[tokio::test]
async fn intervals_cover_the_truth_at_their_level() {
    let batch = logs();
    let batches = (0..LOGS).map(|log| batch.slice(log * ROWS, ROWS)).collect();
    let ctx = session_with(SessionConfig::new().with_target_partitions(2), vec![batches]);
    let functions = [
        ("ips", "o, p, e"),
        ("dr", "o, p, e, i"),
        ("snips", "o, p, e"),
        ("snips_dr", "o, p, e, i"),
        ("naive_treated", "o, e"),
    ];
    let calls = functions.iter().flat_map(|(function, arguments)| {
        [0.95, 0.8].map(|level| format!("{function}_interval({arguments}, {level}) AS {function}_{:.0}", 100.0 * level))
    });
    let share = |name: &str| format!("avg(({name}['lower'] <= {TRUTH} AND {TRUTH} <= {name}['upper'])::DOUBLE)");
    let figures = functions.iter().map(|(name, _)| {
        format!(
            "{}, {}, avg({name}_95['estimate']), stddev({name}_95['estimate']), \
             sqrt(avg({name}_95['std_error'] * {name}_95['std_error']))",
            share(&format!("{name}_95")),
            share(&format!("{name}_80"))
        )
    });
    let sql = format!(
        "SELECT {} FROM (SELECT {} FROM log GROUP BY log)",
        figures.collect::<Vec<_>>().join(", "),
        calls.collect::<Vec<_>>().join(", ")
    );
    let results = numbers(&ctx, &sql).await.unwrap().remove(0);
    let logs = LOGS as f64;
    for (figures, (function, _)) in results.chunks(5).zip(functions) {
        let [at_95, at_80, mean, deviation, std_error] = std::array::from_fn(|k| figures[k].unwrap());
        let shown = format!("{function}: {at_95} and {at_80} cover, mean {mean}, {deviation} for {std_error}");
        let relative = std_error / deviation - 1.0;
        assert!(relative.abs() < SIGMAS / (2.0 * logs).sqrt(), "{shown}");
        if function == "naive_treated" {
            assert!(at_95 < 0.5 && mean > TRUTH + 0.05, "{shown}");
            continue;
        }
        for (share, level) in [(at_95, 0.95f64), (at_80, 0.8)] {
            assert!((share - level).abs() < SIGMAS * (level * (1.0 - level) / logs).sqrt(), "{shown}");
        }
        assert!((mean - TRUTH).abs() < SIGMAS * deviation / logs.sqrt() + 1e-3, "{shown}");
    }
}
