//! One run of an experiment: what makes it that run, and the record of how it went.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::grid::{Experiment, Settings};
use crate::error::{Context, Result};
use crate::job::{Job, settings_of};
use crate::output::Outputs;
use crate::storage::{Storage, child};
use crate::train::checkpoint::{DataRecord, TrainingRecord};

/// One run: a method with a candidate's settings and a seed, on a data set.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    /// Index into [`Experiment::data`].
    pub(super) data: usize,
    /// Index into [`Experiment::method`].
    pub(super) method: usize,
    /// Index of the candidate.
    pub(super) candidate: usize,
    /// The seed.
    pub(super) seed: u64,
    /// The hash of `settings`.
    pub(super) id: String,
    /// Every key of the job that has a bearing on what is learned, presets and variables filled in.
    pub(super) settings: BTreeMap<String, Value>,
    /// The job's variables, which are filled in there.
    pub(super) vars: BTreeMap<String, String>,
    /// What makes the job file this run's job, as `--set` takes it.
    pub(super) assignments: Vec<String>,
}

impl Cell {
    /// The run of that data set and method, that candidate and that seed.
    ///
    /// # Errors
    /// Where the job is not sound with its settings.
    pub(super) fn new(
        experiment: &Experiment,
        (data, method): (usize, usize),
        (candidate, settings): (usize, &Settings),
        seed: u64,
    ) -> Result<Self> {
        let assignments = experiment.assignments(data, method, settings, seed);
        let (of, on) = (&experiment.method[method].name, &experiment.data[data].name);
        let job = Job::load(&experiment.job, &assignments).context(|| format!("method {of:?} on data {on:?}"))?;
        let vars = job.vars.clone();
        // A number that was written and read may not be the same to the last bit; these are compared with a manifest's,
        // which were.
        let job = serde_json::to_string(&job).and_then(|text| serde_json::from_str(&text));
        let settings = settings_of(&job.map_err(std::io::Error::from)?);
        Ok(Self { data, method, candidate, seed, id: identity(&settings), settings, vars, assignments })
    }

    /// What a person calls it.
    pub(super) fn name(&self, experiment: &Experiment) -> String {
        let (data, method) = (&experiment.data[self.data].name, &experiment.method[self.method].name);
        let candidate = if self.candidate > 0 { format!(", candidate {}", self.candidate) } else { String::new() };
        format!("{data}, {method}, seed {}{candidate}", self.seed)
    }
}

/// The hash of settings, in hexadecimal.
pub(super) fn identity(settings: &BTreeMap<String, Value>) -> String {
    let mut hasher = blake3::Hasher::new();
    for (key, value) in settings {
        hasher.update(format!("{key}={value}\n").as_bytes());
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

/// How a run went.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    /// The run's identity.
    pub(super) id: String,
    /// How long its process ran.
    pub(super) wall_seconds: f64,
    /// How it ended.
    pub(super) outcome: Outcome,
}

/// How a run ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Outcome {
    /// With a model.
    Finished(Box<Finished>),
    /// With a loss or a gradient that was not a finite number.
    Diverged {
        /// The message.
        error: String,
    },
    /// With another error.
    Failed {
        /// Its message.
        error: String,
    },
}

/// What the manifest of a run's model says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Finished {
    /// What it was trained and evaluated on.
    pub(super) data: DataRecord,
    /// How training went.
    pub(super) training: TrainingRecord,
}

impl Record {
    /// Whether the run would end the same way again.
    pub(super) fn is_final(&self) -> bool {
        !matches!(self.outcome, Outcome::Failed { .. })
    }

    /// What the run found, if it did not fail.
    pub(super) fn finished(&self) -> Option<&Finished> {
        match &self.outcome {
            Outcome::Finished(finished) => Some(finished),
            Outcome::Diverged { .. } | Outcome::Failed { .. } => None,
        }
    }

    /// Its error, if it failed.
    pub(super) fn error(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Finished(_) => None,
            Outcome::Diverged { error } | Outcome::Failed { error } => Some(error),
        }
    }
}

/// The records and models of an experiment's runs, in its folder.
#[derive(Debug)]
pub(super) struct Store<'a> {
    storage: &'a Storage,
    folder: Url,
}

impl<'a> Store<'a> {
    pub(super) fn new(storage: &'a Storage, folder: Url) -> Self {
        Self { storage, folder }
    }

