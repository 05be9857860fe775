//! `counterweight audit`, `check` and `functions`, by the binary, against figures from plain loops.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use counterweight::audit::CHECKS;
use counterweight::session::{SessionOptions, session};
use counterweight::storage::Storage;
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, FixedSizeListArray, Float64Array, RecordBatch, StringArray, UInt32Array,
};
use datafusion::arrow::compute::take_record_batch;
use datafusion::arrow::datatypes::Float64Type;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::Random;

/// One exposure.
#[derive(Debug, Clone)]
struct Exposure {
    treated: bool,
    /// The true propensity.
    truth: f64,
    propensity: f64,
    prediction: f64,
    outcome: Option<f64>,
    imputed: f64,
    conversion: f64,
    x: [f64; 2],
    country: String,
}

impl Exposure {
    fn o(&self) -> f64 {
        f64::from(u8::from(self.treated))
    }

    fn error(&self) -> f64 {
        (self.prediction - self.outcome.unwrap()).powi(2)
    }

    fn weight(&self) -> f64 {
        if self.treated { 1.0 / self.propensity } else { -1.0 / (1.0 - self.propensity) }
    }
}

const BAD: &str = "it's \"bad\" land";

/// A log of 4,000 exposures in 20 countries; in one of them the propensities may be a sixth of what they should be.
fn log(seed: u64, planted: bool) -> Vec<Exposure> {
    let mut random = Random(seed);
    let mut exposure = |index: usize| {
        let x = [random.next() - 0.5, random.next() * 2.0];
        let truth = 0.1 + 0.5 * random.next();
        let country = if index % 20 == 7 { BAD.to_owned() } else { format!("c{}", index % 20) };
        let propensity = if planted && country == BAD { truth / 6.0 } else { truth };
        let treated = random.next() < truth;
        let conversion = 0.2 + 0.6 * truth;
        let outcome = f64::from(u8::from(random.next() < conversion));
        Exposure {
            treated,
            truth,
            propensity,
            prediction: 0.3 + 0.2 * random.next(),
            outcome: treated.then_some(outcome),
            imputed: 0.2 + 0.1 * random.next(),
            conversion,
            x,
            country,
        }
    };
    (0..4000).map(&mut exposure).collect()
}

fn batch(log: &[Exposure]) -> RecordBatch {
    let floats = |value: fn(&Exposure) -> f64| -> ArrayRef {
        Arc::new(log.iter().map(|row| Some(value(row))).collect::<Float64Array>())
    };
    let vectors = log.iter().map(|row| Some(row.x.map(Some).to_vec()));
    RecordBatch::try_from_iter([
        ("clicked", Arc::new(log.iter().map(|row| Some(row.treated)).collect::<BooleanArray>()) as ArrayRef),
        ("p hat", floats(|row| row.propensity)),
        ("True P", floats(|row| row.truth)),
        ("prediction", floats(|row| row.prediction)),
        ("Converted", Arc::new(log.iter().map(|row| row.outcome).collect::<Float64Array>())),
        ("imputed", floats(|row| row.imputed)),
        ("conversion", floats(|row| row.conversion)),
        ("X 0", floats(|row| row.x[0])),
        ("x1", floats(|row| row.x[1])),
        ("x", Arc::new(FixedSizeListArray::from_iter_primitive::<Float64Type, _, _>(vectors, 2))),
        ("Country", Arc::new(StringArray::from_iter_values(log.iter().map(|row| &row.country)))),
    ])
    .unwrap()
}

fn write_parquet(path: &Path, batch: &RecordBatch) {
    let mut writer = ArrowWriter::try_new(std::fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

/// A folder with a log and a job.
struct Bench {
    folder: TempDir,
}

const COLUMNS: &str = r#"
    [columns]
    treated = "clicked"
    propensity = "p hat"
    prediction = "prediction"
    outcome = "Converted"
    imputed_error = "imputed"
    true_conversion = "conversion"
    true_propensity = "True P"
"#;

impl Bench {
    fn new(log: &[Exposure], job: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_parquet(&folder.path().join("log.parquet"), &batch(log));
        let bench = Self { folder };
        bench.write_job(&format!("name = \"shop\"\n[tables.log]\nurl = \"${{dir}}/log.parquet\"\n{job}"));
        bench
    }

    fn write_job(&self, job: &str) {
        std::fs::write(self.folder.path().join("job.toml"), job).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let dir = format!("vars.dir={}", self.folder.path().display());
        Command::new(env!("CARGO_BIN_EXE_counterweight"))
            .args(arguments)
            .arg(self.folder.path().join("job.toml"))
            .args(["--set", &dir])
            .output()
            .unwrap()
    }

    /// The figures of `counterweight audit`.
    fn audit(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[&["audit", "--format", "json"], arguments].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The exit code and message of a command that fails.
    fn failure(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{}", stdout(&output));
        (output.status.code().unwrap(), stdout(&output) + &stderr(&output))
    }

    fn text(&self, path: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn rows<'a>(figures: &'a Value, audit: &str, check: &str) -> &'a Vec<Value> {
    figures["audits"][audit]["checks"][check]["rows"].as_array().unwrap_or_else(|| panic!("{figures:#}"))
}

fn verdict<'a>(figures: &'a Value, audit: &str, check: &str) -> (&'a str, bool) {
    let verdict = &figures["audits"][audit]["checks"][check]["verdicts"][0];
    (verdict["text"].as_str().unwrap(), verdict["alarm"].as_bool().unwrap())
}

#[track_caller]
fn assert_close(found: &Value, expected: f64) {
    let found = found.as_f64().unwrap_or_else(|| panic!("{found} is no number; {expected} was expected"));
    assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1e-3), "{found} is not {expected}");
}

/// BMSE, its unbiased form and its noise floor, by the letter.
fn balance(log: &[&Exposure], phi: fn(&Exposure) -> Vec<f64>) -> [f64; 3] {
    let n = log.len() as f64;
    let mut sum = vec![0.0; phi(log[0]).len()];
    let mut squares = 0.0;
    for row in log {
        for (total, value) in sum.iter_mut().zip(phi(row)) {
            *total += row.weight() * value;
            squares += (row.weight() * value).powi(2);
        }
    }
    let length: f64 = sum.iter().map(|total| total * total).sum();
    let raw = length / (n * n);
    [raw, (length - squares) / (n * (n - 1.0)), (squares / n - raw) / n]
}

/// The variance of the mean of such values.
fn variance_of_mean(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let middle = mean(values.iter().copied());
    values.iter().map(|value| (value - middle).powi(2)).sum::<f64>() / (n - 1.0) / n
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len() as f64;
    values.sum::<f64>() / n
}

