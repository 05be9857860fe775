//! Training from a job file to a model folder and back, and the trainer's ends.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{Float32Type, Float64Type, Int64Type};
use futures::TryStreamExt;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::TrainOperator;
use crate::artifact::checkpoint::{Checkpoints, Run};
use crate::artifact::model_folder::{Description, Files, TrainedModel, content_of, vocabulary_file};
use crate::data::population::Covariates;
use crate::data::sampler::{Batch, Batches, BlockSampler, Prefetch, Row, RowSampler, RowSource, Sampler};
use crate::data::vocabulary::Vocabulary;
use crate::data::{DataSet, RowStream, read, scan};
use crate::fit::ensemble::{Ensemble, EnsembleState, fit_ensemble};
use crate::fit::evaluation::EvaluationSet;
use crate::fit::models::Models;
use crate::fit::trainer::{Fitted, TrainingState, fit, fit_propensity};
use crate::model::{Model, logits};
use crate::propensity::logistic;
use counterweight::context::JobContext;
use counterweight::error::{Error, Result};
use counterweight::events::{Event, EventSink};
use counterweight::job::{Job, Lambda, Metric, Split, TrainSpec};
use counterweight::model::{
    DataRecord, Divergence, EpochRecord, Manifest, MemberRecord, Metrics, Quantity, Stop, TrainingRecord,
};
use counterweight::operator::{Finding, Operator, Report};
use counterweight::simulate::{Sample, Simulation, Simulator};
use counterweight::storage::{Storage, parse_url};

const USERS: u32 = 40;
const ITEMS: u32 = 30;

/// Whether `user` likes `item`: each belongs to one of three tastes, and some items please everybody.
fn likes(user: u32, item: u32) -> bool {
    user % 3 == item % 3 || item.is_multiple_of(7)
}

fn rows(count: usize, seed: u64) -> Vec<Row> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let row = |_| {
        let (user, item) = (rng.random_range(0..USERS), rng.random_range(0..ITEMS));
        // Exposure favours what is liked: the log is biased.
        let treated = rng.random_bool(if likes(user, item) { 0.6 } else { 0.2 });
        let liked = likes(user, item) != rng.random_bool(0.05);
        Row { user, item, treated, outcome: f32::from(u8::from(treated && liked)), propensity: None }
    };
    (0..count).map(row).collect()
}

/// A folder with a biased log, a uniform sample and the treated pairs of the log, once each.
fn data(folder: &Path) {
    let write = |name: &str, rows: &[Row]| {
        let mut text = "u,i,o,r\n".to_owned();
        for Row { user, item, treated, outcome, .. } in rows {
            let outcome = if *treated { outcome.to_string() } else { String::new() };
            let _ = writeln!(text, "user-{user},{item},{treated},{outcome}");
        }
        std::fs::write(folder.join(name), text).unwrap();
    };
    let log = rows(6000, 1);
    write("log.csv", &log);
    write("uniform.csv", &rows(3000, 2).into_iter().filter(|row| row.treated).collect::<Vec<_>>());
    let mut pairs: Vec<Row> = log.into_iter().filter(|row| row.treated).collect();
    pairs.sort_by_key(|row| (row.user, row.item));
    pairs.dedup_by_key(|row| (row.user, row.item));
    write("pairs.csv", &pairs);
}

const LOG: &str = r#"
name = "planted"
device = "cpu"
seed = 4
[tables]
log = { url = "${dir}/log.csv" }
uniform = { url = "${dir}/uniform.csv" }
pairs = { url = "${dir}/pairs.csv" }
[columns]
user = "u"
item = "i"
treated = "o"
outcome = "r"
[train]
output = "${dir}/model/"
data.train = "SELECT * FROM log"
data.validation = "SELECT * FROM uniform WHERE md5(concat(u, i)) < '8'"
data.test = "SELECT * FROM uniform WHERE md5(concat(u, i)) >= '8'"
model.dim = 8
loss.method = "ips-v2"
loss.lambda = 1.0
optimizer.epochs = 12
optimizer.batch_size = 256
optimizer.block_users = 16
optimizer.block_items = 16
optimizer.prediction.lr = 0.02
optimizer.propensity.lr = 0.02
"#;

/// `table` with the true propensities.
fn with_propensities(table: &str) -> String {
    format!(
        "train.data.train=SELECT *, CASE WHEN CAST(substr(u, 6) AS INT) % 3 = i % 3 OR i % 7 = 0 THEN 0.6 ELSE 0.2 END AS p \
         FROM {table}"
    )
}

const COLUMN: [&str; 3] = ["train.propensity.source=column", "columns.propensity=p", "train.loss.lambda=0"];

const MATRIX: [&str; 2] = ["population.shape=\"matrix\"", "train.data.train=SELECT * FROM pairs"];

fn context(folder: &Path, set: &[&str]) -> Result<JobContext> {
    let mut assignments = vec![format!("vars.dir={}", folder.display())];
    assignments.extend(set.iter().map(|assignment| (*assignment).to_owned()));
    JobContext::builder(Job::parse(LOG, &assignments)?).storage(Arc::new(Storage::new([]))).build()
}

/// Trains in a new folder.
async fn train(set: &[&str]) -> (TempDir, Manifest) {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path());
    let context = context(folder.path(), set).unwrap();
    let report = TrainOperator.run(&context).await.unwrap();
    assert_eq!(report.outputs.len(), 5);
    let manifest = manifest(&context).await;
    (folder, manifest)
}

async fn manifest(context: &JobContext) -> Manifest {
    let url = parse_url(&context.job.train.as_ref().unwrap().output).unwrap();
    Manifest::read(&context.storage, &url).await.unwrap()
}

/// Puts a file where a folder was, once an epoch is done.
#[derive(Debug)]
struct Blocks(std::path::PathBuf);

impl EventSink for Blocks {
    fn emit(&self, event: Event) {
        if matches!(event, Event::Epoch { .. }) && !self.0.is_file() {
            let _ = std::fs::remove_dir_all(&self.0);
            std::fs::write(&self.0, "in the way").unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_whose_folder_cannot_be_written_in_the_end_is_kept_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path());
    let mut context = context(folder.path(), &["train.output=${dir}/sub/model/"]).unwrap();
    context.events = Arc::new(Blocks(folder.path().join("sub")));
    let (report, ended) = TrainOperator.report(&context).await.unwrap();
    assert!(report.text.contains("log loss") && report.outputs.is_empty(), "{}", report.text);
    let kept = |error: &Error| {
        let error = error.to_string();
        error.split("the model is kept in ").nth(1).and_then(|rest| rest.split(": ").next()).expect(&error).to_owned()
    };
    let kept_there = kept(&ended.unwrap_err());
    let url = parse_url(&format!("{kept_there}/")).unwrap();
    let model = TrainedModel::read(&context.storage, &url, Device::Cpu).await.unwrap();
    assert!(model.manifest.training.stop.is_good());
    assert_eq!(std::fs::read_to_string(folder.path().join("sub")).unwrap(), "in the way");
    std::fs::remove_dir_all(kept_there).unwrap();

    std::fs::remove_file(folder.path().join("sub")).unwrap();
    let error = TrainOperator.run(&context).await.unwrap_err();
    std::fs::remove_dir_all(kept(&error)).unwrap();
}

async fn error(set: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path());
    let context = match context(folder.path(), set) {
        Ok(context) => context,
        Err(error) => return error.to_string(),
    };
    let error = TrainOperator.run(&context).await.unwrap_err();
    assert!(!folder.path().join("model").exists(), "nothing is written: {error}");
    error.to_string()
}

#[tokio::test]
async fn a_log_teaches_its_planted_tastes() {
    let mlp = ["train.model.head=mlp", "train.loss.phi=learned"];
    for set in [&[][..], &["train.loss.method=dr-v2", "train.loss.phi=concat"], &mlp] {
        let (_folder, manifest) = train(set).await;
        let test = manifest.training.test.unwrap();
        assert!(test.auc.unwrap() > 0.85, "{test:?}");
        assert!(test.bmse.is_none() && test.bmse_constant.is_none());
        let Metrics { bmse, bmse_constant, bmse_prediction, .. } = manifest.training.validation;
        assert!(bmse.is_some() && bmse_constant.is_some() && bmse_prediction.is_some());
        assert_eq!((manifest.users.count, manifest.items.count), (40, 30));
        assert_eq!((manifest.users.data_type.as_str(), manifest.items.data_type.as_str()), ("Utf8", "Int64"));
    }
}

