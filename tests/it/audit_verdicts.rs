//! `counterweight audit` of simulated logs: what is called balanced, unbalanced and undecided, of independent rows and of those
//! that belong together, and what becomes of rows that cannot count.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Random, counterweight};

/// A log of independent rows that are treated with probability 0.2, and a φ that their error grows with.
fn log(seed: u64, rows: usize) -> String {
    let mut random = Random(seed);
    let mut table = "o,p,x,e,who,what,day\n".to_owned();
    for row in 0..rows {
        let x = 2.0 * random.next() - 1.0;
        let o = u8::from(random.next() < 0.2);
        let e = 1.0 + 0.5 * x + 0.2 * random.next();
        table += &format!("{o},0.2,{x},{e},u{},i{},{}\n", row % 50, row / 50, row % 7);
    }
    table
}

/// A log of users each of whom is treated more or less often than 0.2, which is right on average.
fn clustered(seed: u64, users: usize, of_each: usize) -> String {
    let mut random = Random(seed);
    let mut table = "o,p,who,what,s\n".to_owned();
    for user in 0..users {
        let rate = if random.next() < 0.5 { 0.05 } else { 0.35 };
        for row in 0..of_each {
            table += &format!("{},0.2,u{user},i{row},{}\n", u8::from(random.next() < rate), user % 4);
        }
    }
    table
}

struct Bench(TempDir);

impl Bench {
    fn new(table: &str, keys: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("log.csv"), table).unwrap();
        let job = format!(
            "name = \"shop\"\ntables.log.url = \"log.csv\"\n[columns]\ntreated = \"o\"\npropensity = \"p\"\n{keys}\n"
        );
        std::fs::write(folder.path().join("job.toml"), job).unwrap();
        Self(folder)
    }

    fn folder(&self) -> &Path {
        self.0.path()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command: Command = counterweight();
        command.current_dir(self.folder()).args(["audit", "job.toml"]).args(arguments).output().unwrap()
    }

    fn audit(&self, set: &[&str]) -> Value {
        let set = set.iter().flat_map(|assignment| ["--set", assignment]);
        let arguments: Vec<_> = ["--format", "json"].into_iter().chain(set).collect();
        let output = self.run(&arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["audits"]["main"].clone()
    }

    fn refused(&self, set: &str) -> String {
        let output = self.run(&["--set", set]);
        assert_eq!(output.status.code(), Some(2), "{set}");
        String::from_utf8(output.stderr).unwrap()
    }
}

const AUDIT: &str = "error = \"e\"\nphi = [\"x\"]\n[audit.main]\nquery = \"SELECT * FROM log\"";

fn rows<'a>(audit: &'a Value, check: &str) -> &'a Vec<Value> {
    audit["checks"][check]["rows"].as_array().unwrap_or_else(|| panic!("{audit:#}"))
}

fn text<'a>(audit: &'a Value, check: &str) -> &'a str {
    audit["checks"][check]["verdicts"][0]["text"].as_str().unwrap()
}

#[test]
fn a_large_log_with_true_propensities_is_balanced() {
    let audit = Bench::new(&log(1, 20_000), AUDIT).audit(&[]);
    assert_eq!((&audit["verdict"], &audit["alarm"]), (&"balanced".into(), &false.into()), "{audit:#}");
    assert!(text(&audit, "verdict").ends_with(": balanced"), "{}", text(&audit, "verdict"));
    assert!(text(&audit, "elements").starts_with("0 of 2 elements of phi are unbalanced, 2 balanced"));
    let effects: Vec<_> = rows(&audit, "verdict").iter().map(|row| row["effect"].as_str().unwrap()).collect();
    assert_eq!(effects, ["imbalance", "bias_ips", "both_arms"]);
}

#[test]
fn a_small_log_is_undecided_and_that_is_no_alarm() {
    let audit = Bench::new(&log(2, 400), AUDIT).audit(&[]);
    assert_eq!((&audit["verdict"], &audit["alarm"]), (&"undecided".into(), &false.into()), "{audit:#}");
    assert!(text(&audit, "verdict").ends_with(" rows would decide"), "{}", text(&audit, "verdict"));
    assert!(rows(&audit, "verdict")[0]["rows_to_decide"].as_i64() > Some(400));
}