#[test]
fn balance_equals_plain_loops_whatever_the_shape_of_phi() {
    let log = log(1, true);
    let job = format!(
        "{COLUMNS}
        [audit.none]
        query = 'SELECT * FROM log'
        segments = ['Country']
        worst = 100
        [audit.columns]
        query = 'SELECT * FROM log'
        segments = ['Country']
        worst = 100
        columns.phi = ['X 0', 'x1']
        [audit.vector]
        query = 'SELECT * FROM log'
        segments = ['Country']
        worst = 100
        columns.phi = ['x']"
    );
    let figures = Bench::new(&log, &job).audit(&[]);
    let phis: [(&str, fn(&Exposure) -> Vec<f64>); 3] =
        [("none", |_| vec![1.0]), ("columns", |row| row.x.to_vec()), ("vector", |row| row.x.to_vec())];
    for (audit, phi) in phis {
        let all: Vec<_> = log.iter().collect();
        let [row] = rows(&figures, audit, "balance").as_slice() else { panic!("one row") };
        assert_eq!(row["n"], 4000);
        assert_eq!(row["rows_skipped"], 0);
        for (column, expected) in ["bmse", "bmse_unbiased", "noise_floor"].into_iter().zip(balance(&all, phi)) {
            assert_close(&row[column], expected);
        }
        assert_close(&row["treated_rate"], mean(log.iter().map(Exposure::o)));
        assert_close(&row["mean_propensity"], mean(log.iter().map(|row| row.propensity)));

        let segments = rows(&figures, audit, "segments");
        assert_eq!(segments.len(), 20);
        for segment in segments {
            let members: Vec<_> = log.iter().filter(|row| segment["segment"] == row.country).collect();
            assert_eq!(segment["n"], members.len());
            assert_eq!(segment["segment_column"], "Country");
            assert_eq!(segment["segments"], 20);
            for (column, expected) in ["bmse", "bmse_unbiased", "noise_floor"].into_iter().zip(balance(&members, phi)) {
                assert_close(&segment[column], expected);
            }
        }
        assert_eq!(segments[0]["segment"], BAD, "the planted segment is the worst");
        assert_eq!(segments[0]["out_of_balance"], 1);
        let (text, alarm) = verdict(&figures, audit, "segments");
        assert!(alarm && text.starts_with("1 of 20 segments are unbalanced"), "{text}");
    }
}

#[test]
fn true_propensities_raise_no_alarm() {
    let job = format!(
        "{COLUMNS}
        [audit.main]
        query = 'SELECT *, row_number() OVER (ORDER BY x1, \"X 0\") % 28 AS day, 0.9 * \"p hat\" AS old FROM log'
        segments = ['Country']
        columns.day = 'day'
        columns.propensity_before = 'old'
        columns.phi = ['X 0', 'x1']"
    );
    for seed in 0..8 {
        let figures = Bench::new(&log(seed, false), &job).audit(&[]);
        assert_eq!(figures["audits"]["main"]["skipped"], serde_json::json!({}));
        for check in CHECKS {
            let (text, alarm) = verdict(&figures, "main", check.name);
            assert!(!alarm, "seed {seed}: {text}");
            assert!(!text.contains("to judge by"), "seed {seed}, {}: {text}", check.name);
        }
        assert_eq!(figures["audits"]["main"]["alarm"], false);
        assert_close(&rows(&figures, "main", "propensity_fit")[0]["propensity_rmse"], 0.0);
    }
}

/// Segments so small that often not one row is treated: no scatter is seen in them, and that is not evidence.
#[test]
fn small_segments_with_rare_treatment_raise_no_alarm() {
    let job = "
        [columns]
        treated = 'clicked'
        propensity = 'p hat'
        [audit.main]
        query = 'SELECT * FROM log'
        segments = ['Country']";
    for seed in 0..4 {
        let mut random = Random(seed);
        let mut rare = log(seed, false);
        for (index, row) in rare.iter_mut().enumerate() {
            row.propensity = 0.01 + 0.02 * random.next();
            row.treated = random.next() < row.propensity;
            row.outcome = row.treated.then_some(1.0);
            row.country = format!("c{}", index / 20);
        }
        let small: String = (0..8)
            .map(|index| {
                format!("\n[audit.small_{index}]\nquery = \"SELECT * FROM log WHERE \\\"Country\\\" = 'c{index}'\"")
            })
            .collect();
        let figures = Bench::new(&rare, &format!("{job}{small}")).audit(&[]);
        let (text, alarm) = verdict(&figures, "main", "segments");
        assert!(!alarm, "seed {seed}: {text}");
        for index in 0..8 {
            let (text, alarm) = verdict(&figures, &format!("small_{index}"), "elements");
            assert!(!alarm, "seed {seed}: {text}");
        }
    }
}

