//! The executable `counterweight-train`, as an operator of another process uses it.

#![allow(clippy::unwrap_used, missing_docs)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use counterweight::JobContext;
use counterweight::events::{Event, EventSink};
use counterweight::external::ExternalOperator;
use counterweight::external::protocol::{Message, VERSION};
use counterweight::job::Job;
use counterweight::operator::{Finding, Operator};
use counterweight_train::{ScoreOperator, TrainOperator};
use tokio_util::sync::CancellationToken;

const PROGRAM: &str = env!("CARGO_BIN_EXE_counterweight-train");

const JOB: &str = r#"
name = "external"
seed = 7
device = "cpu"
[session]
threads = 2
[tables]
log.url = "${dir}/log.csv"
[columns]
user = "u"
item = "i"
treated = "o"
outcome = "r"
[train]
output = "${dir}/model/"
data.train = "SELECT * FROM log"
data.validation = "SELECT * FROM log"
model.dim = 4
loss.method = "ips-v2"
optimizer.epochs = 3
optimizer.batch_size = 64
[score]
table = "log"
output = "${dir}/scored/"
"#;

/// Events that were heard.
#[derive(Debug, Default)]
struct Heard {
    events: Mutex<Vec<Event>>,
    /// Cancelled at the first epoch.
    at_epoch: Option<CancellationToken>,
}

impl EventSink for Heard {
    fn emit(&self, event: Event) {
        if let (Event::Epoch { .. }, Some(token)) = (&event, &self.at_epoch) {
            token.cancel();
        }
        self.events.lock().unwrap().push(event);
    }
}

fn log(folder: &Path) {
    let mut text = "u,i,o,r\n".to_owned();
    for row in 0..400_u32 {
        let (u, i) = (row % 20, row / 20);
        let treated = u32::from((u + i) % 3 == 0);
        let outcome = if treated == 1 { u32::from(i % 2 == 0).to_string() } else { String::new() };
        text += &format!("{u},{i},{treated},{outcome}\n");
    }
    std::fs::write(folder.join("log.csv"), text).unwrap();
}

fn context(folder: &Path, set: &[&str], heard: &Arc<Heard>, interrupt: &CancellationToken) -> JobContext {
    let mut assignments = vec![format!("vars.dir={}", folder.display())];
    assignments.extend(set.iter().map(|assignment| (*assignment).to_owned()));
    let job = Job::parse(JOB, &assignments).unwrap();
    JobContext::builder(job).events(Arc::clone(heard) as _).interrupt(interrupt.clone()).build().unwrap()
}

fn train() -> ExternalOperator {
    ExternalOperator::train().with_program(PathBuf::from(PROGRAM).into())
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files.filter(|file| file.extension().is_some_and(|known| known == extension)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_trains_and_scores_as_this_one_does() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (heard, never) = (Arc::new(Heard::default()), CancellationToken::new());
    log(here.path());
    log(there.path());
    let score = ExternalOperator::score().with_program(PathBuf::from(PROGRAM).into());

    let outside = context(there.path(), &[], &heard, &never);
    Finding::all(train().check(&outside).await).unwrap();
    let trained = train().run(&outside).await.unwrap();
    let epochs = |event: &&Event| matches!(event, Event::Epoch { .. });
    assert_eq!(heard.events.lock().unwrap().iter().filter(epochs).count(), 3);
    let scored = score.run(&outside).await.unwrap();

    let inside = context(here.path(), &[], &Arc::default(), &never);
    let expected = TrainOperator.run(&inside).await.unwrap();
    let weights = |folder: &Path| {
        let file = files(&folder.join("model"), "safetensors").remove(0);
        file.file_name().unwrap().to_str().unwrap()[.."weights-0123456789abcdef".len()].to_owned()
    };
    assert_eq!(weights(there.path()), weights(here.path()), "the name is a hash of the weights");
    assert_eq!(trained.operator, "train");
    assert_eq!(trained.summary["data"], expected.summary["data"]);
    assert_eq!(trained.outputs.len(), 5);

    let expected = ScoreOperator.run(&inside).await.unwrap();
    assert_eq!(scored.summary["rows"], 400);
    assert_eq!(scored.summary["rows"], expected.summary["rows"]);
    let bytes = |folder: &Path| std::fs::read(&files(&folder.join("scored"), "parquet")[0]).unwrap();
    assert_eq!(bytes(there.path()), bytes(here.path()));
    assert!(!never.is_cancelled());
}

#[tokio::test(flavor = "multi_thread")]
async fn cancellation_reaches_the_process_which_ends_cleanly() {
    let folder = tempfile::tempdir().unwrap();
    log(folder.path());
    let interrupt = CancellationToken::new();
    let heard = Arc::new(Heard { at_epoch: Some(interrupt.clone()), ..Heard::default() });
    let context = context(folder.path(), &["train.optimizer.epochs=1000000"], &heard, &interrupt);
    let report = tokio::time::timeout(Duration::from_secs(60), train().run(&context)).await.unwrap().unwrap();
    assert_eq!(report.summary["training"]["stop"]["reason"], "interrupted");
    assert_eq!(files(&folder.path().join("model"), "safetensors").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn problems_keep_their_messages_and_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    log(folder.path());
    let (heard, never) = (Arc::default(), CancellationToken::new());
    let broken = context(folder.path(), &["columns.user=nobody"], &heard, &never);
    let found = Finding::all(train().check(&broken).await).unwrap_err();
    let failed = train().run(&broken).await.unwrap_err();
    let expected = TrainOperator.run(&broken).await.unwrap_err();
    for error in [found, failed] {
        assert_eq!((error.to_string(), error.exit_code()), (expected.to_string(), 2));
    }

    let steep = ["train.optimizer.prediction.lr=1e30", "train.optimizer.epochs=50"];
    let diverges = context(folder.path(), &steep, &heard, &never);
    let error = train().run(&diverges).await.unwrap_err();
    assert_eq!(error.exit_code(), 3, "{error}");
}

/// Sends a line to the process, whose standard input then ends, and gives what it wrote.
fn operate(line: &str) -> Vec<Message> {
    let mut child = Command::new(PROGRAM)
        .arg("operate")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn another_version_is_refused_whatever_else_it_asks() {
    let messages = operate("{\"version\": \"0.0.0\", \"wishes\": 3}\n");
    let [Message::Failure(problem)] = <[Message; 1]>::try_from(messages).unwrap() else { panic!("a failure") };
    let error = counterweight::Error::from(problem);
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("\"0.0.0\"") && error.to_string().contains(VERSION), "{error}");
}

#[test]
fn a_process_whose_parent_is_gone_ends() {
    let folder = tempfile::tempdir().unwrap();
    log(folder.path());
    let job = serde_json::json!({
        "text": JOB,
        "assignments": [format!("vars.dir={}", folder.path().display()), "train.optimizer.epochs=100000000"],
    });
    let request =
        serde_json::json!({ "version": VERSION, "work": "run", "operator": "train", "job": job, "storage": [] });
    // The parent has written its request and is gone: training is asked to end, before or after its first epoch.
    let messages = operate(&format!("{request}\n"));
    let ended = messages.iter().any(|message| matches!(message, Message::Report(_) | Message::Failure(_)));
    assert!(ended, "{messages:?}");
}
