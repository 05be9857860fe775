//! The main job: simulate, audit, train, score, audit again.

use std::process::Command;

use serde_json::Value;

use crate::s3_server::S3Server;
use crate::support::{counterweight, fail, repository, succeed};

/// Runs the demo's job with its data in the folder at `dir`, and gives the figures of the two audits.
fn main_job(dir: &str, environment: &[(&str, &str)]) -> (Value, Value) {
    let run = |arguments: &[&str]| -> Command {
        let mut command = counterweight();
        command.envs(environment.iter().copied()).args(arguments);
        command
    };
    let job = repository("examples/demo.toml").to_str().unwrap().to_owned();
    let vars = format!("vars.dir={dir}");
    let log = format!("{dir}/log/");
    let rows = ["--rows", "120000", "--users", "600", "--items", "200", "--seed", "5"];
    succeed(run(&["simulate", "--output", &log]).args(rows));
    succeed(&mut run(&["audit", &job, "--set", &vars, "--audit", "before"]));

    let (code, error) = fail(&mut run(&["audit", &job, "--set", &vars, "--audit", "after"]));
    assert!(code == 2 && error.contains("[tables.scored]") && error.contains("counterweight score"), "{code} {error}");

    succeed(&mut run(&["train", &job, "--set", &vars]));
    succeed(&mut run(&["score", &job, "--set", &vars]));
    succeed(&mut run(&["audit", &job, "--set", &vars, "--audit", "after"]));

    let figures = |audit: &str| -> Value {
        let mut balance = serde_json::Map::new();
        for (check, condition) in [("balance", "true"), ("estimates", "estimator = 'ips'")] {
            let query = format!("SELECT * FROM '{dir}/audit/{audit}/{check}.parquet' WHERE {condition}");
            let row = succeed(&mut run(&["sql", "--format", "ndjson", "-c", &query]));
            balance.extend(serde_json::from_str::<serde_json::Map<_, _>>(row.trim()).unwrap());
        }
        balance.into()
    };
    (figures("before"), figures("after"))
}

fn assert_improved(before: &Value, after: &Value) {
    let figure = |figures: &Value, name: &str| figures[name].as_f64().unwrap_or_else(|| panic!("{name} in {figures}"));
    assert_eq!(figure(before, "n"), figure(after, "n"), "the same rows are audited");
    let (bmse_before, bmse_after) = (figure(before, "bmse"), figure(after, "bmse"));
    assert!(bmse_after < bmse_before / 5.0, "BMSE {bmse_before} became {bmse_after}");
    let off = |figures: &Value| (figure(figures, "estimate") / figure(figures, "true_error") - 1.0).abs();
    assert!(off(after) < off(before) / 2.0, "the IPS estimate was {} off, and is {}", off(before), off(after));
}

#[test]
fn the_main_job_on_files() {
    let folder = tempfile::tempdir().unwrap();
    let (before, after) = main_job(folder.path().to_str().unwrap(), &[]);
    assert_improved(&before, &after);

    let metrics = folder.path().join("audit/after.prom");
    let promtool =
        Command::new("promtool").args(["check", "metrics"]).stdin(std::fs::File::open(metrics).unwrap()).output();
    let promtool = promtool.expect("promtool, of Debian's package prometheus; `make test` installs it");
    assert!(promtool.status.success(), "{}", String::from_utf8_lossy(&promtool.stderr));
    assert_eq!(String::from_utf8_lossy(&promtool.stderr), "", "no lint either");
}

#[test]
fn the_main_job_on_s3() {
    let server = S3Server::start("bucket");
    let (before, after) = main_job("s3://bucket/jobs/demo", &server.environment());
    assert_improved(&before, &after);
    let objects = server.objects("bucket", "jobs/demo/model");
    assert!(objects.iter().any(|name| name.ends_with("manifest.json")), "{objects:?}");
    let logged = server.objects("bucket", "jobs/demo/log");
    let scored = server.objects("bucket", "jobs/demo/scored");
    assert_eq!(scored.len(), logged.len(), "the layout is kept");
}
