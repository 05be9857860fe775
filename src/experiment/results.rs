//! The table of all trials, as Parquet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema};
use datafusion::arrow::json::ReaderBuilder;
use serde_json::{Map, Value};

use super::file::Experiment;
use super::record::{Finished, Record};
use super::select::Selection;
use super::statistics::mean;
use super::trial::Trial;
use crate::error::{Error, Result};
use crate::job::Split;
use crate::model::{EpochRecord, Fingerprint, Metrics, Stop};
use crate::output::parquet_bytes;

/// A trial that has ended, with its record.
#[derive(Debug)]
pub(super) struct TrialResult<'a> {
    /// The data set's name.
    pub(super) data: &'a str,
    /// The method's name.
    pub(super) method: &'a str,
    /// Whether its candidate is the one selected for the method on the data set.
    pub(super) selected: bool,
    /// The trial.
    pub(super) trial: Trial,
    /// How it went.
    pub(super) record: &'a Record,
}

/// Every trial of which there is a record, by data set, method, candidate and seed.
pub(super) fn results<'a>(
    experiment: &'a Experiment,
    selections: &[Selection],
    known: &'a BTreeMap<String, Record>,
) -> Result<Vec<TrialResult<'a>>> {
    let mut seeds = experiment.seeds.0.clone();
    seeds.extend(experiment.select.seeds.iter().flat_map(|seeds| &seeds.0));
    seeds.sort_unstable();
    seeds.dedup();
    let mut results = Vec::new();
    for selection in selections {
        for trial in selection.trials(experiment, 0..selection.candidates.len(), &seeds)? {
            let Some(record) = known.get(&trial.id) else { continue };
            results.push(TrialResult {
                data: &experiment.data[trial.data].name,
                method: &experiment.method[trial.method].name,
                selected: trial.candidate == selection.selected,
                trial,
                record,
            });
        }
    }
    Ok(results)
}

/// The table of `results`, a row each.
///
/// | column | what |
/// |---|---|
/// | `data`, `method`, `candidate`, `seed` | the trial; candidates count from 0 |
/// | `selected` | whether the candidate is the one selected for the method on the data set |
/// | `trial` | the trial's identity: the name of its record and of its model folder |
/// | `error` | why it failed; NULL where it finished, and then what follows is not |
/// | `wall_seconds` | how long its process ran |
/// | `device`, `epochs`, `stop` | where it was trained, epochs trained, why that ended |
/// | `best_epoch` | the epoch kept; of an ensemble, the mean over its members |
/// | `validation_auc`, `test_auc`, … | metrics of the epoch kept; BMSE is of the training population |
/// | `train_rows`, `train_treated`, `train_hash`, … | fingerprints of the data sets |
/// | `history` | a list, a structure an epoch: the member it trained, its losses, λ and validation metrics |
/// | `train.loss.lambda`, … | every key of the job that has a bearing on the result |
/// | `vars.NAME`, … | every variable of the job, as text |
pub(super) fn parquet(results: &[TrialResult<'_>]) -> Result<Vec<u8>> {
    let metrics = metric_names()?;
    let mut fields = vec![
        Field::new("data", DataType::Utf8, false),
        Field::new("method", DataType::Utf8, false),
        Field::new("candidate", DataType::Int64, false),
        Field::new("seed", DataType::Int64, false),
        Field::new("selected", DataType::Boolean, false),
        Field::new("trial", DataType::Utf8, false),
        Field::new("error", DataType::Utf8, true),
        Field::new("wall_seconds", DataType::Float64, false),
        Field::new("device", DataType::Utf8, true),
        Field::new("best_epoch", DataType::Float64, true),
        Field::new("epochs", DataType::Int64, true),
        Field::new("stop", DataType::Utf8, true),
    ];
    for set in ["validation", "test"] {
        fields.extend(metrics.iter().map(|name| Field::new(format!("{set}_{name}"), DataType::Float64, true)));
    }
    for set in ["train", "validation", "test"] {
        fields.extend(
            [("rows", DataType::Int64), ("treated", DataType::Int64), ("hash", DataType::Utf8)]
                .map(|(name, data_type)| Field::new(format!("{set}_{name}"), data_type, true)),
        );
    }
    let epoch = DataType::Struct(epoch_fields(results, &metrics));
    fields.push(Field::new("history", DataType::List(Arc::new(Field::new_list_field(epoch, false))), true));
    // The seed and the device are keys of the job, too: these columns say what they were in the end.
    let is_free = |key: &&String| !fields.iter().any(|field| field.name() == *key);
    let keys: BTreeSet<&String> =
        results.iter().flat_map(|result| result.trial.settings.keys()).filter(is_free).collect();
    let settings: Vec<Field> = keys.iter().map(|key| Field::new(*key, setting_type(key, results), true)).collect();

    let mut rows = Vec::with_capacity(results.len());
    for result in results {
        let mut row = about(result)?;
        for field in &settings {
            let Some(value) = result.trial.settings.get(field.name()) else { continue };
            let as_text = field.data_type() == &DataType::Utf8 && !value.is_string();
            row.insert(field.name().clone(), if as_text { value.to_string().into() } else { value.clone() });
        }
        rows.push(row);
    }
    fields.extend(settings);
    let vars: BTreeSet<&String> = results.iter().flat_map(|result| result.trial.vars.keys()).collect();
    fields.extend(vars.into_iter().map(|name| Field::new(format!("vars.{name}"), DataType::Utf8, true)));
    let schema = Arc::new(Schema::new(fields));
    let mut decoder = ReaderBuilder::new(Arc::clone(&schema)).with_batch_size(rows.len().max(1)).build_decoder()?;
    decoder.serialize(&rows)?;
    parquet_bytes(&decoder.flush()?.unwrap_or_else(|| RecordBatch::new_empty(schema)))
}

fn about(result: &TrialResult<'_>) -> Result<Map<String, Value>> {
    let mut row = Map::new();
    let mut set = |name: &str, value: Value| drop(row.insert(name.to_owned(), value));
    set("data", result.data.into());
    set("method", result.method.into());
    set("candidate", result.trial.candidate.into());
    set("seed", result.trial.seed.into());
    set("selected", result.selected.into());
    set("trial", result.trial.id.as_str().into());
    set("wall_seconds", result.record.wall_seconds.into());
    if let Some(error) = result.record.error() {
        set("error", error.into());
    }
    for (name, value) in &result.trial.vars {
        set(&format!("vars.{name}"), value.as_str().into());
    }
    let Some(Finished { data, training }) = result.record.finished() else { return Ok(row) };
    set("device", training.device.as_str().into());
    set("best_epoch", mean(&training.members.iter().map(|member| member.best_epoch as f64).collect::<Vec<_>>()).into());
    set("epochs", training.epochs().count().into());
    set("stop", stop(&training.stop).into());
    for (name, metrics) in [("validation", Some(&training.validation)), ("test", training.test.as_ref())] {
        for (metric, value) in metrics.map(object).transpose()?.into_iter().flatten() {
            set(&format!("{name}_{metric}"), value);
        }
    }
    for split in [Split::Train, Split::Validation, Split::Test] {
        let Some(Fingerprint { rows, treated, hash }) = data.get(split) else { continue };
        let name = split.name();
        set(&format!("{name}_rows"), (*rows).into());
        set(&format!("{name}_treated"), (*treated).into());
        set(&format!("{name}_hash"), hash.as_str().into());
    }
    let history = (1..).zip(&training.members);
    let history = history.flat_map(|(at, member)| member.history.iter().map(move |record| epoch(at, record)));
    set("history", history.collect::<Result<Vec<_>>>()?.into());
    Ok(row)
}

fn stop(stop: &Stop) -> &'static str {
    match stop {
        Stop::Epochs => "epochs",
        Stop::Patience => "patience",
        Stop::Interrupted { .. } => "interrupted",
        Stop::Diverged { .. } => "diverged",
    }
}

