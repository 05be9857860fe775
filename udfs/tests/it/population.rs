//! Random populations, and what the formulas give for them when written down plainly.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, FixedSizeListBuilder, Float64Array, Float64Builder, Int32Array, ListBuilder, RecordBatch,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

pub(crate) const K: usize = 3;

/// One row; φ holds small whole numbers, so that every element type represents it exactly.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    pub(crate) segment: i32,
    pub(crate) keep: Option<bool>,
    pub(crate) treated: Option<bool>,
    pub(crate) propensity: Option<f64>,
    pub(crate) error: Option<f64>,
    pub(crate) imputed_error: Option<f64>,
    pub(crate) phi: [Option<f64>; K],
}

/// Rows of a few segments; `nulls` sprinkles NULLs over every column.
pub(crate) fn population(rows: usize, segments: i32, nulls: bool, seed: u64) -> Vec<Row> {
    let rng = &mut StdRng::seed_from_u64(seed);
    (0..rows)
        .map(|_| {
            let propensity: f64 = rng.random_range(0.05..0.95);
            let treated = rng.random_bool(propensity);
            let error = (treated || rng.random_bool(0.2)).then(|| rng.random_range(0.0..2.0));
            let mut row = Row {
                segment: rng.random_range(0..segments),
                keep: Some(rng.random_bool(0.7)),
                treated: Some(treated),
                propensity: Some(propensity),
                error,
                imputed_error: Some(rng.random_range(0.0..2.0)),
                phi: std::array::from_fn(|_| Some(f64::from(rng.random_range(-8..=8)))),
            };
            let mut lose = |chance: f64| nulls && rng.random_bool(chance);
            if lose(0.05) {
                row.keep = None;
            }
            if lose(0.05) {
                row.treated = None;
            }
            if lose(0.05) {
                row.propensity = None;
            }
            if lose(0.05) {
                row.error = None;
            }
            if lose(0.05) {
                row.imputed_error = None;
            }
            for phi in &mut row.phi {
                if lose(0.03) {
                    *phi = None;
                }
            }
            if lose(0.03) {
                row.phi = [None; K];
            }
            row
        })
        .collect()
}

/// A batch with φ in every shape: columns `f0`, `f1`, `f2` and a list column each of several
/// types.
pub(crate) fn batch(rows: &[Row]) -> RecordBatch {
    let floats = |f: fn(&Row) -> Option<f64>| -> ArrayRef { Arc::new(rows.iter().map(f).collect::<Float64Array>()) };
    let treated: BooleanArray = rows.iter().map(|row| row.treated).collect();
    let treated: ArrayRef = Arc::new(treated);
    let cast = |array: &ArrayRef, data_type: DataType| cast(array, &data_type).unwrap();
    let mut columns: Vec<(String, ArrayRef)> = vec![
        ("segment".into(), Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.segment)))),
        ("seq".into(), Arc::new(Int32Array::from_iter_values(0..rows.len() as i32))),
        ("keep".into(), Arc::new(rows.iter().map(|row| row.keep).collect::<BooleanArray>())),
        ("o".into(), Arc::clone(&treated)),
        ("o_int".into(), cast(&treated, DataType::Int32)),
        ("o_uint".into(), cast(&treated, DataType::UInt8)),
        ("o_float".into(), cast(&treated, DataType::Float32)),
        ("p".into(), floats(|row| row.propensity)),
        ("e".into(), floats(|row| row.error)),
        ("i".into(), floats(|row| row.imputed_error)),
        ("f0".into(), floats(|row| row.phi[0])),
        ("f1".into(), floats(|row| row.phi[1])),
        ("f2".into(), floats(|row| row.phi[2])),
    ];
    for (name, element) in
        [("16", DataType::Float16), ("32", DataType::Float32), ("64", DataType::Float64), ("int", DataType::Int32)]
    {
        let element = Arc::new(Field::new_list_field(element, true));
        let small = cast(&lists(rows), DataType::List(Arc::clone(&element)));
        let large = cast(&small, DataType::LargeList(Arc::clone(&element)));
        let fixed = DataType::FixedSizeList(element, K as i32);
        columns.push((format!("list{name}"), small));
        columns.push((format!("large{name}"), large));
        columns.push((format!("fixed{name}"), cast(&fixed_lists(rows), fixed)));
    }
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

