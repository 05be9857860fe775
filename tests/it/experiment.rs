//! `counterweight experiment`, as it is called.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::s3_server::S3Server;
use crate::support::{counterweight, fail, succeed};

const JOB: &str = r#"
name = "clicks"
device = "cpu"
[tables.log]
url = "log/"
[columns]
user = "user_id"
item = "item_id"
treated = "treated"
outcome = "outcome"
[train]
preset = "ips-v2"
output = "unused/"
[train.data]
train = "SELECT * FROM log WHERE split = 'train'"
validation = "SELECT * FROM log WHERE split = 'validation'"
test = "SELECT * FROM log WHERE split = 'test'"
[train.model]
dim = 4
[train.optimizer]
epochs = 3
batch_size = 2048
"#;

const EXPERIMENT: &str = r#"
name = "Clicks"
output = "out/"
job = "../jobs/clicks.toml"
seeds = "0-2"
baseline = "IPS-V2"
parallel = 2

[[method]]
name = "IPS-V2"

[[method]]
name = "DR-V2"
set.train.preset = "dr-v2"
"#;

/// A folder with a simulated log, a job and an experiment.
fn folder(experiment: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--rows", "20000", "--users", "100", "--items", "40", "--dim", "2", "--seed", "3"];
    succeed(counterweight().current_dir(&folder).args(["simulate", "--output", "log/"]).args(arguments));
    for (name, text) in [("jobs/clicks.toml", JOB), ("experiments/clicks.toml", experiment)] {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn experiment(folder: &Path) -> Command {
    let mut command = counterweight();
    command.current_dir(folder).args(["experiment", "experiments/clicks.toml"]);
    command
}

/// The rows of a query, as JSON.
fn query(folder: &Path, sql: &str) -> Vec<Value> {
    let rows = succeed(counterweight().current_dir(folder).args(["sql", "--format", "ndjson", "-c", sql]));
    rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// When each record of a trial was written.
fn records(folder: &Path) -> BTreeMap<PathBuf, SystemTime> {
    let Ok(entries) = fs::read_dir(folder.join("out/trials")) else { return BTreeMap::new() };
    let entries =
        entries.map(|entry| entry.unwrap()).filter(|entry| entry.path().extension().is_some_and(|e| e == "json"));
    // A record may be renamed into place between the listing and the look at it, not away.
    entries.map(|entry| (entry.path(), entry.metadata().unwrap().modified().unwrap())).collect()
}

/// Processes that run in `folder`.
fn processes(folder: &Path) -> usize {
    let runs_there = |process: &fs::DirEntry| fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd == folder);
    fs::read_dir("/proc").unwrap().filter_map(Result::ok).filter(runs_there).count()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(120), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Starts the experiment and waits until two trials have ended.
fn start(folder: &Path) -> Child {
    let mut command = experiment(folder);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("two trials have ended", || records(folder).len() >= 2);
    child
}

/// What must be the same however often the experiment was broken off.
const FIGURES: &str = "SELECT data, method, seed, trial, best_epoch, epochs, stop, validation_auc, test_auc, test_recall, \
                       test_ndcg, test_log_loss, validation_bmse, train_hash FROM 'out/results.parquet' \
                       ORDER BY method, seed";

#[test]
fn methods_are_compared_over_seeds() {
    let folder = folder(EXPERIMENT);
    let folder = folder.path();
    let text = succeed(&mut experiment(folder));

    let rows = query(folder, "SELECT * FROM 'out/results.parquet' ORDER BY method, seed");
    assert_eq!(rows.len(), 6);
    for (row, (method, seed)) in rows.iter().zip([("DR-V2", 0), ("DR-V2", 1), ("DR-V2", 2), ("IPS-V2", 0)]) {
        assert_eq!((&row["method"], &row["seed"], &row["data"]), (&method.into(), &seed.into(), &"Clicks".into()));
        assert_eq!((&row["train.optimizer.epochs"], &row["train.model.dim"]), (&3.into(), &4.into()));
        assert_eq!((&row["train.loss.method"], &row["device"]), (&method.to_lowercase().into(), &"cpu".into()));
        assert_eq!(row["history"].as_array().unwrap().len(), row["epochs"].as_u64().unwrap() as usize);
        let best = row["best_epoch"].as_f64().unwrap() as usize - 1;
        assert_eq!(row["history"][best]["auc"], row["validation_auc"]);
        assert!(row["wall_seconds"].as_f64().unwrap() > 0.0 && row["error"].is_null());
        let manifest = folder.join(format!("out/models/{}/manifest.json", row["trial"].as_str().unwrap()));
        let manifest: Value = serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
        assert_eq!(manifest["training"]["test"]["auc"], row["test_auc"]);
        assert_eq!(manifest["data"]["train"]["hash"], row["train_hash"]);
    }
    let dotted = query(folder, "SELECT DISTINCT \"train.loss.lambda\" AS weight FROM 'out/results.parquet'");
    assert_eq!(dotted.len(), 1);
    let epochs = "SELECT count(*) AS n FROM (SELECT unnest(history) AS epoch FROM 'out/results.parquet') \
                  WHERE epoch['loss_total'] > 0 AND epoch['auc'] > 0";
    assert_eq!(query(folder, epochs)[0]["n"], 18);

    let figure = "SELECT avg(test_auc) AS mean, stddev(test_auc) AS deviation FROM 'out/results.parquet' \
                  WHERE method = 'DR-V2'";
    let figure = &query(folder, figure)[0];
    let shown = format!("{:.4} ± {:.4}", figure["mean"].as_f64().unwrap(), figure["deviation"].as_f64().unwrap());
    let markdown = fs::read_to_string(folder.join("out/report.md")).unwrap();
    let html = fs::read_to_string(folder.join("out/report.html")).unwrap();
    assert!(text == markdown && markdown.contains(&shown) && html.contains(&shown), "{shown}: {markdown}");
    assert!(markdown.contains("## Clicks") && markdown.contains("### Against IPS-V2"), "{markdown}");
    for plot in ["plots/clicks-epochs-auc.svg", "plots/clicks-gain-ndcg.svg"] {
        assert!(markdown.contains(&format!("]({plot})")), "{plot}: {markdown}");
        let svg = fs::read_to_string(folder.join("out").join(plot)).unwrap();
        assert!(html.contains(&svg), "{plot} is in the page itself");
    }
    assert!(!html.contains("<img") && !html.contains("<script") && !html.contains("href="));

    // What is done is not done again, also where a method has another name and a seed is added.
    let before = records(folder);
    let figures = query(folder, FIGURES);
    succeed(&mut experiment(folder));
    assert_eq!((records(folder), query(folder, FIGURES)), (before.clone(), figures));
    let renamed = EXPERIMENT.replace("name = \"DR-V2\"", "name = \"Doubly robust\"");
    fs::write(folder.join("experiments/clicks.toml"), renamed).unwrap();
    succeed(experiment(folder).args(["--seeds", "0-3"]));
    let after = records(folder);
    assert_eq!(after.len(), 8);
    assert!(before.iter().all(|(path, written)| after[path] == *written));
    let methods = query(folder, "SELECT method, count(*) AS n FROM 'out/results.parquet' GROUP BY method ORDER BY 1");
    assert_eq!(methods, [json!({"method": "Doubly robust", "n": 4}), json!({"method": "IPS-V2", "n": 4})]);
}

/// Methods whose losses have different φ are compared by the BMSE of the same φ, and by no other.
#[test]
fn bmse_is_compared_where_phi_is_the_same() {
    let columns = "metrics = [\"bmse\", \"bmse_constant\", \"bmse_prediction\", \"auc\"]";
    let file = EXPERIMENT.replace("seeds = \"0-2\"", &format!("seeds = [0, 1]\n{columns}"));
    let folder = folder(&format!("{file}set.train.loss.phi = \"prediction\"\n"));
    let folder = folder.path();
    let markdown = succeed(&mut experiment(folder));
    let rows: Vec<Vec<&str>> =
        markdown.lines().map(|line| line.split('|').skip(1).map(str::trim).collect::<Vec<_>>()).collect();
    let figures = rows.iter().position(|cells| cells.first() == Some(&"method")).unwrap();
    assert_eq!(rows[figures][1..5], ["BMSE of its own φ", "BMSE of φ = 1", "BMSE of φ = r̂", "AUC"]);
    for row in &rows[figures + 2..figures + 4] {
        let is_ranked = |cell: &&str| cell.contains("**") || cell.contains("<ins>");
        assert_eq!(row[1..5].iter().map(is_ranked).collect::<Vec<_>>(), [false, true, true, true], "{row:?}");
    }
    assert!(markdown.contains("which are not the same here: it is not compared"), "{markdown}");
    let compared: Vec<&str> =
        rows[figures + 4..].iter().filter(|cells| cells.len() == 8).map(|cells| cells[1]).collect();
    assert_eq!(compared[..1], ["metric"]);
    assert_eq!(compared[2..], ["BMSE of φ = 1", "BMSE of φ = r̂", "AUC"]);
    assert!(markdown.contains("BMSE of φ = 1 is meant"), "{markdown}");

    let own = "SELECT method, bool_and(validation_bmse = CASE WHEN \"train.loss.phi\" = 'constant' \
               THEN validation_bmse_constant ELSE validation_bmse_prediction END) AS own, \
               bool_or(validation_bmse_constant = validation_bmse_prediction) AS same \
               FROM 'out/results.parquet' GROUP BY method ORDER BY method";
    let row = |method: &str| json!({"method": method, "own": true, "same": false});
    assert_eq!(query(folder, own), [row("DR-V2"), row("IPS-V2")]);

    let same = fs::read_to_string(folder.join("experiments/clicks.toml")).unwrap();
    let same = same.replace("set.train.loss.phi = \"prediction\"", "set.train.loss.phi = \"constant\"");
    fs::write(folder.join("experiments/clicks.toml"), same).unwrap();
    let markdown = succeed(&mut experiment(folder));
    assert!(markdown.contains("| BMSE ") && !markdown.contains("BMSE of its own φ"), "{markdown}");
    assert!(!markdown.contains("it is not compared"), "{markdown}");
}

#[test]
fn a_lost_standard_error_ends_no_trial() {
    let folder = folder(EXPERIMENT);
    let mut child = experiment(folder.path()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert!(child.wait().unwrap().success());
    assert_eq!(records(folder.path()).len(), 6);
}

#[test]
fn a_killed_experiment_resumes_where_it_was() {
    let folder = folder(&EXPERIMENT.replace("parallel = 2", "parallel = 1"));
    let folder = folder.path();
    let mut child = start(folder);
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the trial under way ends by itself", || processes(folder) == 0);
    let before = records(folder);
    assert!(before.len() < 6, "it was killed too late");
    assert!(!folder.join("out/results.parquet").exists());

    let partial = succeed(experiment(folder).arg("--report-only"));
    assert!(partial.starts_with(&format!("# Clicks\n\n{} trials.", before.len())), "{partial}");
    assert_eq!(records(folder), before, "a report runs nothing");

    succeed(&mut experiment(folder));
    let after = records(folder);
    assert_eq!(after.len(), 6);
    assert!(before.iter().all(|(path, written)| after[path] == *written), "what was done is not done again");
    let broken = query(folder, FIGURES);
    fs::remove_dir_all(folder.join("out")).unwrap();
    succeed(&mut experiment(folder));
    assert_eq!(query(folder, FIGURES), broken);
}

/// Whether every thread of a process is stopped by a signal.
fn is_stopped(process: &Child) -> bool {
    let threads = fs::read_dir(format!("/proc/{}/task", process.id())).unwrap();
    let state = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
    threads.map(Result::unwrap).map(state).all(|stat| stat.rsplit(')').next().unwrap().trim_start().starts_with('T'))
}

#[test]
fn a_folder_has_one_experiment_at_a_time() {
    let folder = folder(EXPERIMENT);
    let folder = folder.path();
    let mut first = start(folder);
    succeed(Command::new("kill").args(["-STOP", &first.id().to_string()]));
    wait_until("the experiment is stopped", || is_stopped(&first));
    let before = records(folder);

    std::os::unix::fs::symlink("out", folder.join("same")).unwrap();
    let (code, error) = fail(experiment(folder).args(["--output", "same/"]));
    assert!(code == 1 && error.contains("another experiment is running in ") && error.contains("/same"), "{error}");
    assert!(error.contains("wait for it to end, or name another folder"), "{error}");
    assert_eq!(records(folder), before, "it ran nothing");
    assert!(!folder.join("out/results.parquet").exists(), "it wrote nothing");
    succeed(experiment(folder).arg("--report-only"));

    // A killed one is out of the way at once, though its last trials are yet to end.
    first.kill().unwrap();
    first.wait().unwrap();
    succeed(experiment(folder).args(["--seeds", "3"]));
    assert_eq!(records(folder).len(), before.len() + 2);
}

#[test]
fn an_interrupted_experiment_ends_its_trials() {
    let folder = folder(&EXPERIMENT.replace("seeds = \"0-2\"", "seeds = \"0-20\""));
    let folder = folder.path();
    let child = start(folder);
    succeed(Command::new("kill").args(["-INT", &child.id().to_string()]));
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{error}");
    assert!(error.contains("trials, which are kept"), "{error}");
    assert_eq!(processes(folder), 0, "no trial is left behind");
    let done = records(folder);
    succeed(experiment(folder).args(["--seeds", "0-1"]));
    assert!(done.iter().all(|(path, written)| records(folder)[path] == *written));
}

#[test]
fn a_failed_trial_is_reported_and_tried_again() {
    let failing = format!("{EXPERIMENT}[[method]]\nname = \"Untestable\"\nset.train.data.test = \"SELECT 1\"\n");
    let folder = folder(&failing);
    let folder = folder.path();
    let (code, error) = fail(&mut experiment(folder));
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("Clicks, Untestable, seed 2: ") && error.contains("train.data.test"), "{error}");
    let failed = "SELECT method, count(*) AS n, count(error) AS failed, count(test_auc) AS finished \
                  FROM 'out/results.parquet' GROUP BY method ORDER BY method";
    assert_eq!(
        query(folder, failed),
        [
            json!({"method": "DR-V2", "n": 3, "failed": 0, "finished": 3}),
            json!({"method": "IPS-V2", "n": 3, "failed": 0, "finished": 3}),
            json!({"method": "Untestable", "n": 3, "failed": 3, "finished": 0}),
        ]
    );
    let report = fs::read_to_string(folder.join("out/report.md")).unwrap();
    assert!(report.contains("## Trials that failed") && report.contains("train.data.test"), "{report}");

    let before = records(folder);
    let (code, _) = fail(&mut experiment(folder));
    assert_eq!(code, 1);
    let after = records(folder);
    assert_eq!(before.iter().filter(|(path, written)| after[*path] != **written).count(), 3, "only what failed");
}

#[test]
fn a_candidate_that_diverges_is_not_selected_and_no_failure() {
    let rates = format!("{EXPERIMENT}[grid]\ntrain.optimizer.prediction.lr = [1e30, 1e-2]\n");
    let diverging = folder(&rates);
    let diverging = diverging.path();
    succeed(&mut experiment(diverging));
    let chosen = "SELECT DISTINCT \"train.optimizer.prediction.lr\" AS rate, error FROM 'out/results.parquet' \
                  WHERE selected";
    assert_eq!(query(diverging, chosen), [json!({"rate": 1e-2, "error": null})]);
    let report = fs::read_to_string(diverging.join("out/report.md")).unwrap();
    assert!(report.contains("training diverged"), "{report}");
    let before = records(diverging);
    succeed(&mut experiment(diverging));
    assert_eq!(records(diverging), before, "it would diverge again");

    let only = folder(&format!("{EXPERIMENT}set.train.optimizer.prediction.lr = 1e30\n"));
    let (code, error) = fail(&mut experiment(only.path()));
    assert!(code == 1 && error.contains("Clicks, DR-V2, seed 2: ") && error.contains("training diverged"), "{error}");
}

#[test]
fn an_experiment_lies_in_an_object_store() {
    let folder = folder(EXPERIMENT);
    let server = S3Server::start("bucket");
    let there = || {
        let mut command = experiment(folder.path());
        command.envs(server.environment()).args(["--output", "s3://bucket/clicks/"]);
        command
    };
    let markdown = succeed(&mut there());
    assert_eq!(String::from_utf8(server.read("bucket", "clicks/report.md")).unwrap(), markdown);
    let records = || {
        let of_trials = server.objects("bucket", "clicks/trials").into_iter().filter(|name| name.ends_with(".json"));
        of_trials.map(|name| (server.read("bucket", &name), name)).collect::<Vec<_>>()
    };
    let before = records();
    assert_eq!(before.len(), 6);
    assert_eq!(succeed(&mut there()), markdown);
    assert_eq!(records(), before, "what is done is found there, and not done again");

    succeed(&mut experiment(folder.path()));
    let here = query(folder.path(), FIGURES);
    let sql = FIGURES.replace("out/", "s3://bucket/clicks/");
    let rows = succeed(counterweight().envs(server.environment()).args(["sql", "--format", "ndjson", "-c", &sql]));
    let rows: Vec<Value> = rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows, here);
    assert!(!folder.path().join("s3:").exists());
}

#[test]
fn the_table_says_what_the_variables_were() {
    let parts = r#"
name = "Parts"
output = "out/"
job = "../jobs/clicks.toml"
seeds = [0]
[[method]]
name = "IPS-V2"
set.train.data.train = "SELECT * FROM log WHERE split = '${part}'"
grid.vars.part = ["train", "validation"]
[[method]]
name = "DR-V2"
set.train.preset = "dr-v2"
"#;
    let folder = folder(parts);
    let folder = folder.path();
    succeed(&mut experiment(folder));
    let rows = |split: &str| {
        let count = query(folder, &format!("SELECT count(*) AS n FROM 'log/' WHERE split = '{split}'"));
        count[0]["n"].clone()
    };
    let table = "SELECT method, \"vars.part\" AS part, train_rows AS n FROM 'out/results.parquet' ORDER BY part";
    assert_eq!(
        query(folder, table),
        [
            json!({"method": "IPS-V2", "part": "train", "n": rows("train")}),
            json!({"method": "IPS-V2", "part": "validation", "n": rows("validation")}),
            json!({"method": "DR-V2", "part": null, "n": rows("train")}),
        ]
    );
}

#[test]
fn settings_are_searched_on_the_validation_rows() {
    let search = r#"
[search]
budget = 10
sampler = "tpe"
space.train.optimizer.prediction.lr = { log = [1e-4, 1e-1] }
space.train.loss.phi = { choice = ["constant", "product"] }
[select]
metric = "log_loss"
seeds = [0]
"#;
    let folder = folder(&format!("{EXPERIMENT}{search}"));
    let folder = folder.path();
    succeed(&mut experiment(folder));
    for method in ["IPS-V2", "DR-V2"] {
        let rows = format!("SELECT * FROM 'out/results.parquet' WHERE method = '{method}'");
        let tried = query(folder, &format!("{rows} AND seed = 0 ORDER BY validation_log_loss, candidate"));
        assert_eq!(tried.len(), 10);
        let chosen = query(folder, &format!("{rows} AND selected ORDER BY seed"));
        assert_eq!(chosen.len(), 3, "the selected settings are run with every seed");
        assert!(chosen.iter().all(|row| row["candidate"] == tried[0]["candidate"]), "the best on the validation rows");
        assert_eq!(query(folder, &rows).len(), 10 + 2, "the others only with the seed they are tried with");
        let rates: Vec<f64> = tried.iter().map(|row| row["train.optimizer.prediction.lr"].as_f64().unwrap()).collect();
        assert!(rates.iter().all(|rate| (1e-4..=1e-1).contains(rate)), "{rates:?}");
    }
    let report = fs::read_to_string(folder.join("out/report.md")).unwrap();
    assert!(report.contains("### Settings selected on the validation rows"), "{report}");
    let before = records(folder);
    succeed(&mut experiment(folder));
    assert_eq!(records(folder), before, "the same candidates are proposed, and none is run again");
}