/// One row a user is ranked right whatever the model, and the report says so.
#[tokio::test]
async fn rankings_that_no_model_changes_are_said() {
    let report = async |set: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        data(folder.path());
        let report = TrainOperator.run(&context(folder.path(), set).unwrap()).await.unwrap();
        let ranked = &report.summary["training"]["ranked"]["validation"];
        (report.text, ["users", "within_k"].map(|of| ranked[of].as_u64().unwrap()))
    };
    let (text, [users, within_k]) = report(&["train.optimizer.epochs=1", "train.evaluation.k=1000"]).await;
    assert!(users > 0 && within_k == users);
    let note = "Recall@1000 of the validation rows is 1 by construction for 100.0 % of their users";
    assert!(text.contains(note), "{text}");
    let (text, [_, within_k]) = report(&["train.optimizer.epochs=1", "train.evaluation.k=1"]).await;
    assert!(2 * within_k < users && !text.contains("by construction"), "{text}");
}

/// Shared embeddings are one tensor before, during and after training.
#[tokio::test]
async fn shared_embeddings_teach_every_model() {
    let set = ["train.model.embeddings=shared", "train.loss.method=escm2-dr", "train.optimizer.imputation.lr=0.02"];
    let (folder, manifest) = train(&set).await;
    let test = manifest.training.test.unwrap();
    assert!(test.auc.unwrap() > 0.85, "{test:?}");
    let names: Vec<&str> = manifest.tensors.keys().map(String::as_str).collect();
    let per_model = |model: &str| ["head", "item_bias", "user_bias"].map(|part| format!("{model}.{part}"));
    let wanted = ["imputation", "prediction", "propensity"].map(per_model).concat();
    assert_eq!(names, [wanted, vec!["shared.item_embedding".into(), "shared.user_embedding".into()]].concat());

    let context = context(folder.path(), &set).unwrap();
    let url = parse_url(folder.path().join("model").to_str().unwrap()).unwrap();
    let read = TrainedModel::read(&context.storage, &url, Device::Cpu).await.unwrap().models;
    let fitted = fit_rows(&spec(&set), 0, 0).unwrap().models;
    let log = rows(3000, 2);
    let auc = |model: &Model| {
        let row = |row: &Row| Row { treated: true, outcome: f32::from(u8::from(likes(row.user, row.item))), ..*row };
        EvaluationSet::new(log.iter().map(row).collect(), Device::Cpu).evaluate(model, 5).auc.unwrap()
    };
    assert!(auc(&fitted.prediction) > 0.85 && auc(&fitted.propensity) > 0.7, "what is liked is treated more often");
    let embedding = |model: &Model| model.embeddings().unwrap().data_ptr();
    for models in [read, fitted] {
        assert!(models.named().all(|(_, model)| embedding(model) == embedding(&models.prediction)));
    }
}

#[tokio::test]
async fn shared_embeddings_teach_every_perceptron() {
    let shared = ["train.model.embeddings=shared", "train.model.head=mlp", "train.model.hidden=[12, 6]"];
    let set = ["train.loss.method=escm2-dr", "train.optimizer.imputation.lr=0.02"];
    let (_folder, manifest) = train(&[&shared[..], &set].concat()).await;
    let test = manifest.training.test.unwrap();
    assert!(test.auc.unwrap() > 0.85, "{test:?}");
    let sizes = |model: &str| {
        ["0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias"]
            .map(|part| manifest.tensors[&format!("{model}.head.{part}")].clone())
    };
    for model in ["propensity", "prediction", "imputation"] {
        assert_eq!(sizes(model), [vec![12, 16], vec![12], vec![6, 12], vec![6], vec![1, 6], vec![1]]);
    }
    assert_eq!(manifest.tensors.len(), 3 * 8 + 2);
}

/// Whether propensities come from a model fitted beforehand, from a logistic regression or from a uniform sample, in a log
/// and in a matrix.
#[tokio::test]
async fn propensities_may_come_from_elsewhere() {
    let uniform = "train.data.uniform=SELECT * FROM uniform WHERE md5(concat(i, u)) < '4'";
    for source in ["model", "logistic", "naive-bayes"] {
        for (shape, method) in [(&[][..], "dr"), (&MATRIX[..], "ips")] {
            let source = format!("train.propensity.source={source}");
            let method = format!("train.loss.method={method}");
            let set = [&source, &method, uniform, "train.propensity.epochs=5", "train.loss.lambda=0"];
            let epochs = ["train.optimizer.imputation.lr=0.02", "train.optimizer.epochs=30"];
            let (_folder, manifest) = train(&[shape, &set, &epochs].concat()).await;
            let test = manifest.training.test.unwrap();
            assert!(test.auc.unwrap() > 0.85, "{source}, {method}: {test:?}");
            assert_eq!(manifest.data.get(Split::Uniform).is_some(), source.ends_with("naive-bayes"));
        }
    }
}

#[tokio::test]
async fn the_covariates_of_a_population_reach_its_propensities() {
    let age = |user: u32| f64::from(user) * 1.5;
    let new = |item: u32| f64::from(u8::from(item > 12));
    let set = [
        MATRIX[0],
        MATRIX[1],
        "population.users=SELECT DISTINCT u, 1.5 * CAST(substr(u, 6) AS INT) AS age FROM log",
        "population.items=SELECT i, i > 12 AS new, i % 5 AS tag FROM log",
        "train.propensity.source=logistic",
        "train.propensity.l2=0.5",
        "train.loss.method=ips",
        "train.loss.lambda=0",
        "train.optimizer.epochs=1",
    ];
    let (folder, manifest) = train(&set).await;
    assert!(manifest.data.covariates.is_some());
    let context = context(folder.path(), &[]).unwrap();
    let url = parse_url(folder.path().join("model").to_str().unwrap()).unwrap();
    let model = TrainedModel::read(&context.storage, &url, Device::Cpu).await.unwrap();
    assert_eq!(manifest.tensors["propensity.user_embedding"], [40, 0]);

    // Text ids are in the order of text.
    let mut users: Vec<u32> = (0..USERS).collect();
    users.sort_unstable_by_key(|user| format!("user-{user}"));
    let place = |user: u32| users.iter().position(|known| *known == user).unwrap() as u32;
    let of_users = Covariates { names: vec!["age".into()], values: users.iter().map(|user| age(*user)).collect() };
    let of_items = Covariates {
        names: vec!["new".into(), "tag".into()],
        values: (0..ITEMS).flat_map(|item| [new(item), f64::from(item % 5)]).collect(),
    };
    let mut pairs: Vec<Row> = rows(6000, 1).into_iter().filter(|row| row.treated).collect();
    pairs.iter_mut().for_each(|row| row.user = place(row.user));
    pairs.sort_by_key(|row| (row.user, row.item));
    pairs.dedup_by_key(|row| (row.user, row.item));
    let sides = [(USERS as usize, Some(&of_users)), (ITEMS as usize, Some(&of_items))];
    let table = logistic::fit_matrix(&pairs, sides, 0.5, Device::Cpu, &CancellationToken::new()).unwrap();
    let wanted = logits(&logistic::model(&table, USERS as usize), &pairs, Device::Cpu);
    let ours = logits(&model.models.propensity, &pairs, Device::Cpu);
    let apart = ours.iter().zip(&wanted).map(|(ours, wanted)| (ours - wanted).abs()).fold(0.0, f32::max);
    assert!(apart < 1e-5, "{apart}");

    let bare: Vec<&str> = set.into_iter().filter(|set| !set.starts_with("population.users")).collect();
    let (_folder, other) = train(&bare).await;
    assert_ne!((other.data.covariates, other.weights), (manifest.data.covariates, manifest.weights));
}

#[tokio::test]
async fn propensities_may_come_from_a_column() {
    for (shape, table, method) in [(&[][..], "log", "ips"), (&MATRIX[..1], "pairs", "dr")] {
        let (query, method) = (with_propensities(table), format!("train.loss.method={method}"));
        let epochs = ["train.optimizer.imputation.lr=0.02", "train.optimizer.epochs=30"];
        let with = |query| [shape, &COLUMN, &epochs, &[query, method.as_str()]].concat();
        let (_folder, manifest) = train(&with(query.as_str())).await;
        let test = manifest.training.test.unwrap();
        assert!(test.auc.unwrap() > 0.85, "{table}: {test:?}");

        let halved = query.replace("0.6", "0.3");
        let (_folder, other) = train(&with(halved.as_str())).await;
        assert_eq!(other.data.sets[&Split::Train].rows, manifest.data.sets[&Split::Train].rows);
        assert_ne!(
            other.data.sets[&Split::Train].hash,
            manifest.data.sets[&Split::Train].hash,
            "a fingerprint covers the column"
        );
        assert_ne!(other.weights, manifest.weights);
    }
}