/// A row without any φ is a NULL list, empty in its buffers.
fn lists(rows: &[Row]) -> ArrayRef {
    let mut lists = ListBuilder::new(Float64Builder::new());
    for row in rows {
        if row.phi != [None; K] {
            row.phi.iter().for_each(|&phi| lists.values().append_option(phi));
        }
        lists.append(row.phi != [None; K]);
    }
    Arc::new(lists.finish())
}

fn fixed_lists(rows: &[Row]) -> ArrayRef {
    let mut lists = FixedSizeListBuilder::new(Float64Builder::new(), K as i32);
    for row in rows {
        row.phi.iter().for_each(|&phi| lists.values().append_option(phi));
        lists.append(row.phi != [None; K]);
    }
    Arc::new(lists.finish())
}

/// Cuts rows into partitions and batches; the last of several partitions stays empty.
pub(crate) fn partitions(rows: &[Row], partitions: usize, batch_size: usize) -> Vec<Vec<RecordBatch>> {
    let whole = batch(rows);
    let filled = (partitions - 1).max(1);
    let mut parts = vec![vec![]; partitions];
    for (at, start) in (0..rows.len()).step_by(batch_size).enumerate() {
        let length = batch_size.min(rows.len() - start);
        parts[at % filled].push(whole.slice(start, length));
    }
    parts
}

/// φ of a call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Phi {
    Unused,
    One,
    Vector,
}