/// In eight of twenty segments the propensities are four tenths of what they should be: the correction of Benjamini and
/// Hochberg finds them all, and no other.
#[test]
fn segments_are_found_by_their_q_values() {
    let mut log = log(5, false);
    for (index, row) in log.iter_mut().enumerate() {
        row.propensity *= if index % 20 < 8 { 0.4 } else { 1.0 };
        row.country = format!("c{:02}", index % 20);
    }
    let job = format!("{COLUMNS}\n[audit.main]\nquery = 'SELECT * FROM log'\nsegments = ['Country']\nworst = 20");
    let bench = Bench::new(&log, &job);
    let figures = bench.audit(&[]);

    let found = rows(&figures, "main", "segments");
    assert_eq!(found.len(), 20);
    let p_value = |row: &Value| row["p_value"].as_f64().unwrap();
    let mut ranked: Vec<&Value> = found.iter().collect();
    ranked.sort_by(|one, other| p_value(one).total_cmp(&p_value(other)));
    let mut q = 1.0_f64;
    for (rank, row) in ranked.iter().enumerate().rev() {
        q = q.min(20.0 * p_value(row) / (rank + 1) as f64);
        assert_close(&row["q_value"], q);
        assert_eq!(row["verdict"] == "unbalanced", q <= 0.01, "{row}");
        assert_eq!(row["verdict"] == "undecided", !row["rows_to_decide"].is_null(), "{row}");
        assert_eq!((&row["out_of_balance"], &row["element"]), (&8.into(), &0.into()));
        let members = log.iter().filter(|exposure| row["segment"] == exposure.country);
        let weights: Vec<_> = members.map(|exposure| exposure.o() / exposure.propensity - 1.0).collect();
        assert_close(&row["imbalance"], mean(weights.into_iter()));
    }
    let mut names: Vec<_> = found[..8].iter().map(|row| row["segment"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["c00", "c01", "c02", "c03", "c04", "c05", "c06", "c07"]);
    let (text, alarm) = verdict(&figures, "main", "segments");
    assert!(alarm && text.starts_with("8 of 20 segments are unbalanced"), "{text}");

    let tolerant = bench.audit(&["--set", "audit.main.tolerance=2"]);
    let (text, alarm) = verdict(&tolerant, "main", "segments");
    assert!(!alarm && text.starts_with("0 of 20 segments are unbalanced"), "{text}");
}

/// On the last seven of 21 days the propensities are four tenths of what they should be.
#[test]
fn trend_and_drift_equal_plain_loops() {
    let mut log = log(12, false);
    let day = |index: usize| index % 21 + 1;
    for (index, row) in log.iter_mut().enumerate() {
        row.propensity *= if day(index) > 14 { 0.4 } else { 1.0 };
        row.country = format!("{:02}", day(index));
    }
    let job = format!(
        r#"{COLUMNS}
        phi = ['X 0', 'x1']
        [audit.main]
        query = """
            SELECT *, to_timestamp(concat('2026-01-', "Country", 'T12:00:00')) AS "Shown At"
            FROM log"""
        columns.day = 'Shown At'
        days = 10
        [audit.before]
        query = """SELECT *, "Country" AS d FROM log WHERE "Country" <= '14'"""
        columns.day = 'd'"#
    );
    let figures = Bench::new(&log, &job).audit(&[]);
    let of_days = |from: usize, to: usize| -> Vec<&Exposure> {
        log.iter().enumerate().filter(|(index, _)| (from..=to).contains(&day(*index))).map(|(_, row)| row).collect()
    };
    let phi = |row: &Exposure| row.x.to_vec();
    let trend = rows(&figures, "main", "trend");
    assert_eq!(trend.len(), 10);
    for (row, day) in trend.iter().zip(12..) {
        assert_eq!(row["day"], format!("2026-01-{day}"));
        let (members, week) = (of_days(day, day), of_days(day - 6, day));
        assert_eq!(row["n"], members.len());
        assert_eq!(row["days"], 21);
        for (members, prefix) in [(members, ""), (week, "week_")] {
            let [raw, unbiased, floor] = balance(&members, phi);
            let of_truth = mean(members.iter().map(|row| 1.0 / (row.propensity * (1.0 - row.propensity))));
            let seen = mean(members.iter().map(|row| row.weight().powi(2)));
            let times = raw / floor.max((floor + raw / members.len() as f64) * of_truth / seen);
            assert_close(&row[format!("{prefix}bmse")], raw);
            assert_close(&row[format!("{prefix}bmse_unbiased")], unbiased);
            assert_close(&row[format!("{prefix}times_noise")], times);
        }
        assert_eq!(row["verdict"] == "unbalanced", row["q_value"].as_f64().unwrap() <= 0.01, "{row}");
        assert!(day > 14 || row["verdict"] != "unbalanced", "{row}");
    }
    let (text, alarm) = verdict(&figures, "main", "trend");
    let out = trend[0]["out_of_balance"].as_i64().unwrap();
    assert!((5..=7).contains(&out), "of the seven, those that chance does not hide: {out}");
    assert!(alarm && text.starts_with(&format!("{out} of 21 days are unbalanced")), "{text}");
    assert!(!verdict(&figures, "before", "trend").1 && !verdict(&figures, "before", "drift").1);

    let drift = rows(&figures, "main", "drift");
    assert_eq!(drift.len(), 2);
    let (before, recent) = (of_days(8, 14), of_days(15, 21));
    let of_week = |week: &[&Exposure], k: usize| {
        let of_truth = |row: &&Exposure| row.x[k].powi(2) / (row.propensity * (1.0 - row.propensity));
        let variance = mean(week.iter().map(of_truth)) / week.len() as f64;
        (mean(week.iter().map(|row| row.weight() * row.x[k])), variance)
    };
    for row in drift {
        let k = row["element"].as_u64().unwrap() as usize - 1;
        assert_eq!(row["name"], ["X 0", "x1"][k]);
        assert_eq!((&row["n_before"], &row["n"]), (&before.len().into(), &recent.len().into()));
        let (one, other) = (of_week(&before, k), of_week(&recent, k));
        let z = (other.0 - one.0) / (one.1 + other.1).sqrt();
        assert_close(&row["before"], one.0);
        assert_close(&row["recent"], other.0);
        assert_close(&row["std_error"], (one.1 + other.1).sqrt());
        assert_close(&row["z"], z);
        let p = row["p_value"].as_f64().unwrap();
        let normal = two_sided(z);
        assert!(normal * 0.999 <= p && p < normal * 1.5 + 1e-12, "{p} is not {normal}");
        assert_close(&row["p_corrected"], (2.0 * p).min(1.0));
        assert_eq!(row["changed"], 1);
    }
    assert_eq!(drift[0]["name"], "x1");
    let (text, alarm) = verdict(&figures, "main", "drift");
    assert!(alarm && text.starts_with("1 of 2 elements of phi have changed"), "{text}");
}

/// The propensities of a log are set right, and set wrong again.
#[test]
fn a_model_change_equals_plain_loops() {
    let log = log(14, false);
    let job = format!(
        r#"{COLUMNS}
        phi = ['X 0', 'x1']
        [audit.better]
        query = 'SELECT *, 0.8 * "p hat" AS old FROM log'
        columns.propensity_before = 'old'
        [audit.worse]
        query = 'SELECT *, "p hat" AS old, 0.8 * "p hat" AS new FROM log'
        columns.propensity_before = 'old'
        columns.propensity = 'new'
        [audit.same]
        query = 'SELECT *, "p hat" * (1 + 0.001 * x1) AS old FROM log'
        columns.propensity_before = 'old'"#
    );
    let figures = Bench::new(&log, &job).audit(&[]);
    let scaled = |factor: f64| -> Vec<Exposure> {
        log.iter().map(|row| Exposure { propensity: factor * row.propensity, ..row.clone() }).collect()
    };
    let phi = |row: &Exposure| row.x.to_vec();
    let (right, wrong) = (scaled(1.0), scaled(0.8));
    let of = |rows: &[Exposure]| balance(&rows.iter().collect::<Vec<_>>(), phi);
    let ([right, unbiased, _], [wrong, wrong_unbiased, _]) = (of(&right), of(&wrong));
    let better = &rows(&figures, "better", "model_change")[0];
    assert_eq!(better["n"], 4000);
    assert_close(&better["bmse_before"], wrong);
    assert_close(&better["bmse"], right);
    assert_close(&better["change"], unbiased - wrong_unbiased);
    let worse = &rows(&figures, "worse", "model_change")[0];
    assert_close(&worse["change"], wrong_unbiased - unbiased);
    let verdicts = ["better", "worse", "same"].map(|audit| verdict(&figures, audit, "model_change"));
    assert!(verdicts[0].0.ends_with("balance better than before") && !verdicts[0].1, "{verdicts:?}");
    assert!(verdicts[1].0.ends_with("balance worse than before") && verdicts[1].1, "{verdicts:?}");
    assert!(verdicts[2].0.ends_with("no change beyond sampling noise") && !verdicts[2].1, "{verdicts:?}");
}

/// The chance that a standard normal is further than `z` from 0, by Simpson's rule.
fn two_sided(z: f64) -> f64 {
    let density = |x: f64| (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let (from, steps) = (z.abs(), 20_000);
    let width = 20.0 / f64::from(steps);
    let inside: f64 =
        (1..steps).map(|step| density(from + f64::from(step) * width) * if step % 2 == 1 { 4.0 } else { 2.0 }).sum();
    2.0 * width / 3.0 * (density(from) + inside + density(from + 20.0))
}

#[test]
fn elements_equal_plain_loops_whatever_the_shape_of_phi() {
    let log = log(1, false);
    let job = format!(
        "{COLUMNS}
        [audit.none]
        query = 'SELECT * FROM log'
        [audit.columns]
        query = 'SELECT * FROM log'
        columns.phi = ['X 0', 'x1']
        [audit.vector]
        query = 'SELECT * FROM log'
        columns.phi = ['x']
        [audit.wide]
        query = 'SELECT *, array_concat(array_repeat(x1, 69), [\"X 0\"]) AS wide FROM log'
        worst = 71
        columns.phi = ['wide']
        [audit.skewed]
        query = 'SELECT * EXCEPT (\"p hat\"), \"p hat\" * (0.6 + 0.4 * x1) AS \"p hat\" FROM log'
        columns.phi = ['X 0', 'x1']"
    );
    let figures = Bench::new(&log, &job).audit(&[]);
    let wide = |row: &Exposure| [vec![row.x[1]; 69], vec![row.x[0]]].concat();
    let names = |prefix: &str, count: usize| (1..=count).map(|index| format!("{prefix}[{index}]")).collect::<Vec<_>>();
    let cases: [(&str, Vec<String>, fn(&Exposure) -> Vec<f64>); 4] = [
        ("none", Vec::new(), |_| Vec::new()),
        ("columns", vec!["X 0".into(), "x1".into()], |row| row.x.to_vec()),
        ("vector", names("x", 2), |row| row.x.to_vec()),
        ("wide", names("wide", 70), wide),
    ];
    for (audit, names, phi) in cases {
        let found = rows(&figures, audit, "elements");
        assert_eq!(found.len(), 1 + names.len(), "{audit}");
        let mut last = f64::INFINITY;
        for row in found {
            let element = row["element"].as_u64().unwrap() as usize;
            let value = |exposure: &Exposure| match element {
                0 => 1.0,
                k => phi(exposure)[k - 1],
            };
            assert_eq!(row["name"], if element == 0 { "constant" } else { &names[element - 1] });
            assert_eq!((&row["n"], &row["elements"]), (&4000.into(), &(1 + names.len()).into()));
            let middle = if element == 0 { 0.0 } else { mean(log.iter().map(value)) };
            let scale =
                if element == 0 { 1.0 } else { mean(log.iter().map(|row| (value(row) - middle).powi(2))).sqrt() };
            let z = |row: &Exposure| (value(row) - middle) / scale;
            let imbalance = mean(log.iter().map(|row| (row.o() / row.propensity - 1.0) * z(row)));
            assert_close(&row["imbalance"], imbalance);
            let implied = mean(log.iter().map(|row| (1.0 / row.propensity - 1.0) * z(row).powi(2))) / 4000.0;
            let error = row["std_error"].as_f64().unwrap();
            assert!(implied.sqrt() * 0.999_999 <= error && error < 1.5 * implied.sqrt(), "{error} {implied}");
            let (lower, upper) = (row["lower"].as_f64().unwrap(), row["upper"].as_f64().unwrap());
            assert!(((lower + upper) / 2.0 - imbalance).abs() < 1e-9 && upper > lower + 3.9 * error, "{row}");
            assert!(
                row["verdict"] != "unbalanced" && imbalance.abs() <= last * (1.0 + 1e-9),
                "the furthest off come first"
            );
            last = imbalance.abs();
        }
    }
    let (text, alarm) = verdict(&figures, "skewed", "elements");
    assert!(alarm, "{text}");
    assert!(text.starts_with("1 of 3 elements of phi are unbalanced"), "{text}");
    assert!(text.contains("the worst, \"x1\", is -0."), "{text}");
    assert!(text.ends_with(": the propensities are too high where it is large"), "{text}");
    let (text, alarm) = verdict(&figures, "wide", "lambda");
    assert_eq!((text, alarm), ("phi has 70 elements, more than the 62 whose covariances are kept", false));
}

#[test]
fn positivity_equals_plain_loops() {
    let log = log(9, true);
    let job = format!(
        r#"{COLUMNS}
        [audit.main]
        query = 'SELECT * FROM log'
        propensity_bounds = [0.15, 0.5]
        [audit.certain]
        query = 'SELECT *, CASE WHEN x1 < 1 AND NOT clicked THEN 0.0 ELSE "p hat" END AS p FROM log'
        columns.propensity = 'p'"#
    );
    let bench = Bench::new(&log, &job);
    let figures = bench.audit(&[]);
    let row = &rows(&figures, "main", "positivity")[0];
    let share = |of: &dyn Fn(&Exposure) -> bool| log.iter().filter(|row| of(row)).count() as f64 / 4000.0;
    let weight = |treated: bool, of: &dyn Fn(&Exposure) -> bool| -> f64 {
        log.iter().filter(|row| row.treated == treated && of(row)).map(|row| row.weight().abs()).sum()
    };
    let (below, above) = (|row: &Exposure| row.propensity < 0.15, |row: &Exposure| row.propensity > 0.5);
    assert!(share(&below) > 0.05 && share(&above) > 0.1);
    assert_close(&row["share_below"], share(&below));
    assert_close(&row["share_above"], share(&above));
    assert_close(&row["weight_below"], weight(true, &below) / weight(true, &|_| true));
    assert_close(&row["weight_above"], weight(false, &above) / weight(false, &|_| true));
    assert_close(&row["max_weight"], log.iter().map(|row| row.o() / row.propensity).fold(0.0, f64::max));
    assert_close(&row["max_propensity"], log.iter().map(|row| row.propensity).fold(0.0, f64::max));
    assert_eq!(row["n"], 4000);
    for column in ["n_null", "n_invalid", "n_certain"] {
        assert_eq!(row[column], 0);
    }
    let mut sorted: Vec<_> = log.iter().map(|row| row.propensity).collect();
    sorted.sort_by(f64::total_cmp);
    for (column, share) in [("p01", 0.01), ("p25", 0.25), ("p50", 0.5), ("p99", 0.99)] {
        let (found, exact) = (row[column].as_f64().unwrap(), sorted[(share * 3999.0) as usize]);
        assert!((found / exact - 1.0).abs() <= 0.0101, "{column}: {found} is not {exact}");
    }
    let (text, alarm) = verdict(&figures, "certain", "positivity");
    let count = log.iter().filter(|row| row.x[1] < 1.0 && !row.treated).count();
    assert_eq!(rows(&figures, "certain", "positivity")[0]["n_certain"], count);
    assert!(alarm && text.contains("have a propensity of exactly 0 or 1"), "{text}");

    let (code, message) = bench.failure(&["audit", "--set", "audit.main.propensity_bounds=[0.5, 0.5]"]);
    assert_eq!(code, 2);
    assert!(message.contains("audit.main.propensity_bounds is [0.5, 0.5]; it must rise, between 0 and 1"), "{message}");
}

#[test]
fn the_best_lambda_equals_plain_loops() {
    let log = log(10, true);
    let job = format!("{COLUMNS}\n[audit.main]\nquery = 'SELECT * FROM log'\ncolumns.phi = ['x']");
    let figures = Bench::new(&log, &job).audit(&[]);
    let n = log.len() as f64;
    let z: Vec<[f64; 2]> = log.iter().map(|row| row.x.map(|x| row.weight() * x)).collect();
    let mu = [0, 1].map(|k| mean(z.iter().map(|z| z[k])));
    let covariance = |a: &dyn Fn(usize) -> f64, b: &dyn Fn(usize) -> f64| {
        let (mean_a, mean_b) = (mean((0..log.len()).map(a)), mean((0..log.len()).map(b)));
        (0..log.len()).map(|i| (a(i) - mean_a) * (b(i) - mean_b)).sum::<f64>() / (n - 1.0)
    };
    // How far a row's z reaches along their mean, and how far it lies from it.
    let along = |i: usize| mu[0] * z[i][0] + mu[1] * z[i][1];
    let away = |i: usize| (z[i][0] - mu[0]).powi(2) + (z[i][1] - mu[1]).powi(2);
    let pairs = [(0, 0), (0, 1), (1, 0), (1, 1)];
    let trace: f64 = pairs.iter().map(|&(j, k)| covariance(&|i| z[i][j], &|i| z[i][k]).powi(2)).sum();
    let balanced = 2.0 * trace / (n * n);
    let of_bmse = 4.0 * covariance(&along, &along) / n - 4.0 * covariance(&along, &away) / (n * n) - balanced;
    let of_bmse = of_bmse.max(balanced);
    let ips = |row: &Exposure| if row.treated { row.error() / row.propensity } else { 0.0 };
    let dr =
        |row: &Exposure| row.imputed + if row.treated { (row.error() - row.imputed) / row.propensity } else { 0.0 };
    let cases: [(&str, &dyn Fn(&Exposure) -> f64); 2] = [("ips_v2", &ips), ("dr_v2", &dr)];
    let found = rows(&figures, "main", "lambda");
    assert_eq!(found.len(), 2);
    for (row, (estimator, loss)) in found.iter().zip(cases) {
        let loss = |i: usize| loss(&log[i]);
        let with_bmse = 2.0 * covariance(&along, &loss) / n - covariance(&loss, &away) / (n * n);
        let plain = covariance(&loss, &loss) / n;
        assert_eq!(row["estimator"], estimator);
        assert_eq!(row["n"], 4000);
        assert_close(&row["lambda"], -with_bmse / of_bmse);
        assert_close(&row["variance_at_0"], plain);
        assert_close(&row["variance_at_opt"], plain - with_bmse * with_bmse / of_bmse);
        assert_close(&row["saved"], with_bmse * with_bmse / of_bmse / plain);
    }
    let (text, alarm) = verdict(&figures, "main", "lambda");
    assert!(!alarm && text.starts_with("IPS-V2 varies least at λ = "), "{text}");
}

#[test]
fn weights_calibration_and_fit_equal_plain_loops() {
    let log = log(3, true);
    let job = format!("{COLUMNS}\n[audit.main]\nquery = 'SELECT * FROM log'\npropensity_bins = 5");
    let figures = Bench::new(&log, &job).audit(&[]);

    let weights: Vec<f64> = log.iter().map(|row| row.o() / row.propensity).collect();
    let (sum, squares): (f64, f64) = (weights.iter().sum(), weights.iter().map(|w| w * w).sum());
    let largest = weights.iter().copied().fold(0.0, f64::max);
    let treated: f64 = log.iter().map(Exposure::o).sum();
    let row = &rows(&figures, "main", "weights")[0];
    assert_close(&row["treated_rows"], treated);
    assert_close(&row["mean_weight"], sum / 4000.0);
    assert_close(&row["max_weight"], largest);
    assert_close(&row["largest_share"], largest / sum);
    assert_close(&row["effective_sample_size"], sum * sum / squares);
    assert_close(&row["effective_share"], sum * sum / squares / treated);
    assert_close(&row["share_below_001"], 0.0);

    let bins = rows(&figures, "main", "calibration");
    assert_eq!(bins.len(), 5);
    let mut error = 0.0;
    for bin in bins {
        let (lowest, highest) = (bin["lowest"].as_f64().unwrap(), bin["highest"].as_f64().unwrap());
        // JSON readers may be off by the last bit.
        let inside = |p: f64| (lowest * (1.0 - 1e-12)..=highest * (1.0 + 1e-12)).contains(&p);
        let members: Vec<_> = log.iter().filter(|row| inside(row.propensity)).collect();
        assert_eq!(bin["n"], members.len());
        assert!((700..900).contains(&members.len()), "bins hold about as many rows: {}", members.len());
        let gap = mean(members.iter().map(|row| row.o())) - mean(members.iter().map(|row| row.propensity));
        assert_close(&bin["gap"], gap);
        let variance: f64 = members.iter().map(|row| row.propensity * (1.0 - row.propensity)).sum();
        assert_close(&bin["gap_sd"], gap * members.len() as f64 / variance.sqrt());
        error += gap.abs() * members.len() as f64 / 4000.0;
    }
    assert_close(&bins[0]["calibration_error"], error);

    let fit = &rows(&figures, "main", "propensity_fit")[0];
    let loss = |p: f64, o: f64| -o * p.ln() - (1.0 - o) * (1.0 - p).ln();
    let log_loss = mean(log.iter().map(|row| loss(row.propensity, row.o())));
    let rate = treated / 4000.0;
    assert_close(&fit["log_loss"], log_loss);
    assert_close(&fit["explained"], 1.0 - log_loss / loss(rate, rate));
    assert_close(&fit["mean_inverse_square"], mean(log.iter().map(|row| row.propensity.powi(-2))));
    let square = mean(log.iter().map(|row| (row.propensity - row.truth).powi(2)));
    assert_close(&fit["propensity_rmse"], square.sqrt());
}

#[test]
fn estimates_equal_plain_loops() {
    let log = log(5, true);
    let job = format!(
        "{COLUMNS}
        [audit.main]
        query = 'SELECT * FROM log'
        lambda = 0.25
        columns.phi = ['x']
        [audit.entropy]
        query = 'SELECT * FROM log'
        prediction_loss = 'cross-entropy'"
    );
    let figures = Bench::new(&log, &job).audit(&[]);
    let all: Vec<_> = log.iter().collect();
    let o_e = |row: &Exposure| if row.treated { row.error() } else { 0.0 };
    let treated: f64 = log.iter().map(Exposure::o).sum();
    let ips = mean(log.iter().map(|row| o_e(row) / row.propensity));
    let correction = |row: &Exposure| if row.treated { (row.error() - row.imputed) / row.propensity } else { 0.0 };
    let dr = mean(log.iter().map(|row| row.imputed + correction(row)));
    let penalty = 0.25 * balance(&all, |row| row.x.to_vec())[0];
    let weight = mean(log.iter().map(|row| row.o() / row.propensity));
    let imputed = mean(log.iter().map(|row| row.imputed));
    let (snips, corrected) = (ips / weight, (dr - imputed) / weight);
    let naive_treated = log.iter().map(o_e).sum::<f64>() / treated;
    let expected = [
        ("naive", mean(log.iter().map(o_e))),
        ("naive_treated", naive_treated),
        ("ips", ips),
        ("snips", snips),
        ("ips_v2", ips + penalty),
        ("eib", mean(log.iter().map(|row| if row.treated { row.error() } else { row.imputed }))),
        ("dr", dr),
        ("snips_dr", imputed + corrected),
        ("dr_v2", dr + penalty),
    ];
    // What a row adds to an estimate: its term of a mean, its influence on a ratio.
    let weighted = |row: &Exposure| row.o() / row.propensity;
    let influence = |estimator: &str, row: &Exposure| match estimator {
        "naive" => o_e(row),
        "naive_treated" => (o_e(row) - naive_treated * row.o()) * 4000.0 / treated,
        "ips" => o_e(row) / row.propensity,
        "snips" => (o_e(row) / row.propensity - snips * weighted(row)) / weight,
        "eib" if row.treated => row.error(),
        "eib" => row.imputed,
        "dr" => row.imputed + correction(row),
        "snips_dr" => row.imputed + (correction(row) - corrected * weighted(row)) / weight,
        other => panic!("{other} has no standard error"),
    };
    let q = |row: &Exposure| row.conversion;
    let truth =
        mean(log.iter().map(|row| q(row) * (1.0 - row.prediction).powi(2) + (1.0 - q(row)) * row.prediction.powi(2)));
    let found = rows(&figures, "main", "estimates");
    assert_eq!(found.len(), expected.len());
    for (row, (estimator, value)) in found.iter().zip(expected) {
        assert_eq!(row["estimator"], estimator);
        assert_eq!(row["n"], 4000);
        assert_close(&row["estimate"], value);
        assert_close(&row["true_error"], truth);
        assert_close(&row["gap"], value - truth);
        if estimator.ends_with("_v2") {
            assert!(row["std_error"].is_null() && row["lower"].is_null() && row["upper"].is_null());
            continue;
        }
        let influences: Vec<_> = log.iter().map(|row| influence(estimator, row)).collect();
        let error = variance_of_mean(&influences).sqrt();
        assert_close(&row["std_error"], error);
        assert_close(&row["lower"], value - 1.959_963_984_540_054 * error);
        assert_close(&row["upper"], value + 1.959_963_984_540_054 * error);
    }
    let truth =
        mean(log.iter().map(|row| -q(row) * row.prediction.ln() - (1.0 - q(row)) * (1.0 - row.prediction).ln()));
    assert_close(&rows(&figures, "entropy", "estimates")[0]["true_error"], truth);
}

#[test]
fn absent_roles_leave_checks_out() {
    let job = "
        [columns]
        treated = 'clicked'
        propensity = 'p hat'
        [audit.bare]
        query = 'SELECT * FROM log'
        [audit.error]
        query = 'SELECT *, power(\"Converted\" - prediction, 2) AS loss FROM log'
        columns.error = 'loss'";
    let bench = Bench::new(&log(2, false), job);
    let figures = bench.audit(&[]);
    let skipped = &figures["audits"]["bare"]["skipped"];
    assert_eq!(skipped["segments"], "no segments are listed");
    assert_eq!(skipped["trend"], "no column has the role day");
    assert_eq!(skipped["drift"], "no column has the role day");
    assert_eq!(skipped["model_change"], "no column has the role propensity_before");
    assert!(skipped["estimates"].as_str().unwrap().contains("role error"), "{skipped}");
    let rows = rows(&figures, "error", "estimates");
    let estimators: Vec<_> = rows.iter().map(|row| row["estimator"].as_str().unwrap()).collect();
    assert_eq!(estimators, ["naive", "naive_treated", "ips", "snips", "ips_v2"]);
    assert!(rows.iter().all(|row| row["true_error"].is_null() && row["gap"].is_null()));

    let text = stdout(&bench.run(&["audit", "--audit", "bare"]));
    assert!(text.contains("left out: no segments are listed"), "{text}");
    assert!(!text.contains("Audit error"), "only the audit asked for: {text}");
}

#[test]
fn text_has_a_heading_a_verdict_and_a_table_a_check() {
    let job = format!("{COLUMNS}\n[audit.main]\nquery = 'SELECT * FROM log'\nsegments = ['Country']\nworst = 2");
    let text = stdout(&Bench::new(&log(1, true), &job).run(&["audit"]));
    let verdict = text.split_once("\n\nAre the propensities balanced, as far as it matters?\n  ").unwrap();
    assert!(
        verdict.0.starts_with("Audit main of shop (phi = 1), ") && !verdict.0.contains('\n'),
        "it comes first: {text}"
    );
    assert!(verdict.1.contains(" IPS estimate by +") && verdict.1.contains("\n  effect     name "), "{text}");
    assert!(text.contains("fail to balance? By Country:\n  ! 1 of 20 segments"), "{text}");
    assert!(text.contains("\n  it's \"bad\" land  "), "{text}");
    assert!(text.contains("4,000"), "{text}");
}

#[test]
fn required_roles_are_asked_for_by_key() {
    let job = "[audit.main]\nquery = 'SELECT clicked, \"p hat\" AS propensities FROM log'";
    let bench = Bench::new(&log(1, false), job);
    let (code, message) = bench.failure(&["audit"]);
    assert_eq!(code, 2, "{message}");
    assert!(message.contains("audit.main needs a column for the role treated"), "{message}");
    assert!(message.contains("set columns.propensity or audit.main.columns.propensity"), "{message}");
    assert!(message.contains("(perhaps \"propensities\"): clicked, propensities"), "{message}");

    let (code, message) =
        bench.failure(&["audit", "--set", "columns.treated=click", "--set", "columns.propensity=propensities"]);
    assert_eq!(code, 2, "{message}");
    assert!(
        message.contains(
            "columns.treated = \"click\": audit.main.query gives no such column; did you mean \"clicked\"? \
             (it gives clicked, propensities)"
        ),
        "{message}"
    );
    let set =
        ["columns.treated=clicked", "columns.propensity=propensities", "audit.main.columns.propensity_before=old"];
    let set: Vec<_> = set.iter().flat_map(|assignment| ["--set", assignment]).collect();
    let (_, message) = bench.failure(&[&["audit"][..], &set].concat());
    assert!(message.contains("audit.main.columns.propensity_before = \"old\": audit.main.query gives no"), "{message}");

    let (code, message) = bench.failure(&["audit", "--audit", "mian"]);
    assert_eq!(code, 2);
    assert!(message.contains("there is no audit \"mian\"; did you mean \"main\"?"), "{message}");
}

#[test]
fn bad_values_name_the_audit_the_column_and_the_cure() {
    let job = format!(
        "{COLUMNS}
        [audit.good]
        query = 'SELECT * FROM log'
        output = '${{dir}}/out/good'
        metrics = '${{dir}}/out/good.prom'
        [audit.zero]
        query = 'SELECT * EXCEPT (\"p hat\"), 0.0 AS \"p hat\" FROM log'
        output = '${{dir}}/out/zero/'"
    );
    let bench = Bench::new(&log(1, false), &job);
    let (code, message) = bench.failure(&["audit"]);
    assert_eq!(code, 2, "{message}");
    assert!(message.contains("\n! bad rows: "), "{message}");
    assert!(message.contains("that audit.zero.query gives (3"), "{message}");
    assert!(message.contains("what happened has a propensity of 0 in 1,") || message.contains(" in 1"), "{message}");
    assert!(message.contains("clip_propensity"), "{message}");
    for audit in ["good", "zero"] {
        assert!(message.contains(&format!("Audit {audit} of shop")), "{message}");
        let figures: Value = serde_json::from_str(&bench.text(&format!("out/{audit}/audit.json"))).unwrap();
        assert_eq!(figures["fault"].is_null(), audit == "good", "{figures}");
        assert!(figures["checks"]["positivity"]["rows"][0]["n_invalid"].is_number(), "{figures}");
    }
}

#[test]
fn results_are_files_that_hold_the_figures() {
    let job = format!(
        "{COLUMNS}
        [audit.main]
        query = 'SELECT *, clicked AS \"Was Clicked\" FROM log'
        segments = ['Country', 'Was Clicked']
        worst = 3
        output = '${{dir}}/out/main'
        metrics = '${{dir}}/metrics/shop.prom'
        [audit.vector]
        query = 'SELECT * FROM log'
        columns.phi = ['x']
        output = '${{dir}}/out/vector/'
        metrics = '${{dir}}/metrics/shop.prom'"
    );
    let bench = Bench::new(&log(1, true), &job);
    let figures = bench.audit(&[]);
    for (name, audit) in figures["audits"].as_object().unwrap() {
        let whole: Value = serde_json::from_str(&bench.text(&format!("out/{name}/audit.json"))).unwrap();
        assert_eq!(whole, *audit);
        for (check, result) in audit["checks"].as_object().unwrap() {
            let at = |kind: &str| {
                crate::support::listed(&bench.folder.path().join(format!("out/{name}")), &format!("{check}.{kind}"))
            };
            let json: Value = serde_json::from_slice(&std::fs::read(at("json")).unwrap()).unwrap();
            assert_eq!(json, *result);
            let file = std::fs::File::open(at("parquet")).unwrap();
            let read = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
            if check == "estimates" {
                let names: Vec<_> = read.schema().fields().iter().map(|field| field.name().as_str()).collect();
                assert_eq!(names[2..6], ["estimate", "std_error", "lower", "upper"]);
            }
            assert_eq!(
                read.metadata().file_metadata().num_rows() as usize,
                result["rows"].as_array().unwrap().len(),
                "{name} {check}"
            );
        }
    }
    assert_eq!(rows(&figures, "main", "segments").len(), 3 + 2);

    let series = parse(&bench.text("metrics/shop.prom"));
    let value = |name: &str, labels: &[(&str, &str)]| {
        let mut labels: Vec<_> = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        labels.sort();
        let found = series.iter().find(|(found, of, _)| found == name && *of == labels);
        found.unwrap_or_else(|| panic!("no {name} {labels:?} in {series:#?}")).2
    };
    for (audit, phi) in [("main", "1"), ("vector", "x")] {
        let balance = &rows(&figures, audit, "balance")[0];
        let overall = [("table", "shop"), ("audit", audit), ("phi", phi), ("segment_column", ""), ("segment", "")];
        assert_close(&balance["bmse"], value("counterweight_bmse", &overall));
        assert_close(&balance["bmse_unbiased"], value("counterweight_bmse_unbiased", &overall));
        assert_close(&balance["noise_floor"], value("counterweight_bmse_noise_floor", &overall));
        assert_close(&balance["times_noise"], value("counterweight_bmse_noise_ratio", &overall));
        let table = [("table", "shop"), ("audit", audit)];
        assert_close(&balance["n"], value("counterweight_rows", &table));
        assert_close(&balance["treated_rate"], value("counterweight_treated_ratio", &table));
        let weights = &rows(&figures, audit, "weights")[0];
        assert_close(&weights["effective_sample_size"], value("counterweight_effective_sample_size", &table));
        assert_close(&weights["max_weight"], value("counterweight_max_weight", &table));
        let elements = &rows(&figures, audit, "elements")[0];
        assert_close(&elements["elements"], value("counterweight_phi_elements", &table));
        assert_close(&elements["out_of_balance"], value("counterweight_phi_elements_out_of_balance", &table));
        let positivity = &rows(&figures, audit, "positivity")[0];
        assert_close(&positivity["share_below"], value("counterweight_propensity_below_ratio", &table));
        assert_close(&positivity["share_above"], value("counterweight_propensity_above_ratio", &table));
        let calibration = &rows(&figures, audit, "calibration")[0];
        assert_close(&calibration["calibration_error"], value("counterweight_calibration_error", &table));
        for row in rows(&figures, audit, "estimates") {
            let labels = [table[0], table[1], ("estimator", row["estimator"].as_str().unwrap())];
            assert_close(&row["estimate"], value("counterweight_estimate", &labels));
            if !row["std_error"].is_null() {
                assert_close(&row["std_error"], value("counterweight_estimate_std_error", &labels));
            }
        }
        assert!(value("counterweight_audit_timestamp_seconds", &table) > 1.7e9);
        assert!(value("counterweight_audit_duration_seconds", &table) > 0.0);
    }
    let by_country = [("table", "shop"), ("audit", "main"), ("segment_column", "Country")];
    assert_eq!(value("counterweight_segments", &by_country), 20.0);
    assert_eq!(value("counterweight_segments_out_of_balance", &by_country), 1.0);
    let worst = [("table", "shop"), ("audit", "main"), ("phi", "1"), ("segment_column", "Country"), ("segment", BAD)];
    assert_close(&rows(&figures, "main", "segments")[0]["bmse"], value("counterweight_bmse", &worst));
    let segments = series.iter().filter(|(name, labels, _)| {
        name == "counterweight_bmse" && labels.iter().any(|(key, value)| key == "segment" && !value.is_empty())
    });
    assert_eq!(segments.count(), 5, "a series for each of the worst, and no more");
}

/// The series of a text exposition: name, sorted labels, value. Every family has HELP and TYPE before its series.
fn parse(text: &str) -> Vec<(String, Vec<(String, String)>, f64)> {
    let mut series = Vec::new();
    let mut family = String::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split_once(' ').unwrap().0.to_owned();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            assert_eq!(kind, format!("{family} gauge"));
        } else {
            let (name, rest) = line.split_once('{').unwrap();
            assert_eq!(name, family);
            let (inside, value) = rest.rsplit_once("} ").unwrap();
            let mut labels = Vec::new();
            let mut rest = inside;
            while let Some((key, after)) = rest.split_once("=\"") {
                let (mut text, mut characters) = (String::new(), after.char_indices());
                let end = loop {
                    match characters.next().unwrap() {
                        (_, '\\') => text.push(characters.next().unwrap().1),
                        (end, '"') => break end,
                        (_, character) => text.push(character),
                    }
                };
                labels.push((key.to_owned(), text));
                rest = after[end + 1..].trim_start_matches(',');
            }
            labels.sort();
            series.push((name.to_owned(), labels, value.parse().unwrap()));
        }
    }
    series
}

