//! How runs end: exit codes, signals, and arguments that make no sense.

use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{counterweight, fail};

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

#[test]
fn a_failure_is_a_json_line_where_log_lines_are() {
    let (code, error) = fail(counterweight().args(["--log-format", "json", "sql", "-c", "SELECT nothing"]));
    assert_eq!(code, 2, "{error}");
    for line in error.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["message"].is_string() && line["timestamp"].is_string(), "{line}");
    }
    assert!(error.contains("nothing"), "{error}");
}