/// The predictions learned with p̂ of a column are those learned with a fixed model of the same p̂.
#[test]
fn a_column_stands_for_the_model_that_it_was_made_by() {
    for method in ["ips", "snips", "dr", "mrdr", "rd-dr"] {
        let method = format!("train.loss.method={method}");
        let learn = |source: &str, rows: Vec<Row>| {
            let source = format!("train.propensity.source={source}");
            let spec = spec(&[&method, &source, "train.loss.lambda=0", "train.optimizer.epochs=3"]);
            let sampler = RowSampler::new(Box::new(rows), USERS as usize, 256, 10_000, 0, Device::Cpu);
            let validation = EvaluationSet::new(self::rows(500, 5), Device::Cpu);
            let state = TrainingState::new(&spec, 0, models(&spec));
            fit(&spec, state, &sampler, &validation, &CancellationToken::new(), |_| {}).unwrap().models.prediction
        };
        let bare = rows(2000, 3);
        let logits = logits(&models(&spec(&[])).propensity, &bare, Device::Cpu);
        let probability = |logit: f32| 1.0 / (1.0 + (-logit).exp());
        let with = bare.iter().zip(logits).map(|(row, logit)| Row { propensity: Some(probability(logit)), ..*row });
        let (by_column, by_model) = (learn("column", with.collect()), learn("model", bare.clone()));
        let apart = (by_column.table() - by_model.table()).abs().max().double_value(&[]);
        assert!(apart < 1e-4, "{method}: {apart}");
        let moved = by_model.table() - models(&spec(&[])).prediction.table();
        assert!(moved.abs().max().double_value(&[]) > 0.05);
    }
}

#[tokio::test]
async fn a_matrix_teaches_its_planted_tastes() {
    let few = ["train.optimizer.blocks_per_epoch=2", "train.optimizer.epochs=120", "train.loss.phi=concat"];
    let learned = ["train.optimizer.epochs=40", "train.loss.phi=learned", "train.model.head=mlp"];
    for set in [
        &["train.optimizer.epochs=40", "train.loss.phi=product"][..],
        &["train.optimizer.epochs=40", "train.loss.phi=prediction"],
        &few,
        &learned,
    ] {
        let (_folder, manifest) = train(&[&MATRIX, set].concat()).await;
        let test = manifest.training.test.unwrap();
        assert!(test.auc.unwrap() > 0.85, "{test:?}");
        assert!(test.recall.is_some() && test.ndcg.is_some());
    }
}

#[tokio::test]
async fn weighing_balance_lowers_the_imbalance() {
    for (phi, head) in [
        ("constant", "dot"),
        ("product", "dot"),
        ("concat", "dot"),
        ("prediction", "dot"),
        ("concat", "mlp"),
        ("learned", "mlp"),
    ] {
        let (phi, head) = (format!("train.loss.phi=\"{phi}\""), format!("train.model.head={head}"));
        let mut last = Vec::new();
        for weight in ["train.loss.lambda=0", "train.loss.lambda=10"] {
            let (_folder, manifest) = train(&[&phi, &head, weight, "train.optimizer.epochs=20"]).await;
            last.push(manifest.training.epochs().last().unwrap().validation.bmse.unwrap());
        }
        assert!(last[1] < last[0], "{phi}: {last:?}");
    }
}

/// The rows of a simulated log, with the factors that made its propensities.
fn simulated() -> (Vec<Row>, Vec<Vec<f64>>) {
    let config = Simulation { rows: 40_000, users: 300, items: 100, dim: 4, seed: 1, ..Simulation::default() };
    let (log, _) = Simulator::new(config).unwrap().chunk(Sample::Biased, 0).unwrap();
    let ids = |column: &str| log[column].as_primitive::<Int64Type>().values().iter().map(|id| *id as u32);
    let (treated, outcome) = (log["treated"].as_boolean(), log["outcome"].as_primitive::<Float64Type>());
    let row = |(at, (user, item))| {
        let treated = treated.value(at);
        Row { user, item, treated, outcome: if treated { outcome.value(at) as f32 } else { 0.0 }, propensity: None }
    };
    let phi = log["phi"].as_fixed_size_list();
    let factors = phi.values().as_primitive::<Float32Type>().values().chunks(phi.value_length() as usize);
    (
        ids("user_id").zip(ids("item_id")).enumerate().map(row).collect(),
        factors.map(|factors| factors.iter().copied().map(f64::from).collect()).collect(),
    )
}

/// ‖mean(w·φ)‖².
fn imbalance(rows: &[Row], propensity: &[f64], phi: &[Vec<f64>]) -> f64 {
    let mut sum = vec![0.0; phi[0].len()];
    for ((row, p), phi) in rows.iter().zip(propensity).zip(phi) {
        let weight = if row.treated { 1.0 / p } else { -1.0 / (1.0 - p) };
        sum.iter_mut().zip(phi).for_each(|(sum, value)| *sum += weight * value);
    }
    sum.iter().map(|sum| (sum / rows.len() as f64).powi(2)).sum()
}

/// What is learned of a simulated log, and of its treated pairs as a matrix, is as good.
#[test]
fn lower_precision_learns_about_as_well() {
    let (rows, _) = simulated();
    let (train, test) = rows.split_at(30_000);
    let validation = EvaluationSet::new(test.to_vec(), Device::Cpu);
    let mut treated: Vec<Row> = train.iter().copied().filter(|row| row.treated).collect();
    treated.sort_by_key(|row| (row.user, row.item));
    treated.dedup_by_key(|row| (row.user, row.item));
    let log = RowSampler::new(Box::new(train.to_vec()), 300, 1024, 100_000, 0, Device::Cpu);
    let matrix = BlockSampler::new(treated, (300, 100), (64, 32), 0, Device::Cpu, |_, _| String::new()).unwrap();
    let cases: [(&dyn Sampler, _, &[_]); 3] = [
        (&log, "log", &["train.model.head=mlp", "train.model.hidden=[16, 8]", "train.loss.phi=learned"]),
        (&matrix, "matrix", &["train.model.head=mlp", "train.model.hidden=[16]", "train.loss.phi=concat"]),
        (&matrix, "matrix", &["train.model.head=dot", "train.loss.phi=product"]),
    ];
    for (sampler, shape, set) in cases {
        let shape = format!("population.shape={shape}");
        let fit = |precision: &str| {
            let precision = format!("train.precision={precision}");
            let spec = spec(&[set, &[&shape, &precision, "train.optimizer.epochs=8"]].concat());
            let state = TrainingState::new(&spec, 0, Models::new(&spec, 300, 100, 0, 0, Device::Cpu));
            fit(&spec, state, sampler, &validation, &CancellationToken::new(), |_| {}).unwrap()
        };
        let (full, half) = (fit("float32"), fit("bfloat16"));
        let auc = |fitted: &Fitted| fitted.best().validation.auc.unwrap();
        assert!(auc(&full) > 0.6 && (auc(&full) - auc(&half)).abs() < 0.01, "{} {}", auc(&full), auc(&half));
        assert!(!same(&full.models, &half.models));
        assert!(half.models.named().all(|(_, model)| model.table().kind() == Kind::Float));
    }
}

/// On rows that training did not see, of factors that nobody told the models.
#[test]
fn balancing_a_learned_representation_balances_what_made_a_simulated_log() {
    let (rows, factors) = simulated();
    let (train, test) = rows.split_at(30_000);
    let sampler = RowSampler::new(Box::new(train.to_vec()), 300, 1024, 100_000, 0, Device::Cpu);
    let validation = EvaluationSet::new(test.to_vec(), Device::Cpu);
    let with = |lambda: &str| {
        let spec = spec(&[
            "train.model.head=mlp",
            "train.model.hidden=[16]",
            "train.loss.phi=learned",
            "train.loss.stop_gradient=true",
            "train.optimizer.epochs=4",
            "train.optimizer.propensity.lr=0.005",
            lambda,
        ]);
        let mut last = None;
        let keep = |state: &TrainingState| last = Some(state.models.copy());
        let state = TrainingState::new(&spec, 0, Models::new(&spec, 300, 100, 0, 0, Device::Cpu));
        fit(&spec, state, &sampler, &validation, &CancellationToken::new(), keep).unwrap();
        let logits = logits(&last.unwrap().propensity, test, Device::Cpu);
        let propensity: Vec<f64> = logits.into_iter().map(|logit| 1.0 / (1.0 + (-f64::from(logit)).exp())).collect();
        imbalance(test, &propensity, &factors[30_000..])
    };
    let (without, with) = (with("train.loss.lambda=0"), with("train.loss.lambda=10"));
    assert!(with < without / 2.0, "{without}, {with}");
}

