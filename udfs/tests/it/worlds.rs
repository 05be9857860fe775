//! Simulated worlds in which it is known what a verdict should say.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, Float64Array, RecordBatch, UInt32Array};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A row: its user and item, whether it was treated, its propensity as it is said to be, its error and φ.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Row {
    pub(crate) user: u32,
    pub(crate) item: u32,
    pub(crate) o: bool,
    pub(crate) p: f64,
    pub(crate) e: f64,
    pub(crate) x: f64,
}

/// Rows of one kind: how many, their propensity, and φ.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part(pub(crate) usize, pub(crate) f64, pub(crate) f64);

/// Independent rows, treated with their propensities.
pub(crate) fn independent(rng: &mut StdRng, parts: &[Part]) -> Vec<Row> {
    let rows = parts.iter().flat_map(|part| std::iter::repeat_n(*part, part.0));
    let row = |(user, Part(_, p, x)): (usize, Part)| Row {
        user: user as u32,
        o: rng.random_bool(p),
        p,
        e: 1.0,
        x,
        ..Row::default()
    };
    rows.enumerate().map(row).collect()
}

/// Users of so many rows each, whose treatments are correlated by ρ: the propensity of each user's is its own, uniform around
/// the one that is said. The errors of a user's rows are correlated, too, by 0.2; φ is a user's.
pub(crate) fn of_users(rng: &mut StdRng, rows: &[usize], rho: f64, p: f64) -> Vec<Row> {
    let width = (3.0 * rho * p * (1.0 - p)).sqrt();
    let mut all = Vec::with_capacity(rows.iter().sum());
    for (user, rows) in rows.iter().enumerate() {
        let own = p + width * (2.0 * rng.random::<f64>() - 1.0);
        let (x, level) = (normal(rng), normal(rng));
        for item in 0..*rows {
            let o = rng.random_bool(own);
            let e = 1.0 + 0.2 * (0.2f64.sqrt() * level + 0.8f64.sqrt() * normal(rng));
            all.push(Row { user: user as u32, item: item as u32, o, p, e, x });
        }
    }
    all
}

/// Users × items, each of which moves the treatment of all of its rows: correlated by ρ along both.
pub(crate) fn of_users_and_items(rng: &mut StdRng, users: usize, items: usize, rho: f64, p: f64) -> Vec<Row> {
    let draws = |rng: &mut StdRng, count: usize| (0..count).map(|_| rng.random_bool(p)).collect::<Vec<_>>();
    let (of_users, of_items) = (draws(rng, users), draws(rng, items));
    let mut all = Vec::with_capacity(users * items);
    for (user, own) in of_users.iter().enumerate() {
        for (item, items) in of_items.iter().enumerate() {
            let u: f64 = rng.random();
            let o = match () {
                () if u < rho.sqrt() => *own,
                () if u < 2.0 * rho.sqrt() => *items,
                () => rng.random_bool(p),
            };
            all.push(Row { user: user as u32, item: item as u32, o, p, e: 1.0, x: 0.0 });
        }
    }
    all
}

/// Independent rows whose true logit is the stated one and `tilt` times φ, a standard normal number; the error is
/// `1 + slope·φ` and noise. The second number is the bias of IPS over the mean error, for small tilts.
pub(crate) fn tilted(rng: &mut StdRng, rows: usize, p: f64, tilt: f64, slope: f64) -> Vec<Row> {
    let logit = (p / (1.0 - p)).ln();
    let row = |user: usize| {
        let x = normal(rng);
        let truth = 1.0 / (1.0 + (-(logit + tilt * x)).exp());
        let (o, noise) = (rng.random_bool(truth), normal(rng));
        Row { user: user as u32, o, p, e: 1.0 + slope * x + 0.1 * noise, x, ..Row::default() }
    };
    (0..rows).map(row).collect()
}

/// What [`tilted`] tends to with ever more rows: the imbalance of the constant and of φ, and the bias of IPS in units of the
/// weighted mean error.
pub(crate) fn truth_of_tilted(p: f64, tilt: f64, slope: f64) -> [f64; 3] {
    let logit = (p / (1.0 - p)).ln();
    let (mut constant, mut element, mut bias, mut size, mut weight, mut density) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    for step in -800..=800 {
        let x = f64::from(step) / 100.0;
        let d = (-x * x / 2.0).exp();
        let ratio = 1.0 / (1.0 + (-(logit + tilt * x)).exp()) / p;
        density += d;
        constant += d * (ratio - 1.0);
        element += d * (ratio - 1.0) * x;
        bias += d * (ratio - 1.0) * (1.0 + slope * x);
        size += d * ratio * (1.0 + slope * x).abs();
        weight += d * ratio;
    }
    [constant / density, element / density, bias / density / (size / weight)]
}

pub(crate) fn normal(rng: &mut StdRng) -> f64 {
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// A log of each seed from 0, as one batch each, with the number of the log in `log`.
pub(crate) fn logs(world: u64, logs: u64, make: impl Fn(&mut StdRng) -> Vec<Row>) -> Vec<RecordBatch> {
    (0..logs).map(|log| batch(log as u32, &make(&mut StdRng::seed_from_u64(1_000_000 * world + log)))).collect()
}

/// Rows of a log.
pub(crate) fn batch(log: u32, rows: &[Row]) -> RecordBatch {
    let floats = |f: fn(&Row) -> f64| -> ArrayRef { Arc::new(Float64Array::from_iter_values(rows.iter().map(f))) };
    let ids = |f: fn(&Row) -> u32| -> ArrayRef { Arc::new(UInt32Array::from_iter_values(rows.iter().map(f))) };
    let treated: BooleanArray = rows.iter().map(|row| Some(row.o)).collect();
    let columns: [(&str, ArrayRef); 7] = [
        ("log", Arc::new(UInt32Array::from_iter_values(rows.iter().map(|_| log)))),
        ("u", ids(|row| row.user)),
        ("i", ids(|row| row.item)),
        ("o", Arc::new(treated)),
        ("p", floats(|row| row.p)),
        ("e", floats(|row| row.e)),
        ("x", floats(|row| row.x)),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}
