//! The experiment file: methods × data sets × settings × seeds over one job file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;
use toml::{Table as Toml, Value};

use super::grid::combinations;
use super::search::{Range, ScoredCandidate, Search, propose};
use super::seeds::Seeds;
use super::settings::{Keys, Settings, assignment, is_value, leaves};
use crate::error::{Context, Result, invalid, read_named_file, suggestion};
use crate::job::{Metric, parse_toml, read};
use crate::session::Bytes;

/// A whole experiment file.
///
/// Where several parts set the same key of the job, the later wins: the job file, `set`, `data.set`, `method.set`, the
/// candidate from `grid` or `search`, the command line.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Experiment {
    /// The experiment's name: the title of its report.
    pub name: String,
    /// URL of the folder that results, models and the report go to.
    pub output: String,
    /// Path of the job file, from the folder that the experiment file is in.
    pub job: PathBuf,
    /// The seeds that every method is trained with.
    pub seeds: Seeds,
    /// Keys of the job, for every trial.
    #[serde(default)]
    #[schemars(with = "Keys")]
    pub set: Toml,
    /// The methods to compare.
    #[schemars(length(min = 1))]
    pub method: Vec<MethodVariant>,
    /// The data sets to compare them on; by default the job's own, under the experiment's name.
    #[serde(default)]
    pub data: Vec<DataVariant>,
    /// The method that the others are compared with.
    pub baseline: Option<String>,
    /// What the report shows.
    #[serde(default = "report_metrics")]
    #[schemars(length(min = 1))]
    pub metrics: Vec<Metric>,
    /// Lists of values by key of the job: every combination is a candidate.
    #[serde(default)]
    #[schemars(with = "Keys")]
    pub grid: Toml,
    /// Draws candidates from ranges, in place of `grid`.
    pub search: Option<Search>,
    /// How one of several candidates is selected.
    #[serde(default)]
    pub select: Select,
    /// Trials at a time; by default as many as cores and memory allow.
    #[schemars(range(min = 1))]
    pub parallel: Option<usize>,
    /// Threads of a trial.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub threads: usize,
    /// Memory that a trial is assumed to need, where `parallel` is not given.
    #[serde(default = "trial_memory")]
    pub memory: Bytes,
    /// Whether the models of finished trials are kept.
    #[serde(default = "yes")]
    pub keep_models: bool,
    /// Keys of the job from the command line.
    #[serde(skip)]
    assignments: Vec<String>,
}

/// A method to compare: the job with other keys.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct MethodVariant {
    /// What the report calls it.
    pub name: String,
    /// Keys of the job that make it this method.
    #[serde(default)]
    #[schemars(with = "Keys")]
    pub set: Toml,
    /// Lists of values beside or in place of those of the experiment's `grid`.
    #[serde(default)]
    #[schemars(with = "Keys")]
    pub grid: Toml,
    /// Ranges beside or in place of those of the experiment's `search.space`.
    #[serde(default)]
    #[schemars(with = "Keys")]
    pub space: Toml,
}

/// A data set to compare methods on: the job with other keys.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct DataVariant {
    /// What the report calls it.
    pub name: String,
    /// Keys of the job that make it this data set.
    #[serde(default)]
    #[schemars(with = "Keys")]
    pub set: Toml,
}

/// How one of several candidates is selected: on the validation set, never on the test set.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Select {
    /// The validation metric whose mean over the seeds decides; not `bmse` where candidates have different φ.
    pub metric: Metric,
    /// The seeds that candidates are tried with; by default all.
    pub seeds: Option<Seeds>,
}

impl Default for Select {
    fn default() -> Self {
        Self { metric: Metric::Auc, seeds: None }
    }
}

fn report_metrics() -> Vec<Metric> {
    vec![Metric::Auc, Metric::Recall, Metric::Ndcg, Metric::BmseConstant, Metric::BmsePrediction]
}

fn one() -> usize {
    1
}

fn yes() -> bool {
    true
}

fn trial_memory() -> Bytes {
    Bytes(2 << 30)
}

impl Experiment {
    /// Reads an experiment file; `assignments` are keys of the job from the command line, as `--set` takes them.
    ///
    /// # Errors
    /// Where it cannot be read, is no TOML, or a key or value is not as it should be; the message names it.
    pub fn load(path: &Path, assignments: &[String]) -> Result<Self> {
        let text = read_named_file("the experiment file", path)?;
        let mut experiment = Self::parse(&text).context(|| path.display().to_string())?;
        experiment.job = path.parent().unwrap_or(Path::new("")).join(&experiment.job);
        experiment.assignments = assignments.to_vec();
        Ok(experiment)
    }

