//! A trial of an experiment: one model that is trained and evaluated, and what makes it that trial.

use std::collections::BTreeMap;

use serde_json::Value;

use super::file::Experiment;
use super::settings::Settings;
use crate::error::{Context, Result};
use crate::job::{Job, settings_of};

/// A method with a candidate's settings and a seed, on a data set.
#[derive(Debug, Clone)]
pub(super) struct Trial {
    /// Index into [`Experiment::data`].
    pub(super) data: usize,
    /// Index into [`Experiment::method`].
    pub(super) method: usize,
    /// Index of the candidate.
    pub(super) candidate: usize,
    /// The seed.
    pub(super) seed: u64,
    /// The hash of `settings`: the name of its record and of its model folder.
    pub(super) id: String,
    /// Every key of the job that affects what is learned, presets and variables filled in.
    pub(super) settings: BTreeMap<String, Value>,
    /// The job's variables, which are filled in there.
    pub(super) vars: BTreeMap<String, String>,
    /// What makes the job file this trial's job, as `--set` takes it.
    pub(super) assignments: Vec<String>,
}

impl Trial {
    /// The trial of that data set and method, that candidate and that seed.
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
        // Writing and reading a number may change its last bit. A manifest's settings, which these are compared with, have
        // been written and read.
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

    fn trial(job: &str, settings: &[(&str, toml::Value)], seed: u64) -> Result<Trial> {
        trial_of(EXPERIMENT, job, settings, seed)
    }

    fn trial_of(experiment: &str, job: &str, settings: &[(&str, toml::Value)], seed: u64) -> Result<Trial> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("job.toml"), job).unwrap();
        std::fs::write(folder.path().join("x.toml"), experiment).unwrap();
        let experiment = Experiment::load(&folder.path().join("x.toml"), &[]).unwrap();
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        Trial::new(&experiment, (0, 0), (0, &settings), seed)
    }

    #[test]
    fn settings_are_the_resolved_job() {
        let trial = trial(JOB, &[("train.loss.phi", "product".into())], 3).unwrap();
        let expected = [
            ("seed", Value::from(3)),
            ("tables.log.url", "/data/log/".into()),
            ("train.loss.method", "ips-v2".into()),
            ("train.loss.lambda", 0.5.into()),
            ("train.loss.phi", "product".into()),
            ("train.data.train", "SELECT * FROM log".into()),
        ];
        for (key, value) in expected {
            assert_eq!(trial.settings[key], value, "{key}");
        }
        for key in ["name", "vars.dir", "train.output", "train.preset"] {
            assert!(!trial.settings.contains_key(key), "{key}");
        }
        assert_eq!(trial.vars, BTreeMap::from([("dir".to_owned(), "/data".to_owned())]));
    }

    #[test]
    fn a_schedule_and_a_number_take_each_others_place() {
        let weight = |experiment: &str| {
            let settings = trial_of(experiment, JOB, &[], 3).unwrap().settings;
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
        let id = |job: &str, settings: &[(&str, toml::Value)], seed| trial(job, settings, seed).unwrap().id;
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
        let error = trial(JOB, &[("train.loss.fi", "product".into())], 3).unwrap_err().to_string();
        assert!(error.contains("method \"IPS-V2\" on data \"x\"") && error.contains("fi"), "{error}");
    }
}