/// Weights are named after their content.
#[tokio::test]
async fn a_seed_decides_the_weights() {
    for shape in [&[][..], &MATRIX] {
        let with = |more: &[&'static str]| [shape, &["train.optimizer.epochs=2"], more].concat();
        let (first, second) = (train(&with(&[])).await.1, train(&with(&["session.threads=1"])).await.1);
        assert_eq!(content_of(&first.weights), content_of(&second.weights));
        assert_eq!(first.data.sets, second.data.sets);
        assert_ne!(content_of(&first.weights), content_of(&train(&with(&["seed=5"])).await.1.weights));
    }
}

#[tokio::test]
async fn a_reloaded_model_scores_as_it_did() {
    let (folder, manifest) = train(&["train.loss.method=dr-v2"]).await;
    let context = context(folder.path(), &[]).unwrap();
    let url = parse_url(folder.path().join("model").to_str().unwrap()).unwrap();
    let model = TrainedModel::read(&context.storage, &url, Device::Cpu).await.unwrap();
    let sql = context.job.train.as_ref().unwrap().data.test.clone().unwrap();
    let set = DataSet::plan(&context, Split::Test, &sql).await.unwrap();
    let test = read(&set, &model.users, &model.items).await.unwrap();
    assert_eq!(Some(&test.fingerprint), manifest.data.get(Split::Test));
    let metrics = EvaluationSet::new(test.rows, Device::Cpu).evaluate(&model.models.prediction, 5);
    let before = manifest.training.test.unwrap();
    for metric in [Metric::Auc, Metric::Recall, Metric::Ndcg, Metric::LogLoss, Metric::Mse] {
        let (now, before) = (metrics.get(metric).unwrap(), before.get(metric).unwrap());
        assert!((now - before).abs() < 1e-12, "{metric:?} was {before} and is {now}");
    }
    assert!(model.models.imputation.is_some());
}

#[tokio::test]
async fn a_large_log_is_read_anew_and_gives_the_rows_that_a_small_one_keeps() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path());
    let context = context(folder.path(), &COLUMN).unwrap();
    let sql = with_propensities("log");
    let sql = sql.trim_start_matches("train.data.train=");
    let set = DataSet::plan(&context, Split::Train, sql).await.unwrap();
    let kept = scan(&set, None, None, usize::MAX).await.unwrap();
    let dropped = scan(&set, None, None, 100).await.unwrap();
    assert!(dropped.rows.is_none());
    assert_eq!(dropped.fingerprint, kept.fingerprint);
    assert_eq!((kept.fingerprint.rows, kept.users.len()), (6000, USERS as usize));
    let runtime = tokio::runtime::Handle::current();
    let stream = || RowStream::new(set.clone(), dropped.users.clone(), dropped.items.clone(), runtime.clone());
    let source = stream();
    let streamed = move || source.read().flat_map(Result::unwrap).collect::<Vec<Row>>();
    let streamed = tokio::task::spawn_blocking(streamed).await.unwrap();
    let kept = kept.rows.unwrap();
    let likely = |row: &Row| row.propensity == Some(if likes(row.user, row.item) { 0.6 } else { 0.2 });
    assert!(kept.iter().filter(|row| likely(row)).count() > 2000);
    assert_eq!(streamed, kept);

    // Its batches, made ahead, are those of the rows in memory.
    let sampler = |rows: Box<dyn RowSource>| RowSampler::new(rows, USERS as usize, 256, 1000, 7, Device::Cpu);
    let (ahead, plain) = (Prefetch::new(Box::new(sampler(Box::new(stream())))), sampler(Box::new(kept)));
    let same = move || {
        ahead.epoch(3).zip(plain.epoch(3)).fold(0, |batches, (ahead, plain)| {
            let (ahead, plain) = (ahead.unwrap(), plain.unwrap());
            assert!(ahead.rows == plain.rows && ahead.treated == plain.treated && ahead.outcome == plain.outcome);
            assert_eq!(ahead.propensity, plain.propensity);
            batches + 1
        })
    };
    assert_eq!(tokio::task::spawn_blocking(same).await.unwrap(), 24);
}

/// What [`TrainOperator`] finds wrong.
async fn checked(context: &JobContext) -> Result<()> {
    Finding::all(TrainOperator.check(context).await)
}

#[tokio::test]
async fn checking_finds_what_running_would_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path());
    checked(&context(folder.path(), &[]).unwrap()).await.unwrap();
    let broken = context(folder.path(), &["columns.outcome=rr"]).unwrap();
    let error = checked(&broken).await.unwrap_err().to_string();
    assert!(error.contains("train.data.validation") || error.contains("train.data.t"), "{error}");
    let broken = checked(&context(folder.path(), &COLUMN).unwrap()).await.unwrap_err().to_string();
    assert!(broken.contains("train.data.train has no column \"p\""), "{broken}");
    assert!(error.contains("no column \"rr\"") && error.contains("\"r\""), "{error}");
    assert!(!folder.path().join("model").exists());
}

