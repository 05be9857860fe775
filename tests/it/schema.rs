//! The JSON Schemas are current, and what they say of a file is what the parser says.

use std::fs;

use counterweight::job::{Job, json_schema};
use jsonschema_valid::Config;
use serde_json::{Value, json};

use crate::support::{counterweight, repository, succeed};

#[test]
fn the_committed_schemas_and_references_are_current() {
    for (arguments, path) in [
        ("job", "docs/job.schema.json"),
        ("experiment", "docs/experiment.schema.json"),
        ("job --format markdown", "docs/job-reference.md"),
        ("experiment --format markdown", "docs/experiment-reference.md"),
        ("methods", "docs/methods.md"),
    ] {
        let generated = succeed(counterweight().arg("schema").args(arguments.split(' ')));
        let committed = fs::read_to_string(repository(path)).unwrap_or_default();
        assert!(committed == generated, "run `counterweight schema {arguments} > {path}`");
    }
}

fn job() -> Value {
    json_schema().unwrap()
}

fn experiment() -> Value {
    counterweight::experiment::json_schema()
}

/// What is wrong with a file, if anything.
fn problem(schema: &Value, file: &Value) -> Option<String> {
    let config = Config::from_schema(schema, None).unwrap();
    let mut problems = config.validate(file).err()?;
    problems.next().map(|problem| problem.to_string())
}

/// What is in a TOML file, as JSON.
fn read(text: &str) -> Value {
    serde_json::to_value(toml(text).unwrap()).unwrap()
}

fn toml(text: &str) -> Option<toml::Table> {
    toml::from_str(text).ok()
}

/// A schema of parts of a file: nothing is required.
fn of_parts(mut schema: Value) -> Value {
    fn relax(schema: &mut Value) {
        match schema {
            Value::Object(object) => {
                if object.get("required").is_some_and(Value::is_array) {
                    object.remove("required");
                }
                object.values_mut().for_each(relax);
            }
            Value::Array(values) => values.iter_mut().for_each(relax),
            _ => {}
        }
    }
    relax(&mut schema);
    schema
}

#[test]
fn the_schemas_are_schemas() {
    for schema in [job(), experiment()] {
        assert!(Config::from_schema(&schema, None).unwrap().validate_schema().is_ok());
    }
}

