//! Two executables: the SQL tool, which needs no libtorch, and the one that trains and scores.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::support::{counterweight, fail, succeed};

fn libraries(program: &str) -> String {
    succeed(Command::new("ldd").arg(program))
}

#[test]
fn the_sql_tool_loads_no_libtorch() {
    let program = env!("CARGO_BIN_EXE_counterweight");
    let loaded = libraries(program);
    assert!(loaded.contains("libc.so"), "{loaded}");
    assert!(!loaded.contains("torch") && !loaded.contains("c10"), "{loaded}");
    let trains = libraries(&format!("{program}-train"));
    assert!(trains.contains("libtorch_cpu.so") && !trains.contains("not found"), "{trains}");
}

#[test]
fn training_and_scoring_are_handed_over() {
    let train = succeed(counterweight().args(["train", "--help"]));
    assert!(train.contains("--resume") && train.contains("JOB"), "{train}");
    let (code, error) = fail(counterweight().args(["score", "no-such-job.toml"]));
    assert_eq!(code, 2);
    assert!(error.contains("cannot read the job file no-such-job.toml"), "{error}");
}

#[test]
fn a_missing_or_another_executable_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("counterweight-train");
    let train = || {
        let mut command = counterweight();
        command.args(["train", "job.toml"]).env("COUNTERWEIGHT_TRAIN", &program);
        command
    };
    let (code, error) = fail(&mut train());
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("cannot start") && error.contains("COUNTERWEIGHT_TRAIN"), "{error}");

    let script = |text: &str| {
        std::fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    script("echo counterweight-train 9.9.9");
    let (code, error) = fail(&mut train());
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("9.9.9") && error.contains(env!("CARGO_PKG_VERSION")), "{error}");

    script("echo 'error while loading shared libraries: libtorch.so' >&2; exit 127");
    let (code, error) = fail(&mut train());
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("libtorch.so") && error.contains("make install"), "{error}");
}

#[test]
fn the_job_or_the_user_says_how_long_threads_of_the_trainer_spin() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("counterweight-train");
    let version = env!("CARGO_PKG_VERSION");
    let text =
        format!("#!/bin/sh\n[ \"$1\" = --version ] && echo counterweight-train {version} || echo $GOMP_SPINCOUNT\n");
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let job = folder.path().join("job.toml");
    std::fs::write(&job, "name = \"x\"\nsession.beside_others = true\n").unwrap();
    for command in ["train", "score"] {
        let run = || {
            let mut run = counterweight();
            run.arg(command).arg(&job).env("COUNTERWEIGHT_TRAIN", &program);
            run.env_remove("GOMP_SPINCOUNT").env_remove("OMP_WAIT_POLICY");
            run
        };
        assert_eq!(succeed(&mut run()), "1000\n");
        assert_eq!(succeed(run().env("GOMP_SPINCOUNT", "7")), "7\n");
    }
}

#[test]
fn a_host_embeds_an_audit_and_adds_an_operator() {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_counterweight")).with_file_name("examples").join("embed");
    let printed = succeed(&mut Command::new(program));
    for line in ["audit: Audit log of embedded", "n = 30000, BMSE = ", "count: 30000 rows"] {
        assert!(printed.contains(line), "{printed}");
    }
}