/// The propensities are too low where x, and with it the error, is large.
#[test]
fn an_imbalance_that_moves_an_estimate_is_unbalanced_and_told_in_units_of_the_error() {
    let keys = format!(
        "{}\noutput = \"out\"\nmetrics = \"m.prom\"",
        AUDIT.replace("SELECT * FROM log", "SELECT * EXCEPT (p), 0.2 / (1.2 + 0.3 * x) AS p FROM log")
    );
    let bench = Bench::new(&log(3, 20_000), &keys);
    let audit = bench.audit(&[]);
    assert_eq!((&audit["verdict"], &audit["alarm"]), (&"unbalanced".into(), &true.into()), "{audit:#}");
    let bias = rows(&audit, "verdict").iter().find(|row| row["effect"] == "bias_ips").unwrap();
    // mean((1.2 + 0.3x)(1.1 + 0.5x)) / mean(1.1 + 0.5x) - 1 over all rows; the unit is the mean error of treated ones.
    let estimate = bias["estimate"].as_f64().unwrap();
    assert!((estimate - 0.245).abs() < 0.04, "{estimate}");
    let verdict = text(&audit, "verdict");
    assert!(verdict.contains("IPS estimate by +2") && verdict.contains(" % of the mean error ("), "{verdict}");
    assert!(verdict.ends_with(": unbalanced"), "{verdict}");
    let metrics = std::fs::read_to_string(bench.folder().join("m.prom")).unwrap();
    for (value, is) in [("balanced", 0), ("unbalanced", 1), ("undecided", 0)] {
        let series = format!("counterweight_verdict{{audit=\"main\",table=\"shop\",verdict=\"{value}\"}} {is}\n");
        assert!(metrics.contains(&series), "{metrics}");
    }
    let output = bench.run(&["--log-format", "json"]);
    let told = String::from_utf8(output.stderr).unwrap();
    let told: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert_eq!(told["audits"]["main"]["verdict"], "unbalanced", "{told}");

    let tolerant = bench.audit(&["audit.main.tolerance=0.5", "audit.main.bias_tolerance=0.5"]);
    assert_eq!(tolerant["verdict"], "balanced", "{tolerant:#}");
    assert_eq!(rows(&tolerant, "verdict")[0]["tolerance"], 0.5);
    let unsure = bench.audit(&[
        "audit.main.tolerance=0.199",
        "audit.main.bias_tolerance=0.23",
        "audit.main.confidence=0.9999999",
    ]);
    assert_eq!(unsure["verdict"], "undecided", "{unsure:#}");
}

#[test]
fn what_is_tolerated_must_make_sense() {
    let bench = Bench::new(&log(4, 10), AUDIT);
    for (set, says) in [
        ("audit.main.tolerance=0", "audit.main.tolerance = 0: give a positive number"),
        ("audit.main.bias_tolerance=-1", "audit.main.bias_tolerance = -1: give a positive number"),
        ("audit.main.confidence=1.0", "audit.main.confidence = 1: give a number between 0 and 1, such as 0.99"),
        ("audit.main.max_invalid=2", "audit.main.max_invalid = 2: give a share from 0 to 1"),
        ("audit.main.min_effective_share=-0.5", "audit.main.min_effective_share = -0.5: give a share from 0 to 1"),
    ] {
        let message = bench.refused(set);
        assert!(message.contains(says), "{message}");
    }
}

/// Users are alike in how often they are treated: taken for independent, the rows are out of balance in every other log, and
/// by their users they are not.
#[test]
fn rows_of_one_user_belong_together() {
    let mut alone = 0;
    for seed in 0..6 {
        let bench = Bench::new(
            &clustered(seed, 40, 300),
            "user = \"who\"\nitem = \"what\"\n[audit.main]\nquery = \"SELECT * FROM log\"\nsegments = [\"s\"]",
        );
        let by_user = bench.audit(&[]);
        assert_eq!(by_user["cluster"], serde_json::json!(["who"]), "the role user, where it has a column");
        assert_ne!(by_user["verdict"], "unbalanced", "seed {seed}: {}", text(&by_user, "verdict"));
        assert!(text(&by_user, "segments").starts_with("0 of 4 segments are unbalanced"), "{by_user:#}");
        let independent = bench.audit(&["columns.cluster=[]"]);
        assert_eq!(independent["cluster"], serde_json::json!([]));
        let both = bench.audit(&["audit.main.columns.cluster=[\"who\", \"what\"]"]);
        assert_eq!(both["cluster"], serde_json::json!(["who", "what"]));
        let error = |audit: &Value| rows(audit, "verdict")[0]["std_error"].as_f64().unwrap();
        assert!(error(&by_user) > 3.0 * error(&independent), "{} {}", error(&by_user), error(&independent));
        assert!(error(&both) > 3.0 * error(&independent), "{} {}", error(&both), error(&independent));
        assert!(rows(&by_user, "verdict")[0]["clusters"].as_i64().unwrap() <= 40);
        alone += i32::from(independent["verdict"] == "unbalanced");
    }
    assert!(alone > 0, "the rows of these logs do belong together");
}

#[test]
fn clusters_that_cannot_be_are_refused() {
    let bench = Bench::new(&clustered(1, 4, 5), "[audit.main]\nquery = \"SELECT * FROM log\"");
    assert!(
        bench.refused("columns.cluster=whom").contains("columns.cluster = \"whom\": audit.main.query gives no such")
    );
    let message = bench.refused("columns.cluster=[\"who\", \"what\", \"s\"]");
    assert!(message.contains("columns.cluster names 3 columns: give one, or two"), "{message}");
    let audit = bench.audit(&["columns.user=whom"]);
    assert_eq!(audit["cluster"], serde_json::json!([]), "a user that the query does not give is none");
}

