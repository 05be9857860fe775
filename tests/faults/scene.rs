//! A folder with a small log, a job on it, and tables that tell from which generation they are.

use std::fmt::Write;
use std::path::Path;

use crate::process::{counterweight, outcome};

/// Input files of `score`.
pub(crate) const FILES: u64 = 60;
const ROWS: u64 = 20;

const JOB: &str = r#"
name = "faults"

[tables.log]
url = "log/"

[tables.later]
url = "later/"

[tables.first]
url = "first/"

[tables.second]
url = "second/"

[columns]
user = "who"
item = "what"
treated = "treated"
outcome = "outcome"
propensity = "p"

[train]
preset = "dr-v2"
output = "model/"

[train.data]
train = "SELECT * FROM log"
validation = "SELECT * FROM log"

[train.model]
dim = 4

[train.optimizer]
epochs = 3
batch_size = 64

[train.checkpoint]
every_seconds = 0
resume = true

[score]
table = "later"
output = "scored/"

[audit.one]
query = "SELECT * FROM log"
segments = ["seg"]
output = "audit/"
"#;

pub(crate) fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// The log, of 200 rows more than `generation`.
pub(crate) fn write_log(folder: &Path, generation: u64) {
    let mut log = "who,what,treated,outcome,p,seg\n".to_owned();
    for row in 0..200 + generation {
        let treated = row % 3 == 0;
        let outcome = if treated { (row % 2).to_string() } else { String::new() };
        let (user, item) = (row % 10, row / 10 % 5);
        writeln!(log, "{user},i{item},{},{outcome},0.{},s{}", u8::from(treated), 3 + row % 4, row % 3).unwrap();
    }
    write(folder, "log/a.csv", &log);
}

/// A table of so many files to score.
pub(crate) fn write_files(folder: &Path, table: &str, files: u64, generation: u64) {
    for file in 0..files {
        let mut text = "who,what,file,generation\n".to_owned();
        for row in 0..ROWS {
            writeln!(text, "{},i{},{file},{generation}", row % 10, row % 5).unwrap();
        }
        write(folder, &format!("{table}/f{file:04}.csv"), &text);
    }
}

/// A folder with the job, its log and a table to score.
pub(crate) fn scene() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "job.toml", JOB);
    write_log(folder.path(), 0);
    write_files(folder.path(), "later", FILES, 0);
    folder
}

/// Runs the executable, which must succeed.
pub(crate) fn succeed(folder: &Path, arguments: &[&str]) -> String {
    let (code, stdout, stderr) = outcome(&mut counterweight(folder, arguments));
    assert_eq!(code, Some(0), "{arguments:?}\n{stderr}");
    stdout
}

/// What one look at a folder gave.
pub(crate) enum Look {
    /// What was seen, which tells the generation.
    Whole(String),
    /// Exit code 1: a file was removed or replaced under the reader, which may look again.
    Again,
    /// What nobody may see.
    Wrong(String),
}

/// Looks by a query.
pub(crate) fn query(folder: &Path, sql: &str) -> Look {
    let (code, stdout, stderr) =
        outcome(&mut counterweight(folder, &["sql", "--format", "csv", "--no-header", "-c", sql]));
    match code {
        Some(0) => Look::Whole(stdout.trim_end().to_owned()),
        Some(1) if ["removed", "replaced", "gone", "changed"].iter().any(|word| stderr.contains(word)) => Look::Again,
        code => Look::Wrong(format!("exit code {code:?}: {stderr}")),
    }
}

/// Looks at an output of `score`, which must be whole: as many files as the input, all of one generation.
pub(crate) fn scored(folder: &Path, output: &str, files: u64) -> Look {
    let sql = format!(
        "SELECT count(DISTINCT file), count(*), min(generation), max(generation), count(prediction) FROM '{output}'"
    );
    let seen = query(folder, &sql);
    let Look::Whole(row) = &seen else { return seen };
    let fields: Vec<&str> = row.split(',').collect();
    let rows = (files * ROWS).to_string();
    match fields[..] {
        [of, all, first, last, predicted]
            if of == files.to_string() && all == rows && predicted == rows && first == last =>
        {
            Look::Whole(first.to_owned())
        }
        _ => Look::Wrong(format!("files, rows, first and last generation, predictions: {row}")),
    }
}
