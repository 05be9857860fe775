//! Training that is killed, and goes on.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::Value;

use crate::s3_server::S3Server;
use crate::support::{counterweight, succeed};

const EPOCHS: usize = 24;

const JOB: &str = r#"
name = "killed"
device = "cpu"
[tables]
log = { url = "${dir}/log/" }
pairs = { url = "${dir}/pairs/" }
[columns]
user = "user_id"
item = "item_id"
treated = "treated"
outcome = "outcome"
[train]
preset = "dr-v2"
output = "${output}"
data.train = "SELECT * FROM log WHERE split = 'train'"
data.validation = "SELECT * FROM log WHERE split = 'validation'"
data.test = "SELECT * FROM log WHERE split = 'test'"
model.dim = 8
loss.phi = "product"
loss.lambda = "optimal"
optimizer.epochs = 24
optimizer.batch_size = 512
optimizer.block_users = 32
optimizer.block_items = 32
evaluation.patience = 10
checkpoint.every_seconds = 0
"#;

const MATRIX: [&str; 4] = [
    "--set",
    "population.shape=\"matrix\"",
    "--set",
    "train.data.train=SELECT user_id, item_id, outcome FROM pairs WHERE split = 'train'",
];

const COLUMN: [&str; 8] = [
    "--set",
    "train.propensity.source=column",
    "--set",
    "columns.propensity=propensity",
    "--set",
    "train.loss.lambda=0",
    "--set",
    "train.loss.method=dr",
];

const LOGISTIC_OF_SAMPLED_BLOCKS: [&str; 14] = [
    MATRIX[0],
    MATRIX[1],
    MATRIX[2],
    MATRIX[3],
    "--set",
    "train.propensity.source=logistic",
    "--set",
    "train.loss.phi=\"prediction\"",
    "--set",
    "train.optimizer.blocks_per_epoch=4",
    COLUMN[4],
    COLUMN[5],
    COLUMN[6],
    COLUMN[7],
];

const ENSEMBLE: [&str; 4] = ["--set", "train.model.members=3", "--set", "train.optimizer.epochs=8"];

fn data(folder: &Path) {
    let simulate = |name: &str, more: &[&str]| {
        let output = format!("{}/{name}/", folder.display());
        let size = ["simulate", "--users", "150", "--items", "80", "--seed", "3", "--output", &output];
        succeed(counterweight().args(size).args(more));
    };
    simulate("log", &["--rows", "12000"]);
    simulate("pairs", &["--shape", "matrix"]);
    std::fs::write(folder.join("job.toml"), JOB).unwrap();
}

/// The command that trains into `output`.
fn train(folder: &Path, output: &str, more: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = counterweight();
    command.envs(environment.iter().copied()).arg("train").arg(folder.join("job.toml"));
    command.args(["--set", &format!("vars.dir={}", folder.display()), "--set", &format!("vars.output={output}")]);
    command.args(more);
    command
}

/// Trains with `--resume`, again and again, each time killed at some moment, until a run ends. Returns how many were.
fn train_killed(mut command: impl FnMut() -> Command, rng: &mut ChaCha8Rng) -> usize {
    for killed in 0..EPOCHS {
        let mut child = command().arg("--resume").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let epochs = rng.random_range(1..6);
        let last = lines.by_ref().filter(|line| line.contains("trained an epoch")).nth(epochs - 1);
        if last.is_none() {
            assert!(child.wait().unwrap().success());
            return killed;
        }
        std::thread::sleep(Duration::from_micros(rng.random_range(0..20_000)));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    panic!("no run came to its end");
}

/// A manifest without its clocks.
fn figures(manifest: &[u8]) -> Value {
    let mut manifest: Value = serde_json::from_slice(manifest).unwrap();
    for member in manifest["training"]["members"].as_array_mut().unwrap() {
        for record in member["history"].as_array_mut().unwrap() {
            record["seconds"].take();
        }
    }
    // The files carry their content and the run.
    for file in ["/weights", "/users/file", "/items/file"] {
        let name = manifest.pointer_mut(file).unwrap();
        *name = name.as_str().unwrap().rsplitn(3, '-').last().unwrap().into();
    }
    let Value::Object(manifest) = manifest else { panic!("a manifest is an object") };
    manifest.into_iter().filter(|(key, _)| !["created", "job"].contains(&key.as_str())).collect()
}

#[test]
fn a_killed_run_resumes_to_the_result_of_an_unbroken_one() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path());
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    for (layout, more) in [
        ("log", &[][..]),
        ("matrix", &MATRIX),
        ("column", &COLUMN),
        ("logistic", &LOGISTIC_OF_SAMPLED_BLOCKS),
        ("ensemble", &ENSEMBLE),
    ] {
        let model = |name: &str| folder.path().join(format!("{layout}-{name}"));
        let command = |name: &str| train(folder.path(), model(name).to_str().unwrap(), more, &[]);
        let manifest = |name: &str| std::fs::read(model(name).join("manifest.json")).unwrap();
        succeed(&mut command("unbroken"));
        let killed = train_killed(|| command("killed"), &mut rng);
        assert!(killed >= 2, "{layout}: {killed} runs were killed");

        let unbroken = figures(&manifest("unbroken"));
        assert_eq!(figures(&manifest("killed")), unbroken, "{layout}, killed {killed} times");
        let weights = |name: &str| {
            let manifest: Value = serde_json::from_slice(&manifest(name)).unwrap();
            std::fs::read(model(name).join(manifest["weights"].as_str().unwrap())).unwrap()
        };
        assert_eq!(weights("killed"), weights("unbroken"), "{layout}");
        let left: Vec<_> = walk(&model("killed").join("resume"));
        assert!(!model("killed").join("resume").exists(), "{layout}: the state goes once a run has ended: {left:?}");

        // As a run leaves it that is killed while it removes its state.
        std::fs::create_dir(model("killed").join("resume")).unwrap();
        std::fs::write(model("killed").join("resume/models-0.safetensors"), "a part").unwrap();
        let before = manifest("killed");
        let text = succeed(command("killed").arg("--resume"));
        assert!(text.contains("nothing to resume"), "{text}");
        assert_eq!(manifest("killed"), before);
        assert!(!model("killed").join("resume").exists(), "{layout}: and what is left of it, later");
    }
}

#[test]
fn a_killed_run_resumes_on_s3() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path());
    let server = S3Server::start("bucket");
    let environment = server.environment();
    let command = |name: &str| train(folder.path(), &format!("s3://bucket/{name}/"), &MATRIX, &environment);
    succeed(&mut command("unbroken"));
    let killed = train_killed(|| command("killed"), &mut ChaCha8Rng::seed_from_u64(7));
    assert!(killed >= 2, "{killed} runs were killed");
    let manifest = |name: &str| figures(&server.read("bucket", &format!("{name}/manifest.json")));
    assert_eq!(manifest("killed"), manifest("unbroken"));
    assert_eq!(server.objects("bucket", "killed/resume"), Vec::<String>::new());
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