/// What `function` gives for `rows`, by the formulas of the paper; `literal` is its λ, largest weight, shrinkage or count
/// of bins.
pub(crate) fn expected(function: &str, phi: Phi, literal: f64, rows: &[&Row]) -> Option<f64> {
    let uses = |names: &[&str]| names.contains(&function);
    let without_error = ["bmse", "bmse_unbiased", "bmse_noise_floor", "ess", "nll", "ppl", "sv", "mis", "auc", "ece"];
    let with_error = !uses(&without_error) && function != "ece_mass";
    let with_treated = !uses(&["sv", "mis"]);
    let with_imputed = uses(&["eib", "dr", "dr_v2", "snips_dr", "switch_dr", "dr_os", "dr_variance"]);
    let with_propensity = !uses(&["naive", "naive_treated", "eib"]);
    // o, p, e, ê, φ of the rows that count
    let rows: Vec<(f64, f64, f64, f64, Vec<f64>)> = rows
        .iter()
        .filter_map(|row| {
            let treated = if with_treated { row.treated? } else { true };
            let o = if treated { 1.0 } else { 0.0 };
            let p = if with_propensity { row.propensity? } else { 0.5 };
            let e = if with_error && treated { row.error? } else { 0.0 };
            let i = if with_imputed { row.imputed_error? } else { 0.0 };
            let phi = match phi {
                Phi::Unused => vec![],
                Phi::One => vec![1.0],
                Phi::Vector => row.phi.iter().copied().collect::<Option<_>>()?,
            };
            Some((o, p, e, i, phi))
        })
        .collect();
    let n = rows.len() as f64;
    if rows.is_empty() {
        return None;
    }
    let sum =
        |f: &dyn Fn(f64, f64, f64, f64) -> f64| -> f64 { rows.iter().map(|(o, p, e, i, _)| f(*o, *p, *e, *i)).sum() };
    let width = rows[0].4.len();
    let mut s = vec![0.0; width];
    let mut q = 0.0;
    for (o, p, _, _, phi) in &rows {
        let w = o / p - (1.0 - o) / (1.0 - p);
        for (s, phi) in s.iter_mut().zip(phi) {
            *s += w * phi;
            q += w * w * phi * phi;
        }
    }
    let norm: f64 = s.iter().map(|s| s * s).sum();
    let raw = norm / (n * n);
    let ips = sum(&|o, p, e, _| o * e / p) / n;
    let dr = sum(&|o, p, e, i| i + o * (e - i) / p) / n;
    let treated = sum(&|o, _, _, _| o);
    let nll = sum(&|o, p, _, _| -o * p.ln() - (1.0 - o) * (1.0 - p).ln()) / n;
    match function {
        "bmse" => Some(raw),
        "bmse_unbiased" => (n > 1.0).then(|| (norm - q) / (n * (n - 1.0))),
        "bmse_noise_floor" => (n > 1.0).then(|| (q / n - raw) / n),
        "naive" => Some(sum(&|o, _, e, _| o * e) / n),
        "naive_treated" => (treated > 0.0).then(|| sum(&|o, _, e, _| o * e) / treated),
        "eib" => Some(sum(&|o, _, e, i| o * e + (1.0 - o) * i) / n),
        "ips" => Some(ips),
        "snips" => (treated > 0.0).then(|| sum(&|o, p, e, _| o * e / p) / sum(&|o, p, _, _| o / p)),
        "dr" => Some(dr),
        "ips_v2" => Some(ips + literal * raw),
        "dr_v2" => Some(dr + literal * raw),
        "snips_dr" => (treated > 0.0)
            .then(|| sum(&|_, _, _, i| i) / n + sum(&|o, p, e, i| o * (e - i) / p) / sum(&|o, p, _, _| o / p)),
        "ips_clipped" => Some(sum(&|o, p, e, _| o * e / p.max(1.0 / literal)) / n),
        "switch_dr" => Some(sum(&|o, p, e, i| if o / p <= literal { i + o * (e - i) / p } else { i }) / n),
        "dr_os" => Some(sum(&|o, p, e, i| i + o * (e - i) * (literal / p) / (1.0 / (p * p) + literal)) / n),
        "ips_variance" => Some(sum(&|o, p, e, _| o * (1.0 - p) * (e / p).powi(2)) / (n * n)),
        "dr_variance" => Some(sum(&|o, p, e, i| o * (1.0 - p) * ((e - i) / p).powi(2)) / (n * n)),
        "ess" => (treated > 0.0).then(|| sum(&|o, p, _, _| o / p).powi(2) / sum(&|o, p, _, _| o / (p * p))),
        "nll" => Some(nll),
        "ppl" => Some(2f64.powf(nll / 2f64.ln())),
        "mis" => Some(sum(&|_, p, _, _| p.powi(-2)) / n),
        "sv" => (n > 1.0).then(|| {
            let mean = sum(&|_, p, _, _| p) / n;
            sum(&|_, p, _, _| (p - mean).powi(2)) / (n - 1.0)
        }),
        "auc" => (treated > 0.0 && treated < n).then(|| {
            let wins = |p: f64| sum(&|o, q, _, _| (1.0 - o) * (f64::from(p > q) + f64::from(p == q) / 2.0));
            sum(&|o, p, _, _| o * wins(p)) / treated / (n - treated)
        }),
        "ece" | "ece_mass" => {
            let bins = literal as usize;
            let mut gaps = vec![0.0; bins];
            for (o, p, ..) in &rows {
                gaps[bin(*p, bins, function == "ece_mass", &|holds| sum(&|_, q, _, _| f64::from(holds(q))))] += p - o;
            }
            Some(gaps.iter().map(|gap| gap.abs()).sum::<f64>() / n)
        }
        other => panic!("{other} has no formula here"),
    }
}

/// For how many rows something holds of the propensity.
pub(crate) type Count<'a> = dyn Fn(&dyn Fn(f64) -> bool) -> f64 + 'a;

