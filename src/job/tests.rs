//! Jobs as they are written, and what is said of those that are not sound.

use toml::Value;

use super::load::PRESETS;
use super::*;

const JOB: &str = r#"
    name = "clicks"
    seed = 7
    [vars]
    dir = "/data"
    [tables.log]
    url = "${dir}/log/"
    [columns]
    user = "user_id"
    item = "item_id"
    treated = "clicked"
    outcome = "converted"
    [train]
    preset = "dr-v2"
    output = "${dir}/model-${seed}"
    [train.data]
    train = "SELECT * FROM log WHERE split = 'train'"
    validation = "SELECT * FROM log WHERE split = 'validation'"
    [train.loss]
    lambda = 0.5
    [score]
    table = "log"
    output = "${dir}/scored/"
    [audit.before]
    query = "SELECT * FROM log"
"#;

fn error(text: &str, assignments: &[&str]) -> String {
    let assignments: Vec<_> = assignments.iter().map(|&text| text.to_owned()).collect();
    Job::parse(text, &assignments).unwrap_err().to_string()
}

#[test]
fn variables_presets_and_assignments() {
    let job = Job::parse(JOB, &[]).unwrap();
    assert_eq!(job.tables["log"].url, "/data/log/");
    let train = job.train.as_ref().unwrap();
    assert_eq!(train.output, "/data/model-7");
    assert_eq!(
        (train.loss.method, train.loss.lambda),
        (Method::DrV2, Lambda::Fixed(0.5)),
        "the job wins over its preset"
    );

    let assignments =
        ["vars.dir=/else", "seed=3", "train.loss.phi=concat", "device=cuda:1", "train.preset=coat-ips-v2"];
    let job = Job::parse(JOB, &assignments.map(str::to_owned)).unwrap();
    let train = job.train.as_ref().unwrap();
    assert_eq!((train.output.as_str(), train.loss.phi), ("/else/model-3", Phi::Concat));
    assert_eq!((train.model.dim, train.optimizer.block_users, train.loss.method), (256, 64, Method::IpsV2));
    assert_eq!(job.device, DeviceSpec::Cuda(1));
}

#[test]
fn sections_and_values_take_each_others_place() {
    let weight = |text: &str, assignments: &[&str]| {
        let assignments: Vec<_> = assignments.iter().map(|&text| text.to_owned()).collect();
        Job::parse(text, &assignments).unwrap().train.as_ref().unwrap().loss.lambda
    };
    let schedule = |curve| Lambda::Scheduled(Schedule { from: 0.0, to: 2.0, epochs: 9, curve });
    let whole = "train.loss.lambda={ from = 0, to = 2, epochs = 9 }";
    let parts = ["from=0", "to=2", "epochs=9"].map(|part| format!("train.loss.lambda.{part}"));
    let parts = parts.each_ref().map(String::as_str);
    // The weight is a number in the job, then in the preset alone.
    for job in [JOB, &JOB.replace("lambda = 0.5", "").replace("dr-v2", "kuairec-dr-v2")] {
        assert_eq!(weight(job, &[whole]), schedule(Curve::Linear));
        assert_eq!(weight(job, &parts), schedule(Curve::Linear));
        assert_eq!(weight(job, &[whole, "train.loss.lambda=1"]), Lambda::Fixed(1.0));
    }
    let scheduled = JOB.replace("= 0.5", "= { from = 1, to = 2, epochs = 9, curve = \"cosine\" }");
    assert_eq!(weight(&scheduled, &["train.loss.lambda=1"]), Lambda::Fixed(1.0));
    assert_eq!(weight(&scheduled, &[whole]), schedule(Curve::Linear));
    assert_eq!(weight(&scheduled, &["train.loss.lambda.from=0"]), schedule(Curve::Cosine));
}

#[test]
fn every_preset_is_a_whole_job() {
    for (preset, _) in PRESETS.into_iter().filter(|(preset, _)| *preset != "coat") {
        let uniform = "train.data.uniform=SELECT * FROM log".to_owned();
        let set = [format!("train.preset={preset}"), uniform, "train.loss.lambda=0".to_owned()];
        let job = Job::parse(JOB, &set).unwrap();
        let loss = Value::try_from(&job.train.as_ref().unwrap().loss).unwrap();
        assert!(preset.ends_with(loss["method"].as_str().unwrap()), "{preset}");
    }
}