#[tokio::test]
async fn bad_input_is_named_with_its_cure() {
    let train = |sql: &str| format!("train.data.train={sql}");
    let validation = |sql: &str| format!("train.data.validation={sql}");
    let matrix = |sql: &str| vec![MATRIX[0].to_owned(), train(sql)];
    let cases: Vec<(Vec<String>, &[&str])> = vec![
        (vec![train("SELECT u, i, o, r * 5 AS r FROM log")], &["\"r\" is 5", "user-", "0 to 1", "CASE WHEN"]),
        (vec![train("SELECT u, i, true AS o, r FROM log")], &["\"r\" is NULL", "treated", "leave the row out"]),
        (vec![train("SELECT u, i, 2 AS o, r FROM log")], &["\"o\" is 2", "0 or 1"]),
        (vec![train("SELECT u, i, CASE WHEN o THEN true END AS o, r FROM log")], &["\"o\" is NULL"]),
        (
            vec![train("SELECT nullif(u, 'user-3') AS u, i, o, r FROM log")],
            &["\"u\" is NULL", "WHERE \"u\" IS NOT NULL"],
        ),
        (
            vec![train("SELECT u, i, o, CASE WHEN o THEN -1 END AS r FROM log")],
            &["\"r\" is -1", "WHERE CAST(\"o\" AS INT) = 0 OR \"r\" BETWEEN 0 AND 1"],
        ),
        (vec![train("SELECT u, i / 2.0 AS i, o, r FROM log")], &["\"i\" is Float64", "ids are integers or text"]),
        (vec![train("SELECT u, i, 'x' AS o, r FROM log")], &["\"o\" is Utf8", "boolean or a number"]),
        (vec![train("SELECT * FROM log WHERE i > 99")], &["train.data.train gives no row", "WHERE"]),
        (vec![train("SELECT * FROM log WHERE NOT o")], &["no treated row"]),
        (vec![train("SELEC")], &["train.data.train does not plan"]),
        (vec![train("SELECT u, i, r FROM log")], &["train.data.train has no column \"o\""]),
        (vec![validation("SELECT * FROM uniform WHERE r = 1")], &["train.data.validation", "same outcome", "log_loss"]),
        (
            vec![validation("SELECT * FROM uniform WHERE r = 0"), "train.evaluation.metric=recall".into()],
            &["none of", "log_loss"],
        ),
        (vec![validation("SELECT 'new' AS u, i, o, r FROM uniform")], &["no treated row to evaluate", "unknown"]),
        (vec![validation("SELECT 1 AS u, i, o, r FROM uniform")], &["\"u\" is integers", "text"]),
        (matrix("SELECT * FROM pairs UNION ALL SELECT * FROM pairs"), &["(user user-0, item 0)", "GROUP BY"]),
        (matrix("SELECT * FROM log"), &["\"o\" is 0", "WHERE CAST(\"o\" AS INT) = 1"]),
        (
            [matrix("SELECT * FROM pairs"), vec!["population.items=SELECT i FROM pairs WHERE i < 7".into()]].concat(),
            &["\"i\" holds 7", "population.items"],
        ),
        (
            [matrix("SELECT * FROM pairs"), vec!["population.items=SELECT * FROM pairs".into()]].concat(),
            &["population.items has 4 columns"],
        ),
        (vec!["device=cuda:99".into()], &["cuda:99"]),
        (vec!["train.output=https://host/model/".into()], &["train.output", "s3://"]),
    ];
    let column = |value: &str| {
        let query = train(&format!("SELECT *, {value} AS p FROM log"));
        [vec![query], COLUMN.map(str::to_owned).to_vec()].concat()
    };
    let outside = "CASE WHEN u = 'user-3' AND i = 4";
    let columns: Vec<(Vec<String>, &[&str])> = vec![
        (
            column(&format!("{outside} THEN 0 ELSE 0.5 END")),
            &["\"p\" is 0 for (user \"user-3\", item 4)", "clip_propensity"],
        ),
        (column(&format!("{outside} THEN NULL ELSE 0.5 END")), &["\"p\" is NULL for (user \"user-3\", item 4)"]),
        (column(&format!("{outside} THEN 1 ELSE 0.5 END")), &["\"p\" is 1 for", "below 1"]),
        (column(&format!("{outside} THEN -0.25 ELSE 0.5 END")), &["\"p\" is -0.25 for"]),
        (column("CAST('NaN' AS DOUBLE)"), &["\"p\" is NaN for"]),
        (column("'x'"), &["\"p\" is Utf8", "boolean or a number"]),
        (COLUMN.map(str::to_owned).to_vec(), &["train.data.train has no column \"p\""]),
        (vec![COLUMN[0].into(), COLUMN[2].into()], &["columns.propensity is missing", "train.data.train"]),
    ];
    let listed = |users: &str| {
        let set = ["train.propensity.source=logistic", COLUMN[2], "train.loss.method=ips"].map(str::to_owned);
        [matrix("SELECT * FROM pairs"), set.to_vec(), vec![format!("population.users={users}")]].concat()
    };
    let covariates: Vec<(Vec<String>, &[&str])> = vec![
        (listed("SELECT u, i AS x FROM log"), &["population.users lists \"user-", "twice, with x = ", "one row"]),
        (listed("SELECT u, u AS name FROM log"), &["population.users: column \"name\" is Utf8", "CASE WHEN"]),
        (
            listed("SELECT DISTINCT u, CASE WHEN u <> 'user-7' THEN 2 END AS x FROM log"),
            &["column \"x\" is NULL for \"user-7\"", "coalesce"],
        ),
        (listed("SELECT DISTINCT u, CAST('NaN' AS DOUBLE) AS x FROM log"), &["column \"x\" is NaN for \"user-"]),
        (listed("SELECT u, 1 AS x FROM log WHERE false"), &["population.users gives no row"]),
        (
            vec![COLUMN[2].into(), "train.propensity.source=logistic".into(), train("SELECT * FROM log WHERE o")],
            &["every element of the population is treated", "untreated rows"],
        ),
    ];
    for (set, wanted) in cases.into_iter().chain(columns).chain(covariates) {
        let set: Vec<&str> = set.iter().map(String::as_str).collect();
        let error = error(&set).await;
        for part in wanted {
            assert!(error.contains(part), "{set:?}: {part:?} is not in {error:?}");
        }
    }
}

#[tokio::test]
async fn rows_of_unknown_users_are_left_out_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path());
    let test = "train.data.test=SELECT * FROM uniform UNION ALL SELECT 'new', 1, true, 1.0";
    let context = context(folder.path(), &[test, "train.optimizer.epochs=1"]).unwrap();
    let report = TrainOperator.run(&context).await.unwrap();
    assert!(report.text.contains("1 rows of unknown users or items left out"), "{}", report.text);
    assert_eq!(report.summary["unknown"], serde_json::json!([0, 1]));
}

#[tokio::test]
async fn an_interrupt_before_the_first_evaluation_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path());
    let context = context(folder.path(), &[]).unwrap();
    context.interrupt.cancel();
    assert!(matches!(TrainOperator.run(&context).await.unwrap_err(), Error::Interrupted));
    assert!(!folder.path().join("model").exists());
}

/// The planted log's rows, with a step that spoils an epoch.
struct Spoilt {
    inner: RowSampler,
    epoch: usize,
}

impl Sampler for Spoilt {
    fn epoch(&self, epoch: usize) -> Batches<'_> {
        let spoilt = epoch == self.epoch;
        Box::new(self.inner.epoch(epoch).enumerate().map(move |(step, batch)| {
            let batch = batch?;
            let outcome = if spoilt && step == 2 { &batch.outcome * f64::NAN } else { batch.outcome.shallow_clone() };
            Ok(Batch { outcome, ..batch })
        }))
    }

    fn population(&self) -> Batches<'_> {
        self.inner.population()
    }
}

fn spec(set: &[&str]) -> TrainSpec {
    let mut assignments = vec!["vars.dir=/".to_owned()];
    assignments.extend(set.iter().map(|assignment| (*assignment).to_owned()));
    Job::parse(LOG, &assignments).unwrap().train.clone().unwrap()
}

fn fit_rows(spec: &TrainSpec, spoilt: usize, interrupt_after: usize) -> Result<Fitted> {
    fit_models(spec, models(spec), spoilt, interrupt_after)
}

fn models(spec: &TrainSpec) -> Models {
    Models::new(spec, USERS as usize, ITEMS as usize, 0, 0, Device::Cpu)
}

fn fit_models(spec: &TrainSpec, models: Models, spoilt: usize, interrupt_after: usize) -> Result<Fitted> {
    fit_on(&log_spoilt_at(spoilt), spec, models, interrupt_after)
}

fn log() -> RowSampler {
    RowSampler::new(Box::new(rows(2000, 3)), USERS as usize, 256, 10_000, 0, Device::Cpu)
}

fn validation() -> EvaluationSet {
    EvaluationSet::new(rows(500, 5), Device::Cpu)
}

fn log_spoilt_at(epoch: usize) -> Spoilt {
    Spoilt { inner: log(), epoch }
}

fn fit_on(sampler: &dyn Sampler, spec: &TrainSpec, models: Models, interrupt_after: usize) -> Result<Fitted> {
    let interrupt = CancellationToken::new();
    let report = |state: &TrainingState| {
        if state.history.len() == interrupt_after {
            interrupt.cancel();
        }
    };
    fit(spec, TrainingState::new(spec, 0, models), sampler, &validation(), &interrupt, report)
}

fn same(a: &Models, b: &Models) -> bool {
    a.named().zip(b.named()).all(|((_, a), (_, b))| {
        a.table() == b.table() && a.embeddings() == b.embeddings() && a.head().weights() == b.head().weights()
    })
}

#[test]
fn an_interrupt_keeps_the_best_models_so_far() {
    let fitted = fit_rows(&spec(&[]), 0, 4).unwrap();
    assert_eq!(fitted.stop, Stop::Interrupted { epoch: 5 });
    assert_eq!(fitted.history.len(), 4);
    let best = fit_rows(&spec(&[&format!("train.optimizer.epochs={}", fitted.best_epoch)]), 0, 0).unwrap();
    assert_eq!((best.stop, best.best_epoch), (Stop::Epochs, fitted.best_epoch));
    assert!(same(&best.models, &fitted.models), "they are the models of the best epoch");
}

#[test]
fn training_ends_as_it_would_where_batches_are_made_ahead() {
    let spec = spec(&["train.optimizer.epochs=6"]);
    for (spoilt, interrupt_after) in [(0, 0), (0, 2), (4, 0)] {
        let ahead = Prefetch::new(Box::new(log_spoilt_at(spoilt)));
        let ahead = fit_on(&ahead, &spec, models(&spec), interrupt_after).unwrap();
        let plain = fit_models(&spec, models(&spec), spoilt, interrupt_after).unwrap();
        assert_eq!((&ahead.stop, figures(&ahead.history)), (&plain.stop, figures(&plain.history)));
        assert!(same(&ahead.models, &plain.models));
    }
}

#[test]
fn a_propensity_model_fitted_beforehand_is_left_as_it_is() {
    ["dot", "mlp"].iter().for_each(|head| fits_beforehand(&format!("train.model.head={head}")));
}

