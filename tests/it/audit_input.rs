//! `counterweight audit` of small files: what is read, what is skipped and why, what is refused.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{counterweight, fail, succeed};

/// A folder with the table `log.csv` and a job that audits it.
fn bench(table: &str, query: &str, keys: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("log.csv"), table).unwrap();
    write_job(folder.path(), "job", query, keys);
    folder
}

fn write_job(folder: &Path, name: &str, query: &str, keys: &str) {
    let job = format!(
        "name = \"{name}\"\n[tables.log]\nurl = \"log.csv\"\n[audit.main]\nquery = \"{query}\"\n\
         columns.treated = \"o\"\ncolumns.propensity = \"p\"\n{keys}\n"
    );
    std::fs::write(folder.join(format!("{name}.toml")), job).unwrap();
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = counterweight();
    command.current_dir(folder).args(arguments);
    command
}

fn audit(folder: &Path) -> Value {
    serde_json::from_str(&succeed(&mut command(folder, &["audit", "job.toml", "--format", "json"]))).unwrap()
}

fn refused(folder: &Path) -> String {
    let (code, message) = fail(&mut command(folder, &["audit", "job.toml"]));
    assert_eq!(code, 2, "{message}");
    message
}

fn rows<'a>(figures: &'a Value, check: &str) -> &'a Vec<Value> {
    figures["audits"]["main"]["checks"][check]["rows"].as_array().unwrap_or_else(|| panic!("{figures:#}"))
}