/// As printed, φ is any; in the authors' code it is r̂.
#[test]
fn presets_of_the_authors_code_balance_the_prediction() {
    for (preset, _) in PRESETS.into_iter().filter(|(preset, _)| *preset != "coat") {
        let set = [format!("train.preset={preset}"), "train.data.uniform=SELECT * FROM log".to_owned()];
        let job = Job::parse(&JOB.replace("lambda = 0.5", ""), &set).unwrap();
        let as_printed = ["ips-v2", "dr-v2"].contains(&preset);
        let expected = if as_printed { Phi::Constant } else { Phi::Prediction };
        assert_eq!(job.train.as_ref().unwrap().loss.phi, expected, "{preset}");
    }
}

#[test]
fn a_method_entails_settings_that_the_job_may_change() {
    let job = JOB.replace("preset = \"dr-v2\"", "").replace("lambda = 0.5", "");
    let loss = |set: &[&str]| {
        let set: Vec<_> = set.iter().map(|&text| text.to_owned()).collect();
        Value::try_from(&Job::parse(&job, &set).unwrap().train.as_ref().unwrap().loss).unwrap()
    };
    for method in Method::ALL {
        let name = method.info().name;
        let loss = loss(&[&format!("train.loss.method={name}")]);
        for (key, value) in method.defaults() {
            assert_eq!(loss[&key], value, "{name}.{key}");
        }
    }
    let ours = loss(&["train.loss.method=ips", "train.loss.stop_gradient=false"]);
    assert_eq!((&ours["stop_gradient"], &ours["lambda"]), (&Value::from(false), &Value::from(0.0)));
}

#[test]
fn a_job_survives_being_written_and_read() {
    let job = Job::parse(JOB, &[]).unwrap();
    let json = serde_json::to_string(&job).unwrap();
    assert_eq!(serde_json::from_str::<JobFile>(&json).unwrap(), *job);
}

#[test]
fn settings_tell_weights_apart() {
    let settings = |weight: &str| {
        let job = Job::parse(JOB, &[format!("train.loss.lambda={weight}")]).unwrap();
        let settings = settings_of(&serde_json::to_value(job).unwrap());
        settings.into_iter().filter(|(key, _)| key.contains("lambda")).collect::<Vec<_>>()
    };
    let schedule = |curve: &str| settings(&format!("{{ from = 0, to = 0.5, epochs = 9, curve = \"{curve}\" }}"));
    let all = [settings("0.5"), settings("optimal"), schedule("linear"), schedule("cosine")];
    assert!(all.iter().enumerate().all(|(at, weight)| !all[..at].contains(weight)), "{all:?}");
    assert_eq!(settings("{ from = 0, to = 0.5, epochs = 9 }"), schedule("linear"));
    assert_eq!(settings("optimal"), [("train.loss.lambda".to_owned(), Json::from("optimal"))]);

    let set = ["train.model.head=mlp", "train.precision=bfloat16"].map(str::to_owned);
    let settings = |set: &[String]| settings_of(&serde_json::to_value(Job::parse(JOB, set).unwrap()).unwrap());
    assert_eq!(settings(&[])["train.precision"], "float32");
    assert_eq!(settings(&set)["train.precision"], "bfloat16");
}

#[test]
fn unknown_keys_name_the_nearest() {
    let cases = [
        ("tran.output=\"x\"", "unknown key \"tran\" in the job file; did you mean \"train\"?"),
        ("train.loss.lambad=1", "unknown key \"lambad\" in [train.loss]; did you mean \"lambda\"?"),
        ("columns.usr=\"u\"", "unknown key \"usr\" in [columns]; did you mean \"user\"?"),
        ("tables.log.uri=\"u\"", "unknown key \"uri\" in [tables.log]; did you mean \"url\"?"),
        ("train.loss.method=\"ips-v3\"", "train.loss.method = \"ips-v3\" is not valid; did you mean \"ips-v2\"?"),
        ("train.preset=\"coat-ips-v\"", "train.preset = \"coat-ips-v\" is unknown; did you mean \"coat-ips-v2\"?"),
        ("score.table=\"lag\"", "score.table = \"lag\" is not one of [tables]; did you mean \"log\"?"),
    ];
    for (assignment, expected) in cases {
        assert_eq!(error(JOB, &[assignment]), expected);
    }
}

