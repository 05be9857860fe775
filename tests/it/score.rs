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

    // Again, over what is there.
    succeed(&mut score(folder, &[]));
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
        (&["score.output=later/"], "lies in score.output"),
        (&["score.output=later/below/"], "lies in the table's folder"),
        (&["score.output=."], "lies in score.output"),
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