fn epoch(member: usize, record: &EpochRecord) -> Result<Value> {
    let mut row = object(&record.validation)?;
    row.insert("member".to_owned(), member.into());
    row.insert("epoch".to_owned(), record.epoch.into());
    row.insert("seconds".to_owned(), record.seconds.into());
    row.insert("lambda".to_owned(), record.lambda.into());
    row.extend(record.losses.iter().map(|(name, loss)| (format!("loss_{name}"), (*loss).into())));
    Ok(row.into())
}

fn epoch_fields(results: &[TrialResult<'_>], metrics: &[String]) -> Fields {
    let finished = results.iter().filter_map(|result| result.record.finished());
    let losses: BTreeSet<&String> =
        finished.flat_map(|finished| finished.training.epochs()).flat_map(|record| record.losses.keys()).collect();
    let float = |name: String| Field::new(name, DataType::Float64, true);
    let mut fields = ["member", "epoch"].map(|name| Field::new(name, DataType::Int64, false)).to_vec();
    fields.extend(["seconds", "lambda"].map(|name| float(name.to_owned())));
    fields.extend(losses.into_iter().map(|name| float(format!("loss_{name}"))));
    fields.extend(metrics.iter().cloned().map(float));
    fields.into()
}

fn metric_names() -> Result<Vec<String>> {
    Ok(object(&Metrics::default())?.into_iter().map(|(name, _)| name).collect())
}

fn object(metrics: &Metrics) -> Result<Map<String, Value>> {
    match serde_json::to_value(metrics).map_err(std::io::Error::from)? {
        Value::Object(object) => Ok(object),
        other => Err(Error::Invalid(format!("metrics are an object, not {other}"))),
    }
}

/// The type that holds every trial's value of a key: text, as JSON, where nothing else does.
fn setting_type(key: &str, results: &[TrialResult<'_>]) -> DataType {
    let values: Vec<&Value> = results.iter().filter_map(|result| result.trial.settings.get(key)).collect();
    let all = |holds: fn(&Value) -> bool| values.iter().all(|value| holds(value));
    if all(Value::is_boolean) {
        DataType::Boolean
    } else if all(Value::is_i64) {
        DataType::Int64
    } else if all(Value::is_number) {
        DataType::Float64
    } else {
        DataType::Utf8
    }
}