fn read(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

const ALL: &str = "SELECT * FROM log";
const TABLE: &str = "o,p\n1,0.5\n0,0.25\n";
const PREDICTED: &str = "columns.prediction = 'q'\ncolumns.outcome = 'e'";

#[test]
fn no_segment_an_empty_one_and_the_word_null_are_three() {
    let table = "o,p,s\n1,0.5,\n0,0.5,\n1,0.4,NULL\n0,0.4,NULL\n1,0.4,empty\n0,0.6,empty\n";
    let query = "SELECT o, p, CASE WHEN s = 'empty' THEN '' ELSE nullif(s, '') END AS s FROM log";
    let folder = bench(table, query, "segments = ['s']\nmetrics = 'm.prom'\noutput = 'out'");
    let folder = folder.path();
    let figures = audit(folder);
    let mut found: Vec<_> = rows(&figures, "segments").iter().map(|row| row["segment"].clone()).collect();
    found.sort_by_key(Value::to_string);
    assert_eq!(found, [Value::from(""), Value::from("NULL"), Value::Null]);
    let text = succeed(&mut command(folder, &["audit", "job.toml"]));
    for name in ["NULL", "'NULL'", "''"] {
        assert!(text.contains(&format!("\n  {name:<7}  2 ")), "{name} is not in {text}");
        let series = format!("counterweight_bmse{{audit=\"main\",phi=\"1\",segment=\"{name}\",");
        assert_eq!(read(folder, "m.prom").matches(&series).count(), 1, "{name}");
    }
    let sql = "SELECT sum(CASE WHEN segment IS NULL THEN 1 END), sum(CASE WHEN segment = '' THEN 1 END) \
               FROM 'out/segments.parquet'";
    assert_eq!(succeed(&mut command(folder, &["sql", "--format", "csv", "--no-header", "-c", sql])), "1,1\n");
}

#[test]
fn an_outcome_that_cannot_be_is_refused_in_a_treated_row_alone() {
    for (outcome, cure) in
        [("-1", "OR \"e\" BETWEEN 0 AND 1"), ("5", "CASE WHEN \"e\" >= 4 THEN 1 ELSE 0 END AS \"e\"")]
    {
        for loss in ["squared-error", "cross-entropy"] {
            let keys = format!("{PREDICTED}\nprediction_loss = '{loss}'");
            let table = format!("o,p,q,e\n1,0.5,0.5,{outcome}\n0,0.5,0.5,1\n");
            let message = refused(bench(&table, ALL, &keys).path());
            assert!(message.contains(&format!("column \"e\" is {outcome} in a treated row")), "{message}");
            assert!(message.contains(cure), "{message}");
            let table = format!("o,p,q,e\n1,0.5,0.5,1\n0,0.5,0.5,{outcome}\n");
            let figures = audit(bench(&table, ALL, &keys).path());
            let ips = rows(&figures, "estimates").iter().find(|row| row["estimator"] == "ips").unwrap();
            let expected = if loss == "squared-error" { 0.25 } else { 2.0_f64.ln() };
            assert!((ips["estimate"].as_f64().unwrap() - expected).abs() < 1e-12, "{ips}");
        }
    }
}

#[test]
fn rows_are_skipped_for_a_reason_that_every_check_of_phi_tells() {
    let table = "o,p,x,day,b,q,e\n1,0.5,1,1,0.4,0.5,1\n0,0.5,2,1,0.4,0.5,\n1,0.5,,1,0.4,0.5,1\n,0.5,1,1,0.4,0.5,1\n\
                 1,,1,1,0.4,0.5,1\n0,,,1,0.4,0.5,\n";
    let keys = format!(
        "{PREDICTED}\ncolumns.phi = ['x']\ncolumns.day = 'day'\ncolumns.propensity_before = 'b'\nsegments = ['day']
max_invalid = 1"
    );
    let figures = audit(bench(table, ALL, &keys).path());
    for check in ["balance", "segments", "elements", "trend", "lambda", "model_change"] {
        let row = &rows(&figures, check)[0];
        let counts = ["n", "rows_skipped", "null_treated", "null_propensity", "null_phi"].map(|column| &row[column]);
        assert_eq!(counts.map(Value::as_i64), [2, 4, 1, 2, 1].map(Some), "{check}: {row}");
    }
    for (name, n) in [("naive", 5), ("ips", 3), ("ips_v2", 2)] {
        let row = rows(&figures, "estimates").iter().find(|row| row["estimator"] == name).unwrap();
        assert_eq!((row["n"].as_i64(), row["rows_skipped"].as_i64()), (Some(n), Some(6 - n)), "{row}");
    }
}

#[test]
fn a_marker_for_null_is_named_with_the_key_that_reads_it() {
    for (marker, says) in [
        ("\\N", "set null = \"\\\\N\""),
        ("NA", "set null = \"NA\""),
        ("NULL", "set null = \"NULL\""),
        ("abc", "TRY_CAST(\"e\" AS DOUBLE) AS \"e\""),
    ] {
        let message = refused(bench(&format!("o,p,q,e\n1,0.5,0.5,0\n0,0.5,0.5,{marker}\n"), ALL, PREDICTED).path());
        let is_of_column =
            message.contains("column \"e\" holds") || message.contains("columns.outcome = \"e\": the column");
        assert!(is_of_column, "{message}");
        assert!(message.contains(says) && !message.contains(" CAST("), "{message}");
    }
}

#[test]
fn a_column_whose_type_all_branches_decide_is_audited() {
    for query in [
        "SELECT o, CASE WHEN p < 0 THEN 0 ELSE p END AS p FROM log",
        "SELECT 0 AS o, 0 AS p UNION ALL SELECT o, p FROM log",
    ] {
        let figures = audit(bench(TABLE, query, "").path());
        assert_eq!(rows(&figures, "weights")[0]["max_weight"].as_f64(), Some(2.0), "{query}");
    }
}

#[test]
fn an_audit_without_rows_is_no_success() {
    let time =
        |metrics: &str| metrics.lines().find(|line| line.contains("audit_timestamp_seconds{")).map(str::to_owned);
    let folder = bench(TABLE, ALL, "metrics = 'm.prom'");
    let folder = folder.path();
    audit(folder);
    let before = read(folder, "m.prom");
    let none = "audit.main.query=SELECT * FROM log WHERE o = 3";
    for (rows, set, says) in
        [("1,0.5\n", none, "no rows: audit.main.query gives none"), ("1,\n,0.5\n", "seed=1", "propensity is NULL in 1")]
    {
        std::fs::write(folder.join("log.csv"), format!("o,p\n{rows}")).unwrap();
        let output = command(folder, &["audit", "job.toml", "--set", set]).output().unwrap();
        let (told, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(2), "{complained}");
        assert!(told.contains("! no rows") && complained.contains(says), "{told}{complained}");
        let after = read(folder, "m.prom");
        assert!(time(&before).is_some() && time(&after) == time(&before), "{after}");
        assert!(after.contains("counterweight_rows{audit=\"main\",table=\"job\"} 0\n"), "{after}");
    }
}

#[test]
fn series_of_others_stay_in_a_metrics_file() {
    let folder = bench(TABLE, ALL, "metrics = 'm.prom'");
    let folder = folder.path();
    write_job(folder, "other", "SELECT * FROM log WHERE o = 1", "metrics = 'm.prom'");
    std::fs::write(folder.join("m.prom"), "node_load{cpu=\"a\"} 3\n").unwrap();
    for job in ["job.toml", "other.toml", "job.toml"] {
        succeed(&mut command(folder, &["audit", job]));
    }
    let metrics = read(folder, "m.prom");
    for (table, count) in [("job", 2), ("other", 1)] {
        let series = format!("counterweight_rows{{audit=\"main\",table=\"{table}\"}} {count}\n");
        assert_eq!(metrics.matches(&series).count(), 1, "{metrics}");
    }
    assert!(metrics.contains("node_load{cpu=\"a\"} 3\n"), "{metrics}");
}

#[test]
fn series_of_audits_at_the_same_time_stay_in_a_metrics_file() {
    let folder = bench(TABLE, ALL, "metrics = 'm.prom'");
    let folder = folder.path();
    succeed(&mut command(folder, &["audit", "job.toml"]));
    let jobs: Vec<String> = (0..6).map(|job| format!("job{job}")).collect();
    for job in &jobs {
        write_job(folder, job, "SELECT * FROM log", "metrics = 'm.prom'");
    }
    let audits: Vec<_> =
        jobs.iter().map(|job| command(folder, &["audit", &format!("{job}.toml")]).spawn().unwrap()).collect();
    assert!(audits.into_iter().all(|mut audit| audit.wait().unwrap().success()));
    let metrics = read(folder, "m.prom");
    for job in &jobs {
        assert!(metrics.contains(&format!("counterweight_rows{{audit=\"main\",table=\"{job}\"}} 2\n")), "{metrics}");
    }
}

#[test]
fn what_cannot_be_written_is_found_before_anything_is_read() {
    for (keys, says) in [
        ("output = 'https://host/out'", "nothing is written to a web server"),
        ("output = 'log.csv/out'", "lies where tables.log is read from"),
        ("output = '/proc/counterweight/out'", "cannot write file:///proc/counterweight/out"),
        ("metrics = 'job.toml'", "holds no metrics, and it is left as it is"),
        ("output = 'out'\nmetrics = 'out/balance.json'", "audit.main writes its results to"),
    ] {
        let folder = bench(TABLE, ALL, keys);
        let message = refused(folder.path());
        assert!(message.contains(says), "{message}");
        let output = command(folder.path(), &["check", "job.toml"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stdout).contains(says), "{keys}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "{keys}");
    }
}

#[test]
fn what_was_found_is_printed_before_what_failed() {
    let folder = bench(TABLE, ALL, "output = 'out'");
    std::fs::create_dir_all(folder.path().join("out/audit.json/in_the_way")).unwrap();
    let output = command(folder.path(), &["audit", "job.toml"]).output().unwrap();
    assert!(!output.status.success());
    assert!(output.stdout.starts_with(b"Audit main of job"), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_audits_of_a_job_are_listed_with_their_checks() {
    let folder = bench(TABLE, ALL, "");
    let text = succeed(&mut command(folder.path(), &["audit", "job.toml", "--list"]));
    assert!(text.starts_with("audit.main\n  rows            Which rows count?\n  verdict         Are the "), "{text}");
    assert!(text.contains("day by day? (left out: no column has the role day)\n"), "{text}");
}