fn fits_beforehand(head: &str) {
    let set = ["train.propensity.source=model", "train.propensity.epochs=3", "train.loss.method=escm2-dr", head];
    let spec = spec(&[&set[..], &["train.loss.lambda=0", "train.optimizer.epochs=2"]].concat());
    let weights = |model: &Model| model.weights().map(Tensor::copy).collect::<Vec<_>>();
    // Whether all of the weights moved, or none.
    let moved = |a: &Model, b: &Model| {
        let moved: Vec<bool> = weights(a).iter().zip(weights(b)).map(|(a, b)| *a != b).collect();
        assert!(moved.iter().all(|other| *other == moved[0]), "{moved:?}");
        moved[0]
    };
    let sampler = log();
    let mut models = Models::new(&spec, USERS as usize, ITEMS as usize, 0, 0, Device::Cpu);
    let start = models.copy();
    let interrupt = CancellationToken::new();
    fit_propensity(&spec, &mut models, &sampler, &interrupt).unwrap();
    let alone = models.copy();
    assert!(moved(&alone.propensity, &start.propensity));
    assert!(!moved(&alone.prediction, &start.prediction));

    let state = TrainingState::new(&spec, 0, models);
    let fitted = fit(&spec, state, &sampler, &validation(), &interrupt, |_| {}).unwrap();
    assert!(!moved(&fitted.models.propensity, &alone.propensity));
    assert!(moved(&fitted.models.prediction, &alone.prediction));
    assert!(moved(fitted.models.imputation.as_ref().unwrap(), alone.imputation.as_ref().unwrap()));

    interrupt.cancel();
    let stopped = fit_propensity(&spec, &mut alone.copy(), &sampler, &interrupt);
    assert!(matches!(stopped.unwrap_err(), Error::Interrupted));
}

#[test]
fn a_loss_that_is_not_finite_ends_training() {
    let fitted = fit_rows(&spec(&[]), 3, 0).unwrap();
    let quantity = Quantity::Term("estimator".into());
    assert_eq!(fitted.stop, Stop::Diverged(Divergence { epoch: 3, step: 3, quantity }));
    assert_eq!(
        serde_json::to_value(&fitted.stop).unwrap(),
        serde_json::json!({"reason": "diverged", "epoch": 3, "step": 3, "term": "estimator"})
    );
    assert_eq!(fitted.history.len(), 2);
    assert_eq!(fitted.models.prediction.table().isfinite().all().int64_value(&[]), 1);

    let error = fit_rows(&spec(&[]), 1, 0).unwrap_err().to_string();
    assert!(error.contains("epoch 1, step 3, the estimator loss") && error.contains("lr"), "{error}");
}

/// At p̂ = 1e-20 the squares in the loss are finite and 1/p̂² in its gradient is not.
#[test]
fn a_gradient_that_is_not_finite_ends_training() {
    let spec = spec(&["train.loss.propensity_clip=0.0"]);
    let models = models(&spec);
    let user = rows(2000, 3).into_iter().find(|row| row.treated).unwrap().user;
    let _ = models.propensity.table().get(i64::from(user)).narrow(0, 8, 1).fill_(-46.0);
    let error = fit_models(&spec, models.copy(), 0, 0).unwrap_err().to_string();
    assert!(error.contains("the gradient of the propensity model is not a finite number"), "{error}");
    assert!(error.contains("propensity_clip") && error.contains("stop_gradient"), "{error}");

    let clipped = fit_models(&self::spec(&["train.optimizer.epochs=1"]), models, 0, 0).unwrap();
    let norms = &clipped.history[0].gradient_norms;
    assert!(norms["propensity"] > 0.0 && norms["prediction"] > 0.0 && norms.len() == 2, "{norms:?}");
}

#[test]
fn training_stops_when_the_metric_does_not_improve() {
    let fitted = fit_rows(&spec(&["train.optimizer.epochs=300", "train.evaluation.patience=5"]), 0, 0).unwrap();
    assert_eq!(fitted.stop, Stop::Patience);
    assert_eq!(fitted.history.len(), fitted.best_epoch + 5);
    let value = |record: &EpochRecord| record.validation.auc.unwrap();
    let best = fitted.history.iter().map(value).fold(0.0, f64::max);
    assert_eq!(value(fitted.best()), best);
}

#[test]
fn a_schedule_sets_the_weight_of_every_epoch() {
    let fit = |weight: &str| {
        let weight = format!("train.loss.lambda={weight}");
        fit_rows(&spec(&[&weight, "train.optimizer.epochs=5", "train.evaluation.patience=9"]), 0, 0).unwrap()
    };
    let fitted = fit("{ from = 2, to = 0, epochs = 4 }");
    let weights: Vec<f64> = fitted.history.iter().map(|record| record.lambda).collect();
    for (weight, wanted) in weights.iter().zip([2.0, 4.0 / 3.0, 2.0 / 3.0, 0.0, 0.0]) {
        assert!((weight - wanted).abs() < 1e-12, "{weights:?}");
    }
    for EpochRecord { losses, lambda, optimum, .. } in &fitted.history {
        assert_eq!((losses.contains_key("bmse"), *optimum), (*lambda > 0.0, None), "{losses:?}");
        let bmse = losses.get("bmse").copied().unwrap_or_default();
        let total = losses["propensity"] + losses["estimator"] + lambda * bmse;
        assert!((losses["total"] - total).abs() < 1e-6, "{losses:?}");
    }
    let (constant, number) = (fit("{ from = 0.5, to = 0.5, epochs = 3 }"), fit("0.5"));
    assert!(same(&constant.models, &number.models) && !same(&fitted.models, &number.models));
}

/// Treated rows are a third, so that propensities of one half are too high, and λ above 0 takes variance away.
#[test]
fn the_optimal_weight_is_what_the_epoch_before_found() {
    let set = ["train.loss.lambda=optimal", "train.loss.estimator_weight=2.0", "train.evaluation.patience=30"];
    let fitted = fit_rows(&spec(&set), 0, 0).unwrap();
    assert_eq!(fitted.history[0].lambda, 0.0);
    assert!(fitted.history[1].lambda > 0.0);
    for two in fitted.history.windows(2) {
        let optimum = two[0].optimum.unwrap();
        assert_eq!(two[1].lambda, 2.0 * optimum.lambda.max(0.0));
        assert!(optimum.lambda * optimum.correlation <= 0.0 && optimum.correlation.abs() <= 1.0, "{optimum:?}");
        assert_eq!(two[1].losses.contains_key("bmse"), two[1].lambda > 0.0);
    }
}

/// Most pairs are treated, so that propensities of one half are too low, and no λ above 0 takes variance away.
#[tokio::test]
async fn the_optimal_weight_trains_in_a_matrix_and_is_told() {
    let set = [MATRIX[0], MATRIX[1], "train.loss.lambda=optimal", "train.loss.phi=concat"];
    let (folder, manifest) = train(&[&set[..], &["train.optimizer.epochs=40"]].concat()).await;
    assert!(manifest.training.test.unwrap().auc.unwrap() > 0.85);
    let history = &manifest.training.members[0].history;
    assert!(history[0].optimum.unwrap().lambda < 0.0 && history[1].lambda == 0.0, "{:?}", history[0]);
    assert_eq!(manifest.loss.lambda, Lambda::Optimal);
    let text = std::fs::read_to_string(folder.path().join("model/manifest.json")).unwrap();
    assert!(text.contains("\"lambda\": \"optimal\"") && text.contains("\"correlation\""), "{text}");
}

#[test]
fn timing_splits_an_epoch_where_it_is_asked_for() {
    let fitted = fit_rows(&spec(&["train.timing=true", "train.optimizer.epochs=2"]), 0, 0).unwrap();
    for record in &fitted.history {
        let parts = record.timing.unwrap().parts();
        assert!(parts.iter().all(|(_, seconds)| *seconds > 0.0), "{parts:?}");
        let sum: f64 = parts.iter().map(|(_, seconds)| seconds).sum();
        assert!(sum <= record.seconds && sum > 0.5 * record.seconds, "{parts:?} of {}", record.seconds);
    }
    let fitted = fit_rows(&spec(&["train.optimizer.epochs=1"]), 0, 0).unwrap();
    assert_eq!(fitted.history[0].timing, None);
}

async fn point(storage: &Arc<Storage>, job: &Job, every: Duration) -> Checkpoints {
    let run = Run::new(job, "cpu", &DataRecord::default(), ["users", "items"]).unwrap();
    Checkpoints::open(storage, &parse_url("memory:///model").unwrap(), run, every).await.unwrap()
}

/// A history but for its clock.
fn figures(history: &[EpochRecord]) -> Vec<EpochRecord> {
    history.iter().map(|record| EpochRecord { seconds: 0.0, ..record.clone() }).collect()
}