    /// Reads the text of an experiment file.
    ///
    /// # Errors
    /// As [`Experiment::load`].
    pub fn parse(text: &str) -> Result<Self> {
        let mut experiment: Self = read("the experiment file", parse_toml(text)?)?;
        if experiment.data.is_empty() {
            experiment.data.push(DataVariant { name: experiment.name.clone(), set: Toml::new() });
        }
        experiment.validate()?;
        Ok(experiment)
    }

    fn validate(&self) -> Result<()> {
        let methods: Vec<&str> = self.method.iter().map(|method| &*method.name).collect();
        let data: Vec<&str> = self.data.iter().map(|data| &*data.name).collect();
        for (key, names) in [("method", &methods), ("data", &data)] {
            if names.is_empty() {
                invalid!("give at least one [[{key}]]");
            }
            if let Some(twice) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
                invalid!("two of [[{key}]] have the name {:?}", twice.1);
            }
        }
        if let Some(baseline) = self.baseline.as_deref().filter(|baseline| !methods.contains(baseline)) {
            invalid!("baseline = {baseline:?} is not the name of a [[method]]{}", suggestion(baseline, methods));
        }
        if self.metrics.is_empty() {
            invalid!("metrics = []: give at least one");
        }
        for (key, value) in [("parallel", self.parallel.unwrap_or(1)), ("threads", self.threads)] {
            if value == 0 {
                invalid!("{key} = 0: give at least 1");
            }
        }
        if self.memory.0 == 0 {
            invalid!("memory = 0: give what a trial needs, such as \"4GB\"");
        }
        let has_grid = !self.grid.is_empty() || self.method.iter().any(|method| !method.grid.is_empty());
        let has_space = self.method.iter().any(|method| !method.space.is_empty());
        match &self.search {
            Some(_) if has_grid => invalid!("give [grid] or [search], not both: a choice in [search.space] is a list"),
            Some(search) if search.budget == 0 => invalid!("search.budget = 0: give at least 1"),
            None if has_space => invalid!("a [[method]] has a space, and there is no [search] to draw from it"),
            _ => {}
        }
        let sets = self.method.iter().map(|method| ("method", &method.set));
        let sets = sets.chain(self.data.iter().map(|data| ("data", &data.set))).chain([("the experiment", &self.set)]);
        for (of, set) in sets {
            for key in leaves(set, is_value).into_keys() {
                let instead = match &*key {
                    "seed" => "`seeds`",
                    "train.output" => "`output`",
                    _ => continue,
                };
                invalid!("set of {of} has {key}, which every trial has its own of; it follows from {instead}");
            }
        }
        for method in &self.method {
            let lists = self.lists(method)?;
            let space = self.space(method)?;
            if self.select.metric == Metric::Bmse
                && (lists.contains_key("train.loss.phi") || space.contains_key("train.loss.phi"))
            {
                invalid!(
                    "select.metric = \"bmse\": candidates of the method {:?} have different train.loss.phi, whose BMSE cannot \
                     be compared; give \"bmse_constant\" or \"bmse_prediction\"",
                    method.name
                );
            }
            if self.search.is_some() && space.is_empty() {
                invalid!("search.space is empty for the method {:?}: there is nothing to search", method.name);
            }
        }
        Ok(())
    }

    /// The assignments of a trial, as `--set` takes them.
    pub(super) fn assignments(&self, data: usize, method: usize, candidate: &Settings, seed: u64) -> Vec<String> {
        let (data, method) = (&self.data[data].set, &self.method[method].set);
        let parts = [&self.set, data, method].map(|set| leaves(set, is_value));
        let settings = parts.into_iter().flatten().chain(candidate.clone());
        let mut assignments: Vec<String> = settings.map(|(key, value)| assignment(&key, &value)).collect();
        assignments.extend(self.assignments.iter().cloned());
        assignments.push(format!("seed={seed}"));
        assignments
    }

    /// Further candidates of a method on the data set of that name, after those tried; none once there are enough.
    pub(super) fn propose(
        &self,
        (data, method): (&str, &MethodVariant),
        tried: &[ScoredCandidate<'_>],
    ) -> Result<Vec<Settings>> {
        match &self.search {
            Some(search) => Ok(propose(search, &self.space(method)?, &format!("{data}\n{}", method.name), tried)),
            None if tried.is_empty() => Ok(combinations(&self.lists(method)?)),
            None => Ok(Vec::new()),
        }
    }

    /// The lists of values of a method's grid.
    fn lists(&self, method: &MethodVariant) -> Result<BTreeMap<String, Vec<Value>>> {
        let mut lists = leaves(&self.grid, is_value);
        lists.extend(leaves(&method.grid, is_value));
        let list = |(key, value)| match value {
            Value::Array(values) if !values.is_empty() => Ok((key, values)),
            other => invalid!("grid.{key} = {other}: give a list of values"),
        };
        lists.into_iter().map(list).collect()
    }

    /// The ranges of a method's search.
    fn space(&self, method: &MethodVariant) -> Result<BTreeMap<String, Range>> {
        let Some(search) = &self.search else { return Ok(BTreeMap::new()) };
        let mut ranges = leaves(&search.space, Range::is_range);
        ranges.extend(leaves(&method.space, Range::is_range));
        ranges.into_iter().map(|(key, value)| Ok((key.clone(), Range::parse(&key, &value)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPERIMENT: &str = r#"
        name = "coat"
        output = "out/"
        job = "coat.toml"
        seeds = "0-2"
        baseline = "IPS-V2"
        set = { vars.dir = "/data", train.model.dim = 8 }
        grid = { train.loss.lambda = [0.1, 1.0] }
        [[method]]
        name = "IPS-V2"
        set = { "train.preset" = "coat-ips-v2" }
        [[method]]
        name = "DR-V2"
        set.train = { preset = "coat-dr-v2", optimizer.prediction.lr = 5e-4 }
        grid = { train.loss.lambda = [2], train.loss.phi = ["constant", "product", "concat"] }
    "#;

    fn error(edit: impl Fn(&str) -> String) -> String {
        Experiment::parse(&edit(EXPERIMENT)).unwrap_err().to_string()
    }

    #[test]
    fn a_grid_is_every_combination() {
        let experiment = Experiment::parse(EXPERIMENT).unwrap();
        let candidates = |method: usize| experiment.propose(("coat", &experiment.method[method]), &[]).unwrap();
        let text = |settings: &Settings| settings.iter().map(|(key, value)| assignment(key, value)).collect::<Vec<_>>();
        assert_eq!(
            candidates(0).iter().map(text).collect::<Vec<_>>(),
            [["train.loss.lambda=0.1"], ["train.loss.lambda=1.0"]]
        );
        assert_eq!(
            candidates(1).iter().map(text).collect::<Vec<_>>(),
            ["constant", "product", "concat"]
                .map(|phi| ["train.loss.lambda=2".to_owned(), format!("train.loss.phi=\"{phi}\"")])
        );
    }

    #[test]
    fn assignments_come_in_the_order_in_which_they_win() {
        let mut experiment = Experiment::parse(EXPERIMENT).unwrap();
        experiment.assignments = vec!["train.optimizer.epochs=1".to_owned()];
        let candidate = Settings::from([("train.loss.phi".to_owned(), "product".into())]);
        assert_eq!(
            experiment.assignments(0, 1, &candidate, 7),
            [
                "train.model.dim=8",
                "vars.dir=/data",
                "train.optimizer.prediction.lr=0.0005",
                "train.preset=\"coat-dr-v2\"",
                "train.loss.phi=\"product\"",
                "train.optimizer.epochs=1",
                "seed=7",
            ]
        );
    }

    #[test]
    fn mistakes_name_their_key() {
        let cases = [
            ("baseline = \"IPS-V2\"", "baseline = \"IPS-V3\"", "did you mean \"IPS-V2\"?"),
            ("name = \"DR-V2\"", "name = \"IPS-V2\"", "two of [[method]] have the name \"IPS-V2\""),
            ("seeds = \"0-2\"", "seeds = []", "seeds: []: give at least one seed"),
            ("[0.1, 1.0]", "0.1", "grid.train.loss.lambda = 0.1: give a list"),
            ("job = ", "jobb = ", "unknown key \"jobb\" in the experiment file; did you mean \"job\"?"),
            ("train.model.dim = 8", "seed = 8", "it follows from `seeds`"),
            ("output = \"out/\"", "output = \"out/\"\nparallel = 0", "parallel = 0: give at least 1"),
            ("output = \"out/\"", "output = \"out/\"\nmetrics = [\"acu\"]", "did you mean \"auc\"?"),
            ("[[method]]", "[search]\nbudget = 1\n[[method]]", "[grid] or [search], not both"),
            (
                "output = \"out/\"",
                "output = \"out/\"\nselect.metric = \"bmse\"",
                "\"DR-V2\" have different train.loss.phi",
            ),
        ];
        for (from, to, expected) in cases {
            let message = error(|text| text.replacen(from, to, 1));
            assert!(message.contains(expected), "{to}: {message}");
        }
    }
}
