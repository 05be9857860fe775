//! `counterweight score`, on models that `counterweight train` makes.

use std::path::Path;

use crate::support::{counterweight, fail, succeed};

const JOB: &str = r#"
name = "ratings"
seed = 3

[tables.log]
url = "log/"

[tables.later]
url = "later/"

[columns]
user = "who"
item = "what"
treated = "treated"
outcome = "outcome"

[train]
preset = "dr-v2"
output = "model/"

[train.data]
train = "SELECT * FROM log"
validation = "SELECT * FROM log"

[train.model]
dim = 4

[train.optimizer]
epochs = 2
batch_size = 64

[score]
table = "later"
output = "scored/"
"#;

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// A folder with a trained model of users 0 to 9 and items `i0` to `i4`.
fn trained(set: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut log = "who,what,treated,outcome\n".to_owned();
    for row in 0..200 {
        let (user, item) = (row % 10, (row / 10) % 5);
        let outcome = if row % 3 == 0 { (row % 2).to_string() } else { String::new() };
        log += &format!("{user},i{item},{},{outcome}\n", row % 3 == 0);
    }
    write(folder.path(), "log/a.csv", &log);
    write(folder.path(), "later/placeholder.csv", "who,what\n0,i0\n");
    write(folder.path(), "job.toml", JOB);
    let set = set.iter().flat_map(|assignment| ["--set", assignment]);
    succeed(counterweight().current_dir(&folder).args(["train", "job.toml", "--device", "cpu"]).args(set));
    std::fs::remove_dir_all(folder.path().join("later")).unwrap();
    folder
}

fn score(folder: &Path, set: &[&str]) -> std::process::Command {
    let mut command = counterweight();
    command.current_dir(folder).args(["score", "job.toml"]);
    for assignment in set {
        command.args(["--set", assignment]);
    }
    command
}

fn query(folder: &Path, sql: &str) -> String {
    succeed(counterweight().current_dir(folder).args(["sql", "--format", "csv", "--no-header", "-c", sql]))
}

#[test]
fn files_keep_their_places_and_rows_their_order() {
    let folder = trained(&[]);
    let folder = folder.path();
    write(folder, "later/day=2026-01-01/a.csv", "who,what,prediction,note\n3,i1,9,x\n1,i4,9,y\n3,i1,9,z\n");
    write(folder, "later/day=2026-01-02/b.csv", "who,what,prediction,note\n3,i1,9,w\n");
    let said = succeed(&mut score(folder, &[]));
    assert!(said.contains("scored 4 rows of 2 files"), "{said}");

    let rows = query(folder, "SELECT note, day FROM 'scored/' ORDER BY day");
    assert_eq!(rows, "x,2026-01-01\ny,2026-01-01\nz,2026-01-01\nw,2026-01-02\n");
    let range = "SELECT count(*) FILTER (WHERE propensity > 0 AND propensity < 1 AND prediction < 1 AND imputed_error >= 0) FROM 'scored/'";
    assert_eq!(query(folder, range), "4\n");
    let same = "SELECT count(DISTINCT prediction), count(DISTINCT propensity) FROM 'scored/' WHERE who = 3";
    assert_eq!(query(folder, same), "1,1\n", "a pair has one score, wherever it stands");
    let files = query(folder, "SELECT count(*) FROM 'scored/day=2026-01-02/b.parquet'");
    assert_eq!(files, "1\n");

    // Again, over what is there, of an input that has moved on by a day.
    std::fs::remove_dir_all(folder.join("later/day=2026-01-01")).unwrap();
    write(folder, "later/day=2026-01-03/c.csv", "who,what,prediction,note\n3,i1,9,v\n");
    succeed(&mut score(folder, &[]));
    assert_eq!(query(folder, "SELECT note, day FROM 'scored/' ORDER BY day"), "w,2026-01-02\nv,2026-01-03\n");
    let names: Vec<_> = walk(&folder.join("scored"));
    assert_eq!(names.len(), 3, "two files and the manifest: {names:?}");
    let hidden = std::fs::read_dir(folder)
        .unwrap()
        .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
    assert_eq!(hidden.count(), 0);

    // A scored table can be scored: its files keep their names.
    let again = ["tables.later.url=scored/", "score.output=again/"];
    succeed(&mut score(folder, &again));
    assert_eq!(query(folder, "SELECT count(*) FROM 'again/day=2026-01-03/c.parquet'"), "1\n");
}