#[test]
fn what_is_kept_at_any_epoch_leads_to_the_same_end() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let schedule = "loss.lambda={ from = 0.1, to = 0.7, epochs = 9 }";
    let settings = [
        &["optimizer.adam=dense"][..],
        &[schedule],
        &["loss.lambda=optimal"],
        &["optimizer.adam=lazy", "loss.lambda=optimal"],
        &["model={ head = 'mlp', hidden = [6, 4], dim = 8 }"],
        &["model={ head = 'mlp', hidden = [6], dim = 8, embeddings = 'shared' }"],
        &["model={ head = 'mlp', hidden = [6], dim = 8 }", "precision=bfloat16"],
    ];
    for setting in settings {
        let job = |epochs: usize| {
            let mut set = vec!["vars.dir=/".to_owned(), "train.loss.method=dr-v2".to_owned()];
            set.extend(setting.iter().map(|setting| format!("train.{setting}")));
            set.push(format!("train.optimizer.epochs={epochs}"));
            Job::parse(LOG, &set).unwrap()
        };
        let (plain, ahead) = (log(), Prefetch::new(Box::new(log())));
        let go_on = |job: &Job, sampler: &dyn Sampler, point: &mut Checkpoints| {
            ensemble(sampler, job, point, 0).unwrap().members.pop().unwrap()
        };
        let storage = || Arc::new(Storage::new([]));
        let never = Duration::from_secs(3600);
        let mut nowhere = runtime.block_on(point(&storage(), &job(6), never));
        let unbroken = go_on(&job(6), &plain, &mut nowhere);

        let kept = storage();
        for epochs in [1, 4, 6] {
            let job = job(epochs);
            let mut point = runtime.block_on(point(&kept, &job, Duration::ZERO));
            // Batches that are made ahead are the same.
            let resumed = go_on(&job, &ahead, &mut point);
            assert_eq!(figures(&resumed.history), figures(&unbroken.history[..epochs]), "{setting:?}, {epochs} epochs");
            if epochs == 6 {
                assert!(same(&resumed.models, &unbroken.models), "{setting:?}");
                assert_eq!((resumed.best_epoch, &resumed.stop), (unbroken.best_epoch, &unbroken.stop));
            }
        }
        runtime.block_on(async {
            let (store, path) = kept.resolve(&parse_url("memory:///model/resume/").unwrap()).unwrap();
            let files = store.list(Some(&path)).try_collect::<Vec<_>>().await.unwrap();
            assert!((3..=4).contains(&files.len()), "files of earlier epochs are gone: {files:?}");
            point(&kept, &job(6), never).await.remove().await;
            assert!(store.list(Some(&path)).try_next().await.unwrap().is_none());
        });
    }
}

/// The ensemble that `sampler` gives, interrupted after so many epochs; `point` keeps and gives its state.
fn ensemble(sampler: &dyn Sampler, job: &Job, point: &mut Checkpoints, interrupt_after: usize) -> Result<Ensemble> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let spec = job.train.as_ref().unwrap();
    let state = runtime.block_on(point.load(spec, Device::Cpu)).unwrap();
    let state = state.unwrap_or_else(|| EnsembleState::new(spec, models(spec)));
    let (interrupt, mut epochs) = (CancellationToken::new(), 0);
    let report = |finished: &[Fitted], state: &TrainingState| {
        runtime.block_on(point.save(finished, state, false)).unwrap();
        epochs += 1;
        if epochs == interrupt_after {
            interrupt.cancel();
        }
    };
    fit_ensemble(spec, 0, state, sampler, &validation(), &interrupt, report)
}

fn mean(ensemble: &Ensemble) -> Models {
    Models::mean(ensemble.members.iter().map(|member| member.models.copy()).collect())
}

fn ensemble_job(set: &[&str]) -> Job {
    let common = ["vars.dir=/", "train.model.members=3", "train.optimizer.epochs=3", "train.loss.method=dr-v2"];
    let set: Vec<String> = common.iter().chain(set).map(|assignment| (*assignment).to_owned()).collect();
    Job::parse(LOG, &set).unwrap()
}

#[test]
fn an_ensemble_scores_the_mean_of_its_members() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let never = Duration::from_secs(3600);
    for set in [
        &["train.optimizer.adam=dense"][..],
        &["train.model.embeddings=shared"],
        &["train.propensity.source=model", "train.loss.lambda=0", "train.loss.stop_gradient=true"],
    ] {
        let job = ensemble_job(set);
        let spec = job.train.as_ref().unwrap();
        let ensemble =
            ensemble(&log(), &job, &mut runtime.block_on(point(&Arc::new(Storage::new([])), &job, never)), 0).unwrap();
        assert_eq!((ensemble.members.len(), &ensemble.stop), (3, &Stop::Epochs));
        let alone = fit_models(spec, models(spec), 0, 0).unwrap();
        assert!(same(&ensemble.members[0].models, &alone.models), "{set:?}: the first is what one would be");

        let pairs = rows(40, 9);
        let of = |models: &Models, name: &str| {
            let model = models.named().find(|(known, _)| *known == name).unwrap().1;
            logits(model, &pairs, Device::Cpu)
        };
        let whole = mean(&ensemble);
        for name in ["propensity", "prediction", "imputation"] {
            let members: Vec<Vec<f32>> = ensemble.members.iter().map(|member| of(&member.models, name)).collect();
            let fixed = name == "propensity" && spec.propensity.source.is_fitted_beforehand();
            assert_eq!(members[0] == members[1], fixed, "{set:?}: {name}");
            assert_eq!(members[1] == members[2], fixed, "{set:?}: {name}");
            for (at, score) in of(&whole, name).into_iter().enumerate() {
                let mean = members.iter().map(|scores| scores[at]).sum::<f32>() / 3.0;
                assert!((score - mean).abs() < 1e-5 * (1.0 + mean.abs()), "{set:?}: {name}, {score} is not {mean}");
            }
        }
        // The log loss is convex in the score (Jensen's inequality).
        let losses = |models: &Models| validation().evaluate(&models.prediction, 5).log_loss.unwrap();
        let of_members = ensemble.members.iter().map(|member| losses(&member.models)).sum::<f64>() / 3.0;
        assert!(losses(&whole) < of_members, "{set:?}");
    }
}

#[test]
fn an_ensemble_goes_on_at_any_epoch_to_the_same_end() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let job = ensemble_job(&[]);
    let open = |storage: &Arc<Storage>, job: &Job| runtime.block_on(point(storage, job, Duration::ZERO));
    let unbroken = ensemble(&log(), &job, &mut open(&Arc::new(Storage::new([])), &job), 0).unwrap();
    for first in 1..9 {
        let storage = Arc::new(Storage::new([]));
        let broken = ensemble(&log(), &job, &mut open(&storage, &job), first).unwrap();
        assert_eq!(broken.members.len(), first.div_ceil(3), "those that are done, and what the next one has");
        assert!(matches!(broken.stop, Stop::Interrupted { .. }), "{:?}", broken.stop);
        let mut ended = broken;
        while matches!(ended.stop, Stop::Interrupted { .. }) {
            ended = ensemble(&log(), &job, &mut open(&storage, &job), 2).unwrap();
        }
        assert_eq!(ended.stop, unbroken.stop);
        for (ours, theirs) in ended.members.iter().zip(&unbroken.members) {
            assert_eq!(figures(&ours.history), figures(&theirs.history), "interrupted after {first} epochs");
            assert!(same(&ours.models, &theirs.models), "interrupted after {first} epochs");
        }
        assert!(same(&mean(&ended), &mean(&unbroken)));

        let mut longer = open(&storage, &ensemble_job(&["train.optimizer.epochs=4"]));
        let error = runtime.block_on(longer.load(job.train.as_ref().unwrap(), Device::Cpu)).unwrap_err().to_string();
        assert!(error.contains("train.optimizer.epochs was 3 and is 4"), "{error}");
    }
}

