//! Nanoseconds a row of each family of functions, on one thread and rows in memory: `cargo bench -p counterweight-udfs`.
//!
//! `avg` and `sum` of the same columns are the floor: what the engine itself takes to hand the rows to an aggregate.
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, FixedSizeListArray, Float32Array, Float64Array, Int32Array, RecordBatch,
};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::runtime::Runtime;

const ROWS: usize = 1_000_000;
const BATCH: usize = 8192;
const SEGMENTS: i32 = 1_000;
const USERS: i32 = 100_000;
const DIM: i32 = 16;

const QUERIES: [(&str, &str); 18] = [
    ("floor: avg of 3 columns", "avg(p), avg(e), avg(i)"),
    ("bmse, φ = 1", "bmse(o, p)"),
    ("bmse, φ of 16", "bmse(o, p, phi)"),
    ("balance_test, φ of 16", "balance_test(o, p, phi)"),
    ("balance_state, φ of 16", "balance_state(o, p, phi)"),
    ("balance_test, φ of 16, by user", "balance_test(treatment(o, user), p, phi)"),
    ("imbalance, φ of 16", "imbalance(o, p, phi)"),
    ("imbalance, φ of 16, by user", "imbalance(treatment(o, user), p, phi)"),
    ("imbalance_bias, φ of 16, by user", "imbalance_bias(treatment(o, user), p, e, phi)"),
    ("smd, 16 covariates", "smd(o, p, phi)"),
    ("ips", "ips(o, p, e)"),
    ("ips_interval", "ips_interval(o, p, e)"),
    ("dr_v2, φ of 16", "dr_v2(o, p, e, i, 0.1, phi)"),
    ("lambda_opt, φ of 16", "lambda_opt(o, p, e, phi)"),
    ("nll", "nll(o, p)"),
    ("ece", "ece(o, p)"),
    ("auc", "auc(o, p)"),
    ("propensity_profile", "propensity_profile(o, p)"),
];

fn log() -> RecordBatch {
    let rng = &mut StdRng::seed_from_u64(1);
    let propensity: Vec<f64> = (0..ROWS).map(|_| rng.random_range(0.02..0.98)).collect();
    let treated: BooleanArray = propensity.iter().map(|p| Some(rng.random_bool(*p))).collect();
    let mut numbers =
        || -> ArrayRef { Arc::new(Float64Array::from_iter_values((0..ROWS).map(|_| rng.random::<f64>()))) };
    let (error, imputed) = (numbers(), numbers());
    let elements = Float32Array::from_iter_values((0..ROWS * DIM as usize).map(|_| rng.random::<f32>() - 0.3));
    let element = Arc::new(Field::new_list_field(DataType::Float32, false));
    let phi = FixedSizeListArray::new(element, DIM, Arc::new(elements), None);
    let segment = Int32Array::from_iter_values((0..ROWS).map(|_| rng.random_range(0..SEGMENTS)));
    let user = Int32Array::from_iter_values((0..ROWS).map(|_| rng.random_range(0..USERS)));
    let columns: [(&str, ArrayRef); 7] = [
        ("segment", Arc::new(segment)),
        ("user", Arc::new(user)),
        ("o", Arc::new(treated)),
        ("p", Arc::new(Float64Array::from(propensity))),
        ("e", error),
        ("i", imputed),
        ("phi", Arc::new(phi)),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn session() -> SessionContext {
    let log = log();
    let batches = (0..ROWS).step_by(BATCH).map(|at| log.slice(at, BATCH.min(ROWS - at))).collect();
    let mut session = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    counterweight_udfs::register_all(&mut session).unwrap();
    let table = MemTable::try_new(log.schema(), vec![batches]).unwrap();
    session.register_table("log", Arc::new(table)).unwrap();
    session
}

fn kernels(criterion: &mut Criterion) {
    let (session, runtime) = (session(), Runtime::new().unwrap());
    for (grouping, clause) in [("whole table", ""), ("1,000 segments", "GROUP BY segment")] {
        let mut group = criterion.benchmark_group(grouping);
        group.throughput(Throughput::Elements(ROWS as u64)).sample_size(10);
        for (name, aggregates) in QUERIES {
            let sql = format!("SELECT {aggregates} FROM log {clause}");
            group.bench_with_input(BenchmarkId::from_parameter(name), &sql, |bencher, sql| {
                bencher.iter(|| runtime.block_on(async { session.sql(sql).await.unwrap().collect().await.unwrap() }));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, kernels);
criterion_main!(benches);