#[test]
fn the_rows_of_a_query_are_scored_into_partitions() {
    let folder = trained(&[]);
    let folder = folder.path();
    write(folder, "later/a.csv", "who,what,day,note\n3,i1,2,x\n1,i4,1,y\n3,i1,,z\n1,i1,2,w\n");
    let sql = "score.query=SELECT who, what, day, upper(note) AS note FROM later WHERE note <> 'w'";
    let score = |set: &[&str]| {
        let job = std::fs::read_to_string(folder.join("job.toml")).unwrap().replace("table = \"later\"\n", "");
        write(folder, "query.toml", &job);
        let mut command = counterweight();
        command.current_dir(folder).args(["score", "query.toml", "--set", sql]);
        for set in set {
            command.args(["--set", set]);
        }
        command
    };
    let said = succeed(&mut score(&[]));
    assert!(said.contains("scored 3 rows of 1 files"), "{said}");
    let rows = "SELECT note, day, prediction > 0 FROM 'scored/' ORDER BY note";
    assert_eq!(query(folder, rows), "X,2,true\nY,1,true\nZ,,true\n");

    let said = succeed(&mut score(&["score.partition_by=[\"day\"]"]));
    assert!(said.contains("scored 3 rows of 3 files"), "{said}");
    assert_eq!(query(folder, rows), "X,2,true\nY,1,true\nZ,,true\n");
    let listed = walk(&folder.join("scored"));
    for day in ["day=1", "day=2", "day=__HIVE_DEFAULT_PARTITION__"] {
        assert_eq!(listed.iter().filter(|path| path.to_string_lossy().contains(day)).count(), 1, "{listed:?}");
    }
    for (set, expected) in [
        ("score.partition_by=[\"dya\"]", "did you mean \"day\"?"),
        ("score.table=later", "score.table and score.query are both given"),
        ("score.query=SELECT * FROM nowhere", "score.query does not plan"),
    ] {
        let (code, error) = fail(&mut score(&[set]));
        assert!(code == 2 && error.contains(expected), "{set}: {code} {error}");
    }
    assert_eq!(query(folder, rows), "X,2,true\nY,1,true\nZ,,true\n", "what was there stays");
}

/// Names that look like patterns or paths are names.
#[test]
fn odd_names_are_scored_inside_the_folder() {
    let folder = trained(&[]);
    let folder = folder.path();
    for name in ["p1.csv", "p[1].csv", "b..\\x.csv", "a\\..\\..\\x.csv", "a%20b#?.csv"] {
        write(folder, &format!("later/{name}"), "who,what\n3,i1\n");
    }
    let before: Vec<_> = walk(folder);
    let said = succeed(&mut score(folder, &[]));
    assert!(said.contains("scored 5 rows of 5 files"), "{said}");
    assert_eq!(query(folder, "SELECT count(*) FROM 'scored/'"), "5\n");
    let new = walk(folder).into_iter().filter(|path| !before.contains(path));
    assert!(new.into_iter().all(|path| path.starts_with(folder.join("scored"))));
}

#[test]
fn more_files_are_scored_than_may_be_open() {
    let folder = trained(&[]);
    let folder = folder.path();
    for file in 0..300 {
        write(folder, &format!("later/{file}.csv"), "who,what\n3,i1\n");
    }
    let binary = env!("CARGO_BIN_EXE_counterweight");
    let limited = format!("ulimit -n 128; exec {binary} score job.toml");
    let said = succeed(std::process::Command::new("bash").current_dir(folder).args(["-c", &limited]));
    assert!(said.contains("scored 300 rows of 300 files"), "{said}");
}