/// Interrupts a run once it has kept its second epoch, and gives the number of epochs it did.
async fn interrupted(folder: &Path) -> usize {
    let set = ["train.checkpoint.every_seconds=0", "train.optimizer.epochs=100000", "train.evaluation.patience=100000"];
    let context = context(folder, &set).unwrap();
    let (interrupt, state) = (context.interrupt.clone(), folder.join("model/resume/state.toml"));
    tokio::spawn(async move {
        while !std::fs::read_to_string(&state).is_ok_and(|state| state.contains("epoch = 2")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        interrupt.cancel();
    });
    let report = TrainOperator.run(&context).await.unwrap();
    report.summary["training"]["members"][0]["history"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_same_run_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path());
    let done = interrupted(folder.path()).await;
    let epochs = format!("train.optimizer.epochs={}", done + 2);
    let resume = async |set: &[&str]| {
        let set = [&["train.checkpoint.resume=true", "train.evaluation.patience=100000", &epochs], set].concat();
        TrainOperator.run(&context(folder.path(), &set).unwrap()).await
    };
    let cases: [(&str, &[&str]); 7] = [
        ("train.loss.lambda=optimal", &["train.loss.lambda was 1.0 and is \"optimal\""]),
        ("train.optimizer.prediction.lr=0.5", &["train.optimizer.prediction.lr was 0.02 and is 0.5"]),
        ("train.loss.phi=product", &["train.loss.phi was \"constant\" and is \"product\""]),
        ("seed=5", &["seed was 4 and is 5"]),
        ("train.model.head=mlp", &["train.model.head was \"dot\" and is \"mlp\""]),
        ("train.data.test=SELECT * FROM uniform", &["train.data.test"]),
        ("train.optimizer.epochs=1", &["train.optimizer.epochs = 1; give at least"]),
    ];
    for (set, wanted) in cases {
        let error = resume(&[set]).await.unwrap_err().to_string();
        assert!(wanted.iter().all(|part| error.contains(part)) && error.contains("model/resume/"), "{set}: {error}");
    }

    let log = std::fs::read_to_string(folder.path().join("log.csv")).unwrap();
    std::fs::write(folder.path().join("log.csv"), format!("{log}user-1,1,true,1\n")).unwrap();
    let error = resume(&[]).await.unwrap_err().to_string();
    assert!(error.contains("the data that train.data.train gives was 6000 rows") && error.contains("6001"), "{error}");
    std::fs::write(folder.path().join("log.csv"), log).unwrap();

    let irrelevant = ["name=other", "session.threads=1", "train.timing=true"];
    let report = resume(&irrelevant).await.unwrap();
    assert_eq!(report.summary["training"]["members"][0]["history"].as_array().unwrap().len(), done + 2);
    assert!(!folder.path().join("model/resume").exists());

    let again = resume(&[]).await.unwrap();
    assert!(again.text.contains("nothing to resume") && again.outputs.is_empty(), "{}", again.text);
    let best = |report: &Report| report.summary["training"]["members"][0]["best_epoch"].clone();
    assert_eq!(best(&again), best(&report));
    let changed = resume(&["train.optimizer.prediction.lr=0.5"]).await.unwrap();
    assert_eq!(changed.outputs.len(), 5, "a finished run of another job is not gone on with");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_state_is_named_and_one_of_a_stranger_left_out() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path());
    interrupted(folder.path()).await;
    let state = folder.path().join("model/resume/state.toml");
    let text = std::fs::read_to_string(&state).unwrap();
    let optimizers = text.lines().find_map(|line| line.strip_prefix("optimizers = \"")).unwrap().trim_end_matches('"');
    let optimizers = folder.path().join("model/resume").join(optimizers);
    let bytes = std::fs::read(&optimizers).unwrap();
    std::fs::write(&optimizers, &bytes[1..]).unwrap();
    let set = ["train.checkpoint.resume=true", "train.evaluation.patience=3"];
    let run = async || TrainOperator.run(&context(folder.path(), &set).unwrap()).await;
    let error = run().await.unwrap_err().to_string();
    assert!(error.contains("optimizers-") && error.contains("damaged"), "{error}");

    std::fs::write(&state, "format = 2\n").unwrap();
    assert_eq!(run().await.unwrap().summary["training"]["members"][0]["history"][0]["epoch"], 1);
}

/// The files of dot products, of their own and of shared embeddings, and of perceptrons likewise, by seed from 1 to 4.
fn files(seed: u64, items: usize) -> (Files, Models) {
    let embeddings = if seed.is_multiple_of(2) { "shared" } else { "separate" };
    let head = if seed > 2 { "mlp" } else { "dot" };
    let model = [format!("train.model.embeddings={embeddings}"), format!("train.model.head={head}")];
    let spec = spec(&["train.loss.method=dr-v2", &model[0], &model[1]]);
    let models = Models::new(&spec, 3, items, seed, 0, Device::Cpu);
    let ids = |count: usize| {
        let ids = datafusion::arrow::array::Int32Array::from_iter_values(0..count as i32);
        Vocabulary::from_ids(Arc::new(ids)).unwrap()
    };
    let training = TrainingRecord {
        device: "cpu".into(),
        stop: Stop::Epochs,
        members: vec![MemberRecord { best_epoch: 1, history: Vec::new() }],
        validation: Metrics::default(),
        test: None,
        ranked: BTreeMap::new(),
    };
    let about = Description {
        model: spec.model,
        loss: spec.loss,
        data: DataRecord::default(),
        training,
        job: serde_json::Value::Null,
    };
    let [users, items] =
        [("users", 3), ("items", items)].map(|(stem, count)| vocabulary_file(stem, &ids(count)).unwrap());
    (Files::new(&models, users, items, about).unwrap(), models)
}

#[tokio::test]
async fn a_model_replaces_another_whole() {
    let folder = tempfile::tempdir().unwrap();
    for url in [parse_url("memory:///models/a").unwrap(), parse_url(folder.path().to_str().unwrap()).unwrap()] {
        let storage = Storage::new([]);
        let (first, _) = files(1, 4);
        let mut written = first.write(&storage, &url).await.unwrap();
        assert!(written[3].path().ends_with("/manifest.json"), "the manifest is last: {written:?}");

        for seed in 2..=4 {
            let (next, models) = files(seed, 5);
            let rewritten = next.write(&storage, &url).await.unwrap();
            let read = TrainedModel::read(&storage, &url, Device::Cpu).await.unwrap();
            assert!(same(&read.models, &models));
            assert_eq!((read.users.len(), read.items.len()), (3, 5));
            let pair = [Row { user: 2, item: 4, treated: true, outcome: 0.0, propensity: None }];
            let score = |models: &Models| logits(&models.prediction, &pair, Device::Cpu);
            assert_eq!(score(&read.models), score(&models));
            for old in &written[..3] {
                let kept = rewritten.contains(old);
                assert_eq!(storage.read(old).await.is_ok(), kept, "{old} is removed unless the new model has it too");
            }
            written = rewritten;
        }
    }
}

async fn overwrite(storage: &Storage, url: &url::Url, bytes: &[u8]) {
    counterweight::output::Outputs::write(async |outputs| outputs.put(storage, url, bytes).await).await.unwrap();
}

/// Manifests have not always said what the head is: a dot product, then.
#[tokio::test]
async fn a_model_whose_manifest_names_no_head_is_a_dot_product() {
    for seed in [1, 2] {
        let (storage, url) = (Storage::new([]), parse_url("memory:///models/c").unwrap());
        let (files, models) = files(seed, 4);
        let written = files.write(&storage, &url).await.unwrap();
        let mut manifest: serde_json::Value =
            serde_json::from_slice(&storage.read(&written[3]).await.unwrap()).unwrap();
        let model = manifest["model"].as_object_mut().unwrap();
        assert!(model.remove("head").is_some() && model.remove("hidden").is_some());
        overwrite(&storage, &written[3], manifest.to_string().as_bytes()).await;
        let read = TrainedModel::read(&storage, &url, Device::Cpu).await.unwrap();
        assert!(same(&read.models, &models));
        assert_eq!(read.manifest.model.head, counterweight::job::HeadKind::Dot);
    }
}

#[tokio::test]
async fn a_damaged_or_absent_model_is_named() {
    let storage = Storage::new([]);
    let url = parse_url("memory:///models/b").unwrap();
    let error = TrainedModel::read(&storage, &url, Device::Cpu).await.unwrap_err().to_string();
    assert!(error.contains("no model at memory:///models/b"), "{error}");

    let written = files(1, 4).0.write(&storage, &url).await.unwrap();
    overwrite(&storage, &written[0], b"other").await;
    let error = TrainedModel::read(&storage, &url, Device::Cpu).await.unwrap_err().to_string();
    assert!(error.contains(written[0].as_str()) && error.contains("damaged"), "{error}");

    overwrite(&storage, &written[3], br#"{"format": 2}"#).await;
    let error = TrainedModel::read(&storage, &url, Device::Cpu).await.unwrap_err().to_string();
    assert!(error.contains("format 2") && error.contains("format 1"), "{error}");
}