#[test]
fn every_format_gives_the_same_figures() {
    let log = log(4, true);
    let bench = Bench::new(&log, "");
    let csv: String = std::iter::once("clicked,p,segment\n".to_owned())
        .chain(log.iter().map(|row| format!("{},{:?},{}\n", u8::from(row.treated), row.propensity, row.country.len())))
        .collect();
    std::fs::write(bench.folder.path().join("log.csv"), csv).unwrap();
    let ndjson: String = log
        .iter()
        .map(|row| {
            format!(
                "{{\"clicked\":{}.0,\"p\":{:?},\"segment\":\"{}\"}}\n",
                u8::from(row.treated),
                row.propensity,
                row.country.len()
            )
        })
        .collect();
    std::fs::write(bench.folder.path().join("log.ndjson"), ndjson).unwrap();
    bench.write_job(
        "name = 'shop'
        [tables]
        parquet.url = '${dir}/log.parquet'
        csv.url = '${dir}/log.csv'
        ndjson.url = '${dir}/log.ndjson'
        [columns]
        treated = 'clicked'
        propensity = 'p'
        [audit.parquet]
        query = 'SELECT clicked, \"p hat\" AS p, length(\"Country\") AS segment FROM parquet'
        segments = ['segment']
        [audit.csv]
        query = 'SELECT * FROM csv'
        segments = ['segment']
        [audit.ndjson]
        query = 'SELECT * FROM ndjson'
        segments = ['segment']",
    );
    let figures = bench.audit(&[]);
    for audit in ["csv", "ndjson"] {
        for check in ["balance", "segments", "elements", "positivity", "weights", "calibration"] {
            for (row, expected) in rows(&figures, audit, check).iter().zip(rows(&figures, "parquet", check)) {
                for (column, value) in expected.as_object().unwrap() {
                    match value.as_f64() {
                        Some(number) => assert_close(&row[column], number),
                        None => assert_eq!(row[column], *value, "{audit} {check} {column}"),
                    }
                }
            }
        }
    }
}