/// The BMSE that SQL finds in what is written is that which training recorded of the population.
#[test]
fn phi_is_written_where_it_is_asked_for() {
    let dot = &["train.model.head=dot"][..];
    let mlp = &["train.model.head=mlp", "train.model.hidden=[5, 6]"];
    for (phi, head, length) in
        [("constant", dot, 1), ("product", dot, 4), ("concat", mlp, 8), ("prediction", mlp, 1), ("learned", mlp, 6)]
    {
        for embeddings in ["train.model.embeddings=separate", "train.model.embeddings=shared"] {
            let phi = format!("train.loss.phi=\"{phi}\"");
            let folder = trained(&[&[&phi, embeddings], head].concat());
            let folder = folder.path();
            let said = succeed(&mut score(folder, &["score.table=log", "score.phi=true"]));
            assert!(said.contains("scored 200 rows"), "{said}");
            let lengths = query(folder, "SELECT DISTINCT array_length(phi) FROM 'scored/'");
            assert_eq!(lengths, format!("{length}\n"));
            let bmse: f64 =
                query(folder, "SELECT bmse(treated, propensity, phi) FROM 'scored/'").trim().parse().unwrap();
            let manifest = std::fs::read_to_string(folder.join("model/manifest.json")).unwrap();
            let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
            let trained = manifest["training"]["validation"]["bmse"].as_f64().unwrap();
            assert!((bmse - trained).abs() < 1e-4 * trained, "{phi}, {head:?}, {embeddings}: {bmse} is not {trained}");
        }
    }
}

#[test]
fn unknown_ids_stop_the_run_or_are_counted() {
    let folder = trained(&[]);
    let folder = folder.path();
    write(folder, "later/a.csv", "who,what\n3,i1\n77,i1\n78,i9\n");
    let (code, error) = fail(&mut score(folder, &[]));
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("knows no user 77 (2 of 3 rows") && error.contains("score.unknown"), "{error}");
    assert!(!folder.join("scored/a.parquet").exists(), "nothing is half-written");

    let said = succeed(&mut score(folder, &["score.unknown=average"]));
    assert!(said.contains("2 rows have an unknown user, 1 an unknown item"), "{said}");
    let averages = "SELECT count(DISTINCT prediction) FROM 'scored/' WHERE who > 70";
    assert_eq!(query(folder, averages), "2\n", "one with a known item, one without");
}

/// A model without embeddings scores, too.
#[test]
fn a_logistic_regression_gives_the_propensities() {
    let folder = trained(&[]);
    let folder = folder.path();
    write(folder, "later/a.csv", "who,what\n3,i1\n77,i1\n78,i9\n3,i1\n4,i1\n");
    let set = ["train.propensity.source=logistic", "train.loss.lambda=0", "score.unknown=average"];
    let set: Vec<&str> = set.iter().flat_map(|set| ["--set", set]).collect();
    succeed(counterweight().current_dir(folder).args(["train", "job.toml", "--device", "cpu"]).args(&set));
    succeed(counterweight().current_dir(folder).args(["score", "job.toml"]).args(&set));
    let range = "SELECT count(*) FROM 'scored/' WHERE propensity > 0.1 AND propensity < 0.9";
    assert_eq!(query(folder, range), "5\n", "a third of the log is treated");
    let different = "SELECT count(DISTINCT propensity), count(DISTINCT prediction) FROM 'scored/'";
    assert_eq!(query(folder, different), "4,4\n");
}

#[test]
fn one_bad_file_withholds_all() {
    let folder = trained(&[]);
    let folder = folder.path();
    write(folder, "later/a.csv", "who,what\n3,i1\n");
    write(folder, "later/b.csv", "who,what\n4,i1\n,i1\n");
    let (code, error) = fail(&mut score(folder, &[]));
    assert!(code == 2 && error.contains("b.csv") && error.contains("NULL"), "{code} {error}");
    let left: Vec<_> = walk(&folder.join("scored"));
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn mistakes_are_named() {
    let folder = trained(&[]);
    let folder = folder.path();
    write(folder, "later/a.csv", "who,what\n3,i1\n");
    let cases: [(&[&str], &str); 7] = [
        (&["score.output=later/"], "lies where tables.later is read from"),
        (&["score.output=later/below/"], "lies where tables.later is read from"),
        (&["score.output=."], "already holds"),
        (&["columns.user=\"whom\""], "did you mean \"who\"?"),
        (&["score.model=nowhere/"], "there is no model at"),
        (&["device=cuda:99"], "cuda:99"),
        (&["score.output=log/"], "already holds"),
    ];
    for (set, expected) in cases {
        let (_, error) = fail(&mut score(folder, set));
        assert!(error.contains(expected), "{set:?}: {error}");
    }
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