#[test]
fn wrong_values_name_their_key() {
    let cases = [
        ("seed=\"x\"", "seed: \"x\" is not a whole number that is not negative"),
        ("seed=-1", "seed: -1 is not a whole number that is not negative"),
        ("columns.phi=x", "columns.phi: \"x\" is not a list"),
        ("tables.log=x", "tables.log: \"x\" is not a table"),
        ("session.threads=0", "session.threads = 0: give at least 1"),
        ("device=\"gpu\"", "device: invalid device \"gpu\"; write auto, cpu or cuda:0"),
        (
            "session.memory_limit=\"many\"",
            "session.memory_limit: \"many\" is not a number of bytes; write it as 512MB or 2GiB",
        ),
        ("train.model.dim=0", "train.model.dim = 0: give at least 1"),
        ("train.model.members=0", "train.model.members = 0: give at least 1"),
        (
            "train.model={ head = 'mlp', members = 3 }",
            "train.model.members = 3: the mean of several MLP heads is not one",
        ),
        ("train.model.head=mpl", "train.model.head = \"mpl\" is not valid; did you mean \"mlp\"?"),
        ("train.model.hidden=[8, 0]", "train.model.hidden: a width = 0: give at least 1"),
        (
            "train.model.hidden=[8, 4]",
            "train.model.hidden = [8, 4]: train.model.head = \"dot\" has no hidden layer; set train.model.head = \"mlp\", or leave",
        ),
        (
            "train.loss.phi=learned",
            "train.loss.phi = \"learned\": φ is then the last hidden layer of the propensity model, and train.model.head = \"dot\" has none",
        ),
        ("train.loss.lambda=-1.0", "train.loss.lambda = -1: give a number that is not negative"),
        ("train.loss.lambda=best", "train.loss.lambda: \"best\" is not a number, \"optimal\" or { from"),
        (
            "train.loss.lambda={ from = 0, to = 1, epoch = 9 }",
            "unknown key \"epoch\" in [train.loss.lambda]; did you mean \"epochs\"?",
        ),
        ("train.loss.lambda={ from = 0, to = 1 }", "[train.loss.lambda] lacks the key epochs"),
        (
            "train.loss.lambda={ from = 0, to = -1, epochs = 9 }",
            "train.loss.lambda.to = -1: give a number that is not negative",
        ),
        (
            "train.loss.lambda={ from = 0, to = 1, epochs = 1 }",
            "train.loss.lambda.epochs = 1: give at least 2, or a number in place of the schedule",
        ),
        (
            "train.loss.lambda={ from = 0, to = 1, epochs = 9, curve = \"cosin\" }",
            "train.loss.lambda.curve = \"cosin\" is not valid; did you mean \"cosine\"?",
        ),
        ("train.loss.odds_ratio_bound=0.5", "train.loss.odds_ratio_bound = 0.5: give a number of at least 1"),
        ("train.loss.propensity_clip=0.7", "train.loss.propensity_clip = 0.7: give a number from 0 to below 0.5"),
        ("train.optimizer.prediction.lr=0.0", "train.optimizer.prediction.lr = 0: give a positive number"),
        ("train.propensity.l2=0.0", "train.propensity.l2 = 0: give a positive number"),
        (
            "train.propensity.source=model",
            "train.loss.lambda = 0.5: a regularizer moves propensities, and train.propensity.source = \"model\"",
        ),
        ("train.loss.method=esm", "train.loss.method = \"esm\" is not valid; did you mean \"esmm\"?"),
        ("population.users=\"SELECT 1\"", "population.users belongs to shape = \"matrix\""),
        ("train.precision=float16", "train.precision = \"float16\" is not valid; did you mean \"bfloat16\"?"),
        (
            "train.precision=bfloat16",
            "train.precision = \"bfloat16\" is of matrix products, and train.model.head = \"dot\" takes none in a log;",
        ),
        ("train.optimizer.blocks_per_epoch=3", "train.optimizer.blocks_per_epoch belongs to shape = \"matrix\""),
        ("train.optimizer.blocks_per_epoch=0", "train.optimizer.blocks_per_epoch = 0: give at least 1"),
        (
            "train.output=\"${dri}/x\"",
            "train.output refers to ${dri}, which is not set (there is ${dir}); put it in [vars], or pass --set vars.dri=…",
        ),
        ("train.output=\"${dir\"", "train.output: ${ without its }"),
        ("noequals", "--set \"noequals\": write it as key=value"),
        ("seed.x=1", "seed: a table is not a whole number that is not negative"),
    ];
    for (assignment, expected) in cases {
        let message = error(JOB, &[assignment]);
        assert!(message.starts_with(expected), "{assignment}: {message}");
    }
    let fixed = ["train.loss.lambda=0", "train.propensity.source=naive-bayes"];
    assert!(error(JOB, &fixed).starts_with("train.data.uniform is missing: propensities by naive Bayes need"));
    for source in ["column", "logistic", "model", "naive-bayes"] {
        let fixed = format!("train.propensity.source={source}");
        let stable = error(JOB, &[&fixed, "train.loss.lambda=0", "train.loss.method=stable-dr"]);
        assert!(
            stable.starts_with(&format!("train.propensity.source = {source:?}: stable-dr trains the propensities")),
            "{stable}"
        );
    }
    let logistic = [fixed[0], "train.propensity.source=logistic", "train.loss.phi=concat"];
    assert!(error(JOB, &logistic).starts_with("train.loss.phi = \"concat\": a logistic regression has no embeddings"));
    let optimal = "train.loss.lambda=optimal";
    let snips = error(JOB, &[optimal, "train.loss.method=snips"]);
    assert!(snips.contains("a mean over all pairs") && snips.contains("another train.loss.method"), "{snips}");
    let sv = error(JOB, &[optimal, "train.loss.regularizer=sv"]);
    assert!(sv.contains("of BMSE, and train.loss.regularizer = \"sv\"; give a number"), "{sv}");
    let fixed = [fixed[0], "train.propensity.source=model"];
    let shared = error(JOB, &[&fixed[..], &["train.model.embeddings=shared"]].concat());
    assert!(shared.contains("shared embeddings go on changing"), "{shared}");
    let bare = error(JOB, &["train.model.head=mlp", "train.model.hidden=[]"]);
    assert!(bare.starts_with("train.model.hidden = []: an MLP head has a hidden layer; give its width"), "{bare}");
    let esmm = ["train.loss.method=esmm", "train.loss.ctcvr_weight=0"];
    assert!(error(JOB, &esmm).starts_with("train.loss.ctcvr_weight = 0: nothing else trains the prediction of esmm"));
    assert_eq!(error("name = \"x\"\n[train]\noutput = \"m\"", &[]), "[train] lacks the key data");
    assert!(error("name = ", &[]).contains("line 1"), "{}", error("name = ", &[]));
}

