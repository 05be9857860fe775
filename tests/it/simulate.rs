//! `counterweight simulate`, as it is called.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{counterweight, fail, succeed};

fn simulate(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = counterweight();
    command.current_dir(folder).arg("simulate").args(arguments);
    command
}

fn query(folder: &Path, sql: &str) -> String {
    let sql = ["sql", "--format", "csv", "--no-header", "-c", sql];
    succeed(counterweight().current_dir(folder).args(sql)).trim().to_owned()
}

#[test]
fn a_log_and_its_uniform_sample() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--rows", "30000", "--users", "200", "--items", "50", "--dim", "3", "--seed", "5"];
    let to = ["--output", "log/", "--uniform", "uniform.parquet", "--uniform-rows", "4000"];
    let summary = succeed(&mut simulate(folder.path(), &[&arguments[..], &to].concat()));
    for text in ["30,000 exposures of 200 users and 50 items", "conversion rate", "IPS, true p", "uniform.parquet"] {
        assert!(summary.contains(text), "{summary}");
    }

    let counts = "SELECT count(*), count(DISTINCT user_id), count(DISTINCT item_id), min(array_length(phi)), \
                  sum(CASE WHEN (outcome IS NOT NULL) = treated THEN 0 ELSE 1 END)";
    assert_eq!(query(folder.path(), &format!("{counts} FROM 'log/'")), "30000,200,50,3,0");
    assert_eq!(query(folder.path(), &format!("{counts} FROM 'uniform.parquet'")), "4000,200,50,3,0");
    assert_eq!(
        query(folder.path(), "SELECT DISTINCT split FROM 'log/' ORDER BY 1").lines().collect::<Vec<_>>(),
        ["test", "train", "validation"]
    );
}

#[test]
fn a_matrix_has_ratings() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--shape", "matrix", "--users", "200", "--items", "50", "--dim", "3", "--output", "m.parquet"];
    succeed(&mut simulate(folder.path(), &arguments));
    let sql = "SELECT count(*) = count(DISTINCT user_id * 50 + item_id), bool_and(treated), \
               bool_and((rating >= 4) = (outcome = 1)) FROM 'm.parquet'";
    assert_eq!(query(folder.path(), sql), "true,true,true");
}

/// IPS by the true propensities is near the truth in every world, and the mean over treated rows in the placebo alone.
#[test]
fn other_worlds_are_made_by_options() {
    let folder = tempfile::tempdir().unwrap();
    for (name, options, biased) in [
        ("plain", &[][..], true),
        ("placebo", &["--placebo"], false),
        ("clustered", &["--user-correlation", "0.1"], true),
        ("unseen", &["--unseen", "1"], true),
        ("placebo-unseen", &["--placebo", "--unseen", "1", "--user-correlation", "0.1"], false),
    ] {
        let output = format!("{name}.parquet");
        let arguments = ["--rows", "100000", "--users", "1000", "--items", "500", "--seed", "3", "--output", &output];
        succeed(&mut simulate(folder.path(), &[&arguments[..], options].concat()));
        let sql = format!(
            "SELECT abs(naive_treated(treated, outcome) / avg(true_conversion) - 1) > 0.25 AS biased, \
             abs(ips(treated, true_propensity, outcome) / avg(true_conversion) - 1) < 0.1 AS ips FROM '{output}'"
        );
        assert_eq!(query(folder.path(), &sql), format!("{biased},true"), "{name}");
    }
}

#[test]
fn lost_output_streams_end_no_work() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = simulate(folder.path(), &["--rows", "100", "--output", "a.parquet", "--log", "no such filter"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    assert!(child.wait().unwrap().success());
    assert_eq!(query(folder.path(), "SELECT count(*) FROM 'a.parquet'"), "100");
}

#[test]
fn mistakes_are_named_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, message) in [
        (&["--rows", "0"][..], "rows = 0"),
        (&["--treated-rate", "1"], "treated-rate = 1"),
        (&["--miscalibration", "-1"], "miscalibration = -1"),
        (&["--dim", "0"], "dim = 0"),
        (&["--user-correlation", "1"], "user-correlation = 1: give a number from 0 (none) to below 1"),
        (&["--unseen", "-1"], "unseen = -1: give 0 (nothing) or more"),
        (&["--shape", "matrix", "--rows", "9"], "--rows belongs to the log shape"),
        (&["--uniform-rows", "9"], "--uniform"),
        (&["--rows", "100", "--uniform", "u.csv"], "u.csv"),
    ] {
        let (code, error) = fail(&mut simulate(folder.path(), &[arguments, &["--output", "log/"][..]].concat()));
        assert!(code == 2 && error.contains(message), "{error}");
    }
    assert!(!folder.path().join("log/part-00000.parquet").exists());
}