/// One row of each kind that cannot count, among 400 that do.
#[test]
fn bad_rows_are_counted_by_kind_and_everything_else_is_told_and_written() {
    let table = log(5, 400)
        + "1,0,0,1,u,i,1\n1,1.5,0,1,u,i,1\n2,0.5,0,1,u,i,1\n,0.5,0,1,u,i,1\n0,,0,1,u,i,1\n1,0.5,,1,u,i,1\n\
                               0,0.5,0,1,,i,1\n0,0.5,inf,1,u,i,1\n";
    let keys = format!(
        "user = \"who\"\nday = \"day\"\n{AUDIT}\noutput = \"out\"\nmetrics = \"m.prom\"\nsegments = [\"day\"]\n\
         [audit.good]\nquery = \"SELECT * FROM log WHERE x IS NOT NULL AND p BETWEEN 0.1 AND 0.4\""
    );
    let bench = Bench::new(&table, &keys);
    let output = bench.run(&["--format", "json"]);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{complained}");
    for says in [
        "bad rows: 8 of the 408 that audit.main.query gives (2.0 %), more than audit.main.max_invalid = 0 lets be",
        "treated is NULL in 1, propensity is NULL in 1, phi is NULL in 1, cluster is NULL in 1, treated is not 0 or 1 in 1, \
         propensity is not from 0 to 1 in 1, what happened has a propensity of 0 in 1, phi is not finite in 1",
        "or set max_invalid = 0.0197",
    ] {
        assert!(complained.contains(says), "{complained}");
    }
    let audits = &serde_json::from_slice::<Value>(&output.stdout).unwrap()["audits"];
    assert_eq!(audits["good"]["fault"], Value::Null);
    let main = &audits["main"];
    assert_eq!(main["failed"], serde_json::json!({}), "{main:#}");
    for check in ["verdict", "balance", "segments", "elements", "weights", "estimates", "trend"] {
        assert!(!rows(main, check).is_empty(), "{check}");
    }
    assert_eq!(rows(main, "balance")[0]["n"], 400);
    let kinds = ["n", "all_rows", "refused", "impossible", "invalid_phi", "null_cluster", "null_phi"];
    assert_eq!(kinds.map(|kind| rows(main, "rows")[0][kind].as_i64().unwrap()), [400, 408, 4, 1, 1, 1, 1]);
    assert_eq!(rows(main, "positivity")[0]["n_invalid"], 3);
    assert!(bench.folder().join("out/audit.json").exists());
    let metrics = std::fs::read_to_string(bench.folder().join("m.prom")).unwrap();
    assert!(
        metrics.contains("counterweight_rows_bad{audit=\"main\",reason=\"impossible\",table=\"shop\"} 1\n"),
        "{metrics}"
    );
    assert!(!metrics.contains("timestamp"), "no success has a time: {metrics}");

    let text = bench.run(&["--audit", "main", "--set", "audit.main.max_invalid=0.02"]);
    assert!(text.status.success(), "{}", String::from_utf8_lossy(&text.stderr));
    let text = String::from_utf8(text.stdout).unwrap();
    let first = "\n\nWhich rows count?\n  ! 8 of 408 rows (2.0 %) cannot count; of 4 the values cannot be\n";
    assert!(text.contains(first) && text.find(first) < text.find("Are the propensities balanced"), "{text}");
}

#[test]
fn an_audit_that_fails_does_not_stop_the_others() {
    let keys = format!(
        "{AUDIT}\n[audit.lost]\nquery = \"SELECT o, p, e FROM log\"\n[audit.wrong]\nquery = \"SELECT * FROM none\""
    );
    let output = Bench::new(&log(6, 100), &keys).run(&["--format", "json"]);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{complained}");
    assert!(complained.contains("columns.phi = \"x\": audit.lost.query gives no such column"), "{complained}");
    assert!(complained.contains("audit.wrong.query"), "{complained}");
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(figures["audits"]["main"]["verdict"], "undecided", "{figures:#}");
}

/// A check that cannot be run leaves the others to be told.
#[test]
fn a_check_that_fails_does_not_stop_the_others() {
    let table = log(7, 100) + "1,0.2,0,nan,u,i,1\n";
    let output = Bench::new(&table, AUDIT).run(&["--format", "json"]);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{complained}");
    assert!(complained.contains("audit.main.query, check estimates"), "{complained}");
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    let main = &figures["audits"]["main"];
    assert!(main["failed"]["estimates"].is_string(), "{main:#}");
    assert_eq!(rows(main, "elements").len(), 2);
}