#[test]
fn an_old_name_gives_the_new_one() {
    let cases = [
        ("train.loss.balance_weight=1", "unknown key \"balance_weight\" in [train.loss]; it is now \"lambda\""),
        ("audit.before.balance_weight=1", "unknown key \"balance_weight\" in [audit.before]; it is now \"lambda\""),
        ("train.loss.method=mf", "train.loss.method = \"mf\" is not valid; it is now \"naive\""),
        ("train.preset=coat-mf", "train.preset = \"coat-mf\" is unknown; it is now \"coat-naive\""),
        ("train.loss.phi=1", "train.loss.phi = \"1\" is not valid; it is now \"constant\""),
        ("train.loss.phi=\"1\"", "train.loss.phi = \"1\" is not valid; it is now \"constant\""),
        ("train.loss.phi=K", "train.loss.phi = \"K\" is not valid; it is now \"product\""),
        ("train.loss.phi=2K", "train.loss.phi = \"2K\" is not valid; it is now \"concat\""),
        ("train.loss.phi=R", "train.loss.phi = \"R\" is not valid; it is now \"prediction\""),
    ];
    for (assignment, expected) in cases {
        assert_eq!(error(JOB, &[assignment]), expected);
    }
    let elsewhere = error(JOB, &["columns.balance_weight=w"]);
    assert!(elsewhere.starts_with("unknown key \"balance_weight\" in [columns]") && !elsewhere.contains("it is now"));
}

#[test]
fn a_method_that_a_variable_names_entails_its_settings() {
    let job = JOB.replace("preset = \"dr-v2\"", "").replace("lambda = 0.5", "method = \"${method}\"");
    let job = Job::parse(&job, &["vars.method=dr".to_owned()]).unwrap();
    let loss = &job.train.as_ref().unwrap().loss;
    assert_eq!((loss.method, loss.stop_gradient), (Method::Dr, true));
}