#[test]
fn null_rows_are_counted_apart_and_a_null_segment_has_a_name() {
    let log = log(6, false);
    let job = r#"
        [columns]
        treated = "clicked"
        propensity = "p"
        [audit.main]
        query = """
            SELECT clicked, CASE WHEN x1 >= 1 THEN "p hat" END AS p, nullif("Country", 'c3') AS segment
            FROM log"""
        segments = ["segment"]
        max_invalid = 0.6
        worst = 50"#;
    let figures = Bench::new(&log, job).audit(&[]);
    let missing = log.iter().filter(|row| row.x[1] < 1.0).count();
    let row = &rows(&figures, "main", "balance")[0];
    assert_eq!(row["rows_skipped"], missing);
    assert_eq!(row["n"], 4000 - missing);
    let segments = rows(&figures, "main", "segments");
    assert!(segments.iter().any(|row| row["segment"].is_null()));
}

#[test]
fn a_table_without_rows_is_judged_by_nobody() {
    let job = format!(
        "{COLUMNS}\n[audit.main]\nquery = 'SELECT * FROM log WHERE false'\nsegments = ['Country']
        output = '${{dir}}/out'\nmetrics = '${{dir}}/m.prom'"
    );
    let bench = Bench::new(&log(1, false), &job);
    let output = bench.run(&["audit", "--format", "json"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("no rows: audit.main.query gives none"), "{}", stderr(&output));
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    for check in
        ["rows", "verdict", "balance", "segments", "elements", "positivity", "weights", "calibration", "lambda"]
    {
        assert_eq!(verdict(&figures, "main", check), ("there are no rows to judge by", false), "{check}");
    }
    let metrics = bench.text("m.prom");
    assert!(metrics.contains("counterweight_rows{audit=\"main\",table=\"shop\"} 0\n"), "{metrics}");
    assert!(!metrics.contains("timestamp"), "no success has a time: {metrics}");
}

#[test]
fn check_collects_every_problem_and_writes_nothing() {
    let job = "
        [tables.gone]
        url = '${dir}/gone.parquet'
        [columns]
        treated = 'clicked'
        propensity = 'p hat'
        [audit.good]
        query = 'SELECT * FROM log'
        segments = ['Country']
        [audit.columns]
        query = 'SELECT * FROM log'
        segments = ['Contry']
        columns.treated = 'Country'
        columns.phi = ['x', 'x1']
        [audit.query]
        query = 'SELECT nothing FROM log'
        [audit.urls]
        query = 'SELECT * FROM log'
        output = 'ftp://host/folder'";
    let bench = Bench::new(&log(1, false), job);
    let (code, message) = bench.failure(&["check"]);
    assert_eq!(code, 2, "{message}");
    for line in [
        "ok       tables.log",
        "problem  tables.gone",
        "ok       audit.good.query",
        "ok       audit.good columns: treated = clicked, propensity = p hat, phi = 1",
        "ok       audit.good check balance",
        "ok       audit.good check segments",
        "ok       audit.good check estimates: left out, no column has the role error",
        "audit.columns.segments = \"Contry\": audit.columns.query gives no such column; did you mean \"Country\"?",
        "audit.columns.columns.treated = \"Country\": the column holds Utf8",
        "audit.columns.columns.phi: the column \"x\" holds vectors and must be the only one",
        "audit.query.query does not plan",
        "cannot open ftp://host/folder",
        "there are 6 problems",
    ] {
        assert!(message.contains(line), "{line:?} is not in:\n{message}");
    }
    let names: Vec<_> =
        std::fs::read_dir(bench.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "only the log and the job: {names:?}");
}

#[test]
fn check_passes_a_sound_job() {
    let job = format!("{COLUMNS}\n[audit.main]\nquery = 'SELECT * FROM log'\noutput = '${{dir}}/out'");
    let output = Bench::new(&log(1, false), &job).run(&["check"]);
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    assert!(!stdout(&output).contains("problem"), "{}", stdout(&output));
}

#[test]
fn audits_do_not_share_a_folder_and_a_job_has_one() {
    let job = format!(
        "{COLUMNS}\n[audit.a]\nquery = 'SELECT * FROM log'\noutput = '${{dir}}/out'
        [audit.b]\nquery = 'SELECT * FROM log'\noutput = '${{dir}}/out/'"
    );
    let bench = Bench::new(&log(1, false), &job);
    for command in ["audit", "check"] {
        let (code, message) = bench.failure(&[command]);
        assert_eq!(code, 2);
        assert!(message.contains("audit.a.output and audit.b.output are the same folder"), "{message}");
    }
    let (code, message) = Bench::new(&log(1, false), "").failure(&["audit"]);
    assert_eq!(code, 2);
    assert!(message.contains("no [audit.NAME] section"), "{message}");
}

/// Each file of `sql/` runs as it stands, over a view that a person makes.
#[tokio::test]
async fn the_checks_run_by_hand() {
    let folder = tempfile::tempdir().unwrap();
    let rows = batch(&log(1, true));
    let first = UInt32Array::from_iter_values(0..500);
    write_parquet(&folder.path().join("log.parquet"), &take_record_batch(&rows, &first).unwrap());
    let session = session(&SessionOptions::default(), Arc::new(Storage::new([]))).unwrap();
    let view = format!(
        "CREATE VIEW audited AS
         SELECT clicked AS treated, \"p hat\" AS propensity, \"p hat\" AS propensity_before, x AS phi, \"Country\" AS segment,
                DATE '2026-01-01' + CAST(concat(floor(x1 * 8), ' days') AS INTERVAL) AS day,
                squared_error(prediction, \"Converted\") AS error, CAST(NULL AS DOUBLE) AS imputed_error,
                CAST(NULL AS DOUBLE) AS true_error, \"True P\" AS true_propensity
         FROM '{}/log.parquet'",
        folder.path().display()
    );
    session.sql(&view).await.unwrap().collect().await.unwrap();
    for check in CHECKS {
        let frame = session.sql(check.sql).await.unwrap_or_else(|error| panic!("{}: {error}", check.name));
        let batches = frame.collect().await.unwrap_or_else(|error| panic!("{}: {error}", check.name));
        assert!(batches.iter().map(RecordBatch::num_rows).sum::<usize>() > 0, "{}", check.name);
    }
}

fn bare(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_counterweight")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

#[test]
fn the_checks_are_listed_without_a_job() {
    let text = bare(&["audit", "--list"]);
    for check in CHECKS {
        assert!(text.contains(&format!("{}\n  {}\n", check.name, check.title())), "{text}");
    }
    assert!(text.contains("Needs: treated, propensity, error"), "{text}");
    let output = Command::new(env!("CARGO_BIN_EXE_counterweight")).arg("audit").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("<JOB>"), "{}", stderr(&output));
}

#[test]
fn every_function_is_in_the_reference() {
    let names =
        counterweight_udfs::all_aggregates().iter().map(|function| function.name().to_owned()).collect::<Vec<_>>();
    let scalars = counterweight_udfs::all_scalars();
    let (page, table) = (bare(&["functions", "--format", "markdown"]), bare(&["functions"]));
    for name in names.iter().map(String::as_str).chain(scalars.iter().map(|function| function.name())) {
        assert_eq!(page.matches(&format!("\n### `{name}`\n")).count(), 1, "{name}");
        assert!(page.contains(&format!("(#{name})")), "{name}");
        assert!(table.contains(&format!("\n  {name}(")), "{name}: {table}");
    }
    assert!(page.starts_with("# SQL functions\n"));
}