#[test]
fn every_example_validates() {
    let (job, experiment) = (job(), experiment());
    let mut counts = [0, 0];
    for entry in fs::read_dir(repository("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let file = read(&fs::read_to_string(&path).unwrap());
        let is_experiment = file.get("method").is_some();
        counts[usize::from(is_experiment)] += 1;
        let problem = problem(if is_experiment { &experiment } else { &job }, &file);
        assert_eq!(problem, None, "{}", path.display());
    }
    assert!(counts[0] >= 5 && counts[1] >= 6, "{counts:?}");
}

/// Whole jobs of the README, and the parts of jobs and experiments that the guide shows.
#[test]
fn every_job_in_the_documents_validates() {
    let (job, experiment) = (job(), experiment());
    let readme = fs::read_to_string(repository("README.md")).unwrap();
    for block in readme.split("```toml\n").skip(1) {
        assert_eq!(problem(&job, &read(block.split("```").next().unwrap())), None, "{block}");
    }
    let keys = |schema: &Value| schema["properties"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let (job_keys, experiment_keys) = (keys(&job), keys(&experiment));
    let (job, experiment) = (of_parts(job), of_parts(experiment));
    let guide = fs::read_to_string(repository("docs/guide.md")).unwrap();
    let mut parts = 0;
    for block in indented(&guide).iter().filter_map(|block| toml(block)) {
        let has = |keys: &[String]| block.keys().all(|key| keys.contains(key));
        let schema = match (has(&job_keys), has(&experiment_keys)) {
            (true, _) => &job,
            (false, true) => &experiment,
            (false, false) => panic!("the guide has {block}, which is of no file"),
        };
        parts += 1;
        assert_eq!(problem(schema, &serde_json::to_value(&block).unwrap()), None, "{block}");
    }
    assert!(parts >= 6, "{parts}");
}

/// The blocks of code of a document that are set in by four spaces, each with the blank lines in it.
fn indented(text: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        match line.strip_prefix("    ") {
            Some(code) if open => blocks.last_mut().unwrap().push_str(&format!("{code}\n")),
            Some(code) => blocks.push(format!("{code}\n")),
            None if line.is_empty() => continue,
            None => {}
        }
        open = line.starts_with("    ");
    }
    blocks
}

const JOB: &str = r#"
    name = "x"
    [tables.log]
    url = "${dir}/log/"
    expect = { "count(*)" = 3 }
    [vars]
    dir = "/data"
    [session]
    threads = 2
    [columns]
    user = "u"
    [population]
    shape = "matrix"
    [train]
    preset = "ips-v2"
    output = "m"
    data = { train = "q", validation = "q" }
    model = { dim = 8 }
    propensity = { source = "joint" }
    loss = { lambda = { from = 0, to = 1, epochs = 3 } }
    optimizer = { prediction = { lr = 0.1 }, propensity = { lr = 0.1 }, imputation = { lr = 0.1 } }
    evaluation = { k = 3 }
    checkpoint = { resume = true }
    [score]
    table = "log"
    output = "s"
    [audit.a]
    query = "q"
    columns = { day = "d" }
"#;

#[test]
fn a_misspelled_key_is_invalid_in_every_section() {
    let schema = job();
    let good = read(JOB);
    assert_eq!(problem(&schema, &good), None);
    Job::parse(JOB, &[]).unwrap();
    let sections: Vec<String> = sections(&good, "")
        .into_iter()
        .filter(|path| !["/vars", "/tables", "/audit", "/tables/log/expect"].contains(&&**path))
        .collect();
    assert!(sections.len() >= 19, "{sections:?}");
    for section in sections {
        let mut bad = good.clone();
        bad.pointer_mut(&section).unwrap().as_object_mut().unwrap().insert("misspelt".to_owned(), json!("x"));
        assert!(problem(&schema, &bad).is_some(), "{section}");
    }
}

/// The pointers to the tables in a file.
fn sections(file: &Value, path: &str) -> Vec<String> {
    let inner =
        file.as_object().into_iter().flatten().flat_map(|(key, value)| sections(value, &format!("{path}/{key}")));
    let this = file.is_object().then(|| path.to_owned());
    this.into_iter().chain(inner.collect::<Vec<_>>()).collect()
}

/// Each assignment with whether it leaves the job valid: the schema and the parser agree.
#[test]
fn values_are_valid_where_they_are_to_the_parser() {
    let schema = job();
    for (pointer, value, valid) in [
        ("/seed", json!(3), true),
        ("/seed", json!(-3), false),
        ("/seed", json!("3"), false),
        ("/device", json!("cuda:1"), true),
        ("/device", json!("gpu"), false),
        ("/device", json!("${dir}"), false),
        ("/session/memory_limit", json!("2GiB"), true),
        ("/session/memory_limit", json!(1024), true),
        ("/session/memory_limit", json!("many"), false),
        ("/session/threads", json!(0), false),
        ("/tables/log/delimiter", json!(";"), true),
        ("/tables/log/delimiter", json!(";;"), false),
        ("/population/shape", json!("tree"), false),
        ("/train/preset", json!("coat-ips-v2"), true),
        ("/train/preset", json!("coat-mf"), false),
        ("/train/timing", json!("yes"), false),
        ("/train/precision", json!("bfloat16"), true),
        ("/train/loss/method", json!("naive"), true),
        ("/train/loss/method", json!("mf"), false),
        ("/train/loss/balance_weight", json!(1), false),
        ("/train/loss/lambda", json!(1), true),
        ("/train/loss/lambda", json!("optimal"), true),
        ("/train/loss/lambda", json!("best"), false),
        ("/train/loss/lambda", json!(-1), false),
        ("/train/loss/lambda", json!({ "from": 0, "to": 1, "epochs": 1 }), false),
        ("/train/loss/lambda", json!({ "from": 0, "to": 1 }), false),
        ("/train/loss/phi", json!("concat"), true),
        ("/train/loss/phi", json!("2K"), false),
        ("/train/loss/propensity_clip", json!(0.5), false),
        ("/train/loss/propensity_clip", json!(0), true),
        ("/train/loss/odds_ratio_bound", json!(0.5), false),
        ("/train/loss/ctcvr_weight", json!(-0.5), false),
        ("/train/model/dim", json!(0), false),
        ("/train/model/hidden", json!([]), true),
        ("/train/model/hidden", json!([0]), false),
        ("/train/optimizer/prediction/lr", json!(0), false),
        ("/train/optimizer/blocks_per_epoch", json!(0), false),
        ("/train/evaluation/metric", json!("log_loss"), true),
        ("/train/evaluation/metric", json!("log-loss"), false),
        ("/columns/phi", json!(["x"]), true),
        ("/columns/phi", json!("x"), false),
        ("/columns/user", json!(["x"]), false),
        ("/audit/a/worst", json!(0), false),
        ("/audit/a/lambda", json!(-1), false),
        ("/audit/a/propensity_bounds", json!([0.1, 0.9]), true),
        ("/audit/a/propensity_bounds", json!([0.1]), false),
        ("/audit/a/segments", json!("x"), false),
    ] {
        let mut file = read(JOB);
        let (section, key) = pointer.rsplit_once('/').unwrap();
        file.pointer_mut(section).unwrap().as_object_mut().unwrap().insert(key.to_owned(), value.clone());
        let text = toml::to_string(&serde_json::from_value::<toml::Table>(file.clone()).unwrap()).unwrap();
        let parsed = Job::parse(&text, &[]);
        assert_eq!(parsed.is_ok(), valid, "{pointer} = {value}: {parsed:?}");
        let variable = value == json!("${dir}");
        assert_eq!(problem(&schema, &file).is_none(), valid || variable, "{pointer} = {value}");
    }
    let mut named = read(JOB);
    named["vars"]["method"] = "dr".into();
    named["train"]["loss"]["method"] = "${method}".into();
    assert_eq!(problem(&schema, &named), None, "a variable may name a method");
}

#[test]
fn what_a_preset_supplies_is_not_required_and_all_else_is() {
    let schema = job();
    for key in ["/name", "/train/output", "/train/data", "/train/data/validation", "/tables/log/url", "/score/output"] {
        let mut file = read(JOB);
        let (section, key) = key.rsplit_once('/').unwrap();
        assert!(file.pointer_mut(section).unwrap().as_object_mut().unwrap().remove(key).is_some());
        assert!(problem(&schema, &file).is_some(), "{section}/{key}");
    }
    let mut file = read(JOB);
    file["train"].as_object_mut().unwrap().remove("loss");
    assert_eq!(problem(&schema, &file), None);
}

/// A job as it is with all that presets and methods supply validates, too.
#[test]
fn a_resolved_job_validates() {
    fn without_null(value: &mut Value) {
        let Value::Object(object) = value else { return };
        object.retain(|_, value| !value.is_null());
        object.values_mut().for_each(without_null);
    }
    let job = Job::parse(JOB, &["device=cuda:0".to_owned()]).unwrap();
    let mut job = serde_json::to_value(job).unwrap();
    without_null(&mut job);
    assert_eq!(problem(&self::job(), &job), None);
}

#[test]
fn an_experiment_is_held_to_its_schema() {
    let schema = experiment();
    let good = r#"
        name = "x"
        output = "out/"
        job = "job.toml"
        seeds = "0-4,7"
        [search]
        budget = 3
        space.train.optimizer.prediction.lr = { log = [1e-4, 1e-1] }
        [[method]]
        name = "a"
        set.train.preset = "ips-v2"
    "#;
    assert_eq!(problem(&schema, &read(good)), None);
    for (from, to) in
        [("budget", "bugdet"), ("set.", "sets."), ("\"0-4,7\"", "\"all\""), ("\"0-4,7\"", "3"), ("name = \"a\"", "")]
    {
        assert!(good.contains(from) && problem(&schema, &read(&good.replace(from, to))).is_some(), "{from} → {to}");
    }
}