/// The bin of a propensity, by its bounds or by the ranks of the rows; `count` says for how many rows something holds.
pub(crate) fn bin(p: f64, bins: usize, mass: bool, count: &Count<'_>) -> usize {
    if mass {
        let middle = count(&|q| q < p) + count(&|q| q == p) / 2.0;
        (middle * bins as f64 / count(&|_| true)) as usize
    } else {
        (0..bins).rfind(|&k| k as f64 / bins as f64 <= p && (p < 1.0 || k + 1 == bins)).unwrap()
    }
}

/// A call of an aggregate, and the meaning of its φ and its literal argument.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) sql: String,
    pub(crate) function: &'static str,
    pub(crate) phi: Phi,
    pub(crate) literal: f64,
}

impl Call {
    pub(crate) fn expected(&self, rows: &[&Row]) -> Option<f64> {
        expected(self.function, self.phi, self.literal, rows)
    }
}

/// Every aggregate, with φ in every shape and `treated` in every type.
pub(crate) fn calls() -> Vec<Call> {
    let mut calls = vec![];
    let mut call = |function, phi, literal, sql: String| {
        calls.push(Call { sql, function, phi, literal });
    };
    for (function, arguments) in [
        ("naive", "o, e"),
        ("naive_treated", "o_int, e"),
        ("eib", "o_uint, e, i"),
        ("ips", "o_float, p, e"),
        ("snips", "o_int, p, e"),
        ("dr", "o, p, e, i"),
        ("snips_dr", "o_uint, p, e, i"),
        ("ips_variance", "o, p, e"),
        ("dr_variance", "o_float, p, e, i"),
        ("ess", "o, p"),
        ("nll", "o_int, p"),
        ("ppl", "o, p"),
        ("sv", "p"),
        ("mis", "p"),
        ("auc", "o_float, p"),
    ] {
        call(function, Phi::Unused, 0.0, format!("{function}({arguments})"));
    }
    for literal in [1.5, 6.0] {
        call("ips_clipped", Phi::Unused, literal, format!("ips_clipped(o, p, e, {literal})"));
        call("switch_dr", Phi::Unused, literal, format!("switch_dr(o_int, p, e, i, {literal})"));
        call("dr_os", Phi::Unused, literal, format!("dr_os(o, p, e, i, {literal})"));
    }
    call("ece", Phi::Unused, 10.0, "ece(o, p)".into());
    call("ece", Phi::Unused, 7.0, "ece(o_uint, p, 7)".into());
    call("ece_mass", Phi::Unused, 10.0, "ece(o, p, 10, 'mass')".into());
    call("ece_mass", Phi::Unused, 3.0, "ece(o, p, 3, 'MASS')".into());
    let mut shapes = vec!["f0, f1, f2".to_string()];
    for kind in ["list", "large", "fixed"] {
        shapes.extend(["16", "32", "64", "int"].map(|element| format!("{kind}{element}")));
    }
    for shape in &shapes {
        call("bmse", Phi::Vector, 0.0, format!("bmse(o, p, {shape})"));
    }
    for function in ["bmse_unbiased", "bmse_noise_floor"] {
        for shape in ["f0, f1, f2", "list32", "fixed64"] {
            call(function, Phi::Vector, 0.0, format!("{function}(o_int, p, {shape})"));
        }
    }
    for function in ["bmse", "bmse_unbiased", "bmse_noise_floor"] {
        call(function, Phi::One, 0.0, format!("{function}(o, p)"));
    }
    for literal in [0.0, 0.3, 2.0] {
        call("ips_v2", Phi::One, literal, format!("ips_v2(o, p, e, {literal})"));
        call("ips_v2", Phi::Vector, literal, format!("ips_v2(o_float, p, e, {literal}, f0, f1, f2)"));
        call("dr_v2", Phi::Vector, literal, format!("dr_v2(o, p, e, i, {literal}, large64)"));
        call("dr_v2", Phi::Vector, literal, format!("dr_v2(o, p, e, i, {literal}, fixed16)"));
    }
    calls
}
