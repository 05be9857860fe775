//! Runs that have few open files, and runs that meet.

use std::process::Command;

use crate::folder::leftovers;
use crate::process::{Run, counterweight, outcome};
use crate::scene::{FILES, Look, scene, scored, succeed, write_files};

#[test]
fn score_of_many_files_holds_few_of_them_open() {
    let folder = scene();
    let folder = folder.path();
    succeed(folder, &["train", "job.toml", "--device", "cpu"]);
    for (files, limit) in [(1_100, 1_024), (300, 128)] {
        write_files(folder, "later", files, files);
        let score = counterweight(folder, &["score", "job.toml"]);
        let mut limited = Command::new("bash");
        limited.current_dir(folder).args(["-c", &format!("ulimit -n {limit} && exec \"$@\""), "bash"]);
        limited.arg(score.get_program()).args(score.get_args());
        let (code, _, stderr) = outcome(&mut limited);
        assert_eq!(code, Some(0), "{files} files, {limit} of which may be open\n{stderr}");
        match scored(folder, "scored/", files) {
            Look::Whole(seen) => assert_eq!(seen, files.to_string()),
            Look::Again => panic!("a file is gone"),
            Look::Wrong(fault) => panic!("{fault}"),
        }
        std::fs::remove_dir_all(folder.join("later")).unwrap();
    }
}

#[test]
fn two_scores_of_one_output_leave_the_whole_result_of_one() {
    let folder = scene();
    let folder = folder.path();
    succeed(folder, &["train", "job.toml", "--device", "cpu"]);
    write_files(folder, "first", FILES, 1);
    write_files(folder, "second", FILES, 2);
    let mut refused = 0;
    for attempt in 0..5 {
        let runs = ["score.table='first'", "score.table='second'"]
            .map(|set| Run::start(&mut counterweight(folder, &["score", "job.toml", "--set", set])));
        let ends = runs.map(|run| run.end().unwrap());
        let succeeded = [1, 2].into_iter().zip(&ends).filter(|(_, (status, _))| status.success()).map(|(of, _)| of);
        let succeeded: Vec<i32> = succeeded.collect();
        refused += 2 - succeeded.len();
        for (status, stderr) in &ends {
            assert!(
                status.success() || matches!(status.code(), Some(1 | 2)) && stderr.contains("another run"),
                "attempt {attempt}: {status}: {stderr}"
            );
        }
        match scored(folder, "scored/", FILES) {
            Look::Whole(seen) => assert!(succeeded.iter().any(|of| of.to_string() == seen), "{seen}: {succeeded:?}"),
            Look::Again => panic!("attempt {attempt}: a file is gone"),
            Look::Wrong(fault) => panic!("attempt {attempt}: {fault}"),
        }
        if let Err(fault) = leftovers(&folder.join("scored")) {
            panic!("attempt {attempt}: {fault}");
        }
    }
    println!("two scores of one output: 5 times, {refused} refused");
}
