//! How runs end: exit codes, signals, and arguments that make no sense.

use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value as Json, json};

use crate::support::{counterweight, fail, write_log};

/// A cross join that takes minutes.
const LONG: &str = "SELECT sum(a.value * b.value) FROM generate_series(1, 2000000) a, generate_series(1, 2000000) b \
                    WHERE (a.value + b.value) % 3 = 1";

fn sql(query: &str) -> std::process::Command {
    let mut command = counterweight();
    command.args(["sql", "-c", query]);
    command
}

#[test]
fn faults_of_the_data_are_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        format!("SELECT * FROM '{}'", path.display())
    };
    for query in [
        "SELECT 1 / (value - 1) FROM generate_series(1, 2)".to_owned(),
        "SELECT CAST(CAST(value AS VARCHAR) || 'x' AS BIGINT) FROM generate_series(1, 2)".to_owned(),
        path("cut.parquet", "PAR1, and no more of it"),
        path("broken.json", "{\"a\": 1}\n{\"a\": \n"),
    ] {
        let (code, error) = fail(&mut sql(&query));
        assert_eq!(code, 2, "{query}: {error}");
    }
}

#[test]
fn a_job_that_is_not_there_is_exit_code_2() {
    for command in ["audit", "check", "train"] {
        let (code, error) = fail(counterweight().args([command, "no-such-job.toml"]));
        assert_eq!(code, 2, "{command}: {error}");
        assert!(error.contains("no-such-job.toml"), "{error}");
    }
}

#[test]
fn no_threads_are_refused() {
    let (code, error) = fail(sql("SELECT 1").args(["--threads", "0"]));
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("--threads") && error.contains("from 1"), "{error}");
}

#[test]
fn a_long_join_ends_soon_after_a_signal() {
    for (signal, expected) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let mut child = sql(LONG).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_secs(3));
        assert!(child.try_wait().unwrap().is_none(), "the join is too short");
        let asked = Instant::now();
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(expected), "{status}");
        assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    }
}

/// The JSON lines that a command writes to standard error: all, and the one that tells of the run.
fn json_lines(arguments: &[&str]) -> (Vec<Json>, Json) {
    let output = counterweight().args(["--log-format", "json"]).args(arguments).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<Json> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert!(lines.iter().all(|line| line["message"].is_string() && line["timestamp"].is_string()), "{text}");
    let of_run: Vec<Json> = lines.iter().filter(|line| line["command"].is_string()).cloned().collect();
    let [of_run] = &of_run[..] else { panic!("one line tells of the run: {text}") };
    assert_eq!(of_run, lines.last().unwrap());
    assert_eq!(
        (of_run["command"].as_str(), of_run["exit_code"].as_i64()),
        (Some(arguments[0]), output.status.code().map(i64::from))
    );
    assert!(of_run["seconds"].as_f64().unwrap() > 0.0);
    (lines, of_run.clone())
}

#[test]
fn each_run_is_told_by_one_json_line() {
    let folder = tempfile::tempdir().unwrap();
    write_log(folder.path());
    let job = format!(
        r#"
        name = "told"
        vars.dir = "{}"
        tables.log.url = "${{dir}}/log.csv"
        [columns]
        user = "who"
        item = "what"
        treated = "treated"
        outcome = "outcome"
        propensity = "p"
        [train]
        preset = "ips-v2"
        output = "${{dir}}/model/"
        data.train = "SELECT * FROM log"
        data.validation = "SELECT * FROM log"
        model.dim = 2
        optimizer.epochs = 2
        evaluation.metric = "log_loss"
        [score]
        table = "log"
        output = "${{dir}}/scored/"
        [audit.all]
        query = "SELECT * FROM log"
        output = "${{dir}}/audit/"
        "#,
        folder.path().display()
    );
    let file = folder.path().join("job.toml");
    std::fs::write(&file, job).unwrap();
    let file = file.to_str().unwrap();

    let (lines, train) = json_lines(&["train", file]);
    let epochs: Vec<_> = lines.iter().filter(|line| line["message"] == "trained an epoch").collect();
    assert_eq!(epochs.len(), 2);
    assert_eq!(epochs[1]["epoch"], 2);
    assert_eq!(epochs[1]["losses"]["total"], epochs[1]["loss"]);
    assert_eq!((&train["rows"], &train["users"], &train["epochs"]), (&json!(200), &json!(10), &json!(2)));
    assert!(train["validation"]["log_loss"].is_number() && train["outputs"].as_array().unwrap().len() > 1, "{train}");

    let (_, score) = json_lines(&["score", file]);
    assert_eq!((&score["rows"], &score["files"]), (&json!(200), &json!(1)));

    let (_, audit) = json_lines(&["audit", file]);
    let all = &audit["audits"]["all"];
    assert_eq!((&all["rows"], &all["alarm"], &audit["alarm"]), (&json!(200), &json!(false), &json!(false)), "{audit}");
    assert_eq!(all["verdict"], "undecided", "{audit}");
    assert!(all["text"].as_str().unwrap().contains("imbalance"), "{audit}");
    let outputs = audit["outputs"].as_array().unwrap();
    assert!(outputs.iter().any(|url| url.as_str().unwrap().ends_with("/audit.json")), "{audit}");

    let (_, audit) = json_lines(&["audit", file, "--set", "audit.all.query=SELECT * FROM log WHERE false"]);
    assert_eq!(audit["exit_code"], 2, "{audit}");
    assert!(audit["audits"]["all"]["fault"].as_str().unwrap().contains("none"), "{audit}");
    let (_, sql) = json_lines(&["sql", "-c", "SELECT nothing"]);
    assert!(sql["exit_code"] == 2 && sql["message"].as_str().unwrap().contains("nothing"), "{sql}");
    let quiet =
        counterweight().args(["--log-format", "json", "--log", "warn", "sql", "-c", "SELECT 1"]).output().unwrap();
    assert!(quiet.stderr.is_empty());
}