    pub(super) fn storage(&self) -> &'a Storage {
        self.storage
    }

    /// The folder of a run's model.
    pub(super) fn model(&self, id: &str) -> Result<Url> {
        child(&self.folder, &format!("models/{id}/"))
    }

    fn record(&self, id: &str) -> Result<Url> {
        child(&self.folder, &format!("runs/{id}.json"))
    }

    /// The record of a run, if there is one that this version can read.
    pub(super) async fn read(&self, id: &str) -> Result<Option<Record>> {
        let url = self.record(id)?;
        let Some(bytes) = self.storage.read_if_present(&url).await? else { return Ok(None) };
        match serde_json::from_slice(&bytes) {
            Ok(record) => Ok(Some(record)),
            Err(error) => {
                tracing::warn!("{url} is not a record of this version, so that run is done again: {error}");
                Ok(None)
            }
        }
    }

    /// Writes a record, and gives it as it will be read.
    pub(super) async fn write(&self, record: &Record) -> Result<Record> {
        let mut bytes = serde_json::to_vec_pretty(record).map_err(std::io::Error::from)?;
        bytes.push(b'\n');
        let mut outputs = Outputs::default();
        if let Err(error) = outputs.put(self.storage, &self.record(&record.id)?, &bytes).await {
            outputs.abort().await;
            return Err(error);
        }
        outputs.commit().await?;
        Ok(serde_json::from_slice(&bytes).map_err(std::io::Error::from)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPERIMENT: &str = r#"
        name = "x"
        output = "out/"
        job = "job.toml"
        seeds = [3]
        [[method]]
        name = "IPS-V2"
        set.train.preset = "ips-v2"
    "#;
    const JOB: &str = r#"
        name = "clicks"
        [vars]
        dir = "/data"
        [tables.log]
        url = "${dir}/log/"
        [columns]
        user = "u"
        [train]
        preset = "dr-v2"
        output = "m"
        [train.data]
        train = "SELECT * FROM log"
        validation = "SELECT * FROM log"
        [train.loss]
        lambda = 0.5
    "#;

    fn cell(job: &str, settings: &[(&str, toml::Value)], seed: u64) -> Result<Cell> {
        cell_of(EXPERIMENT, job, settings, seed)
    }

    fn cell_of(experiment: &str, job: &str, settings: &[(&str, toml::Value)], seed: u64) -> Result<Cell> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("job.toml"), job).unwrap();
        std::fs::write(folder.path().join("x.toml"), experiment).unwrap();
        let experiment = Experiment::load(&folder.path().join("x.toml"), &[]).unwrap();
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        Cell::new(&experiment, (0, 0), (0, &settings), seed)
    }

    #[test]
    fn settings_are_the_resolved_job() {
        let cell = cell(JOB, &[("train.loss.phi", "product".into())], 3).unwrap();
        let expected = [
            ("seed", Value::from(3)),
            ("tables.log.url", "/data/log/".into()),
            ("train.loss.method", "ips-v2".into()),
            ("train.loss.lambda", 0.5.into()),
            ("train.loss.phi", "product".into()),
            ("train.data.train", "SELECT * FROM log".into()),
        ];
        for (key, value) in expected {
            assert_eq!(cell.settings[key], value, "{key}");
        }
        for key in ["name", "vars.dir", "train.output", "train.preset"] {
            assert!(!cell.settings.contains_key(key), "{key}");
        }
        assert_eq!(cell.vars, BTreeMap::from([("dir".to_owned(), "/data".to_owned())]));
    }

    #[test]
    fn a_schedule_and_a_number_take_each_others_place() {
        let weight = |experiment: &str| {
            let settings = cell_of(experiment, JOB, &[], 3).unwrap().settings;
            let weight = settings.into_iter().filter_map(|(key, value)| {
                Some((key.strip_prefix("train.loss.lambda")?.to_owned(), value.to_string()))
            });
            weight.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>()
        };
        let schedule = "set.train.loss.lambda = { from = 0, to = 2, epochs = 9 }";
        assert_eq!(
            weight(&format!("{EXPERIMENT}\n{schedule}")),
            [".curve=\"linear\"", ".epochs=9", ".from=0.0", ".to=2.0"]
        );
        let number = format!("{schedule}\n{EXPERIMENT}\nset.train.loss.lambda = 2");
        assert_eq!(weight(&number), ["=2.0"]);
    }

    #[test]
    fn the_identity_is_of_what_is_learned() {
        let id = |job: &str, settings: &[(&str, toml::Value)], seed| cell(job, settings, seed).unwrap().id;
        let plain = id(JOB, &[], 3);
        assert_eq!(plain.len(), 16);
        for same in [
            JOB.replace("output = \"m\"", "output = \"elsewhere\""),
            JOB.replace("clicks", "renamed"),
            JOB.replace("[vars]", "[session]\nthreads = 2\n[vars]"),
            JOB.replace("${dir}", "/data"),
        ] {
            assert_eq!(id(&same, &[], 3), plain, "{same}");
        }
        assert_eq!(id(JOB, &[("train.loss.lambda", 0.5.into())], 3), plain, "the value it has anyway");
        assert_ne!(id(JOB, &[], 4), plain);
        assert_ne!(id(JOB, &[("train.loss.lambda", 0.25.into())], 3), plain);
        assert_ne!(id(&JOB.replace("/data", "/else"), &[], 3), plain);
        assert_eq!(
            identity(&BTreeMap::from([("a".to_owned(), Value::from(1)), ("b".to_owned(), Value::from("x"))])),
            blake3::hash(b"a=1\nb=\"x\"\n").to_hex()[..16],
            "the identity stays what it is"
        );
    }

    #[test]
    fn a_job_that_is_not_sound_names_the_method() {
        let error = cell(JOB, &[("train.loss.fi", "product".into())], 3).unwrap_err().to_string();
        assert!(error.contains("method \"IPS-V2\" on data \"x\"") && error.contains("fi"), "{error}");
    }
}
