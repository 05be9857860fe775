//! The job file: what to read, what the columns mean, what to train, score and audit, and where the results go.
//!
//! A job is TOML. Inputs are named tables; every data set is a SQL query over them. Text may refer to `${name}`: an entry
//! of `[vars]`, or the job's `name` or `seed`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use toml::{Table as Toml, Value};

use crate::error::{Context, Error, Result, invalid, nearest, suggestion};
use crate::session::{SessionOptions, TableFormat};

mod balance_weight;
mod loss;
mod propensity;

pub use balance_weight::{BalanceWeight, Curve, Schedule};
pub use loss::{ImputedError, LossSpec, Method, Phi, PointLoss, Regularizer};
pub use propensity::{PropensitySource, PropensitySpec};

/// A whole job file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// The job's name: the `table` label of its metrics, and the default of report titles.
    pub name: String,
    /// Seeds every random choice.
    #[serde(default)]
    pub seed: u64,
    /// Where models are trained and scored.
    #[serde(default)]
    pub device: DeviceSpec,
    /// Text that `${name}` stands for elsewhere in the file.
    #[serde(default)]
    pub vars: BTreeMap<String, String>,
    /// What queries may use of the machine.
    #[serde(default)]
    pub session: SessionOptions,
    /// Input tables by name.
    #[serde(default)]
    pub tables: BTreeMap<String, TableSpec>,
    /// Which column plays which role.
    #[serde(default)]
    pub columns: Columns,
    /// What a row is, and what all of the population is.
    #[serde(default)]
    pub population: Population,
    /// What `counterweight train` does.
    pub train: Option<TrainSpec>,
    /// What `counterweight score` does.
    pub score: Option<ScoreSpec>,
    /// What `counterweight audit` does, by the audit's name.
    #[serde(default)]
    pub audit: BTreeMap<String, AuditSpec>,
    #[serde(skip)]
    source: JobSource,
}

/// What a job was parsed from: with it another process parses the same job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct JobSource {
    /// The text of the job file.
    pub text: String,
    /// The assignments that were made after it, as [`Job::parse`] takes them.
    pub assignments: Vec<String>,
}

/// Where tensors live.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceSpec {
    /// The first GPU where there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU of that index.
    Cuda(usize),
}

/// An input table: files at a URL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableSpec {
    /// A file, a folder (ending in `/`, partitioned `key=value/` or not) or a glob.
    pub url: String,
    /// See [`TableFormat::format`].
    pub format: Option<String>,
    /// See [`TableFormat::compression`].
    pub compression: Option<String>,
    /// See [`TableFormat::header`].
    pub header: Option<bool>,
    /// See [`TableFormat::delimiter`].
    pub delimiter: Option<char>,
    /// See [`TableFormat::schema`].
    pub schema: Option<String>,
    /// Aggregates over the table, such as `"count(DISTINCT user_id)"`, and the values they must have: checked when the
    /// table is opened.
    #[serde(default)]
    pub expect: BTreeMap<String, f64>,
}

impl TableSpec {
    /// How the files are read.
    pub fn format(&self) -> TableFormat {
        let Self { url: _, expect: _, format, compression, header, delimiter, schema } = self.clone();
        TableFormat { format, compression, header, delimiter, schema }
    }
}

/// The column of a query's result that plays each role. A role without a column is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Columns {
    /// User identity: integers or text.
    pub user: Option<String>,
    /// Item identity: integers or text.
    pub item: Option<String>,
    /// o: whether the outcome was let happen (clicked, exposed, rated). Boolean, or a number that is 0 or 1.
    pub treated: Option<String>,
    /// r: known only where treated; 0 to 1 (conversion, or a binarised rating).
    pub outcome: Option<String>,
    /// p̂: the probability of being treated.
    pub propensity: Option<String>,
    /// The propensity before the last change of its model, to compare with.
    pub propensity_before: Option<String>,
    /// r̂: the predicted outcome.
    pub prediction: Option<String>,
    /// e: the error of the prediction; derived from prediction and outcome where absent.
    pub error: Option<String>,
    /// ê: a model's estimate of the error.
    pub imputed_error: Option<String>,
    /// φ: numeric columns, or one column of vectors. Absent, φ = 1.
    pub phi: Vec<String>,
    /// The true probability of the outcome, known in simulations: with it an audit shows the true error.
    pub true_conversion: Option<String>,
    /// The true propensity, known in simulations.
    pub true_propensity: Option<String>,
    /// When the row was made: a date, a moment (its date is taken), or numbers or text in the order of the days.
    pub day: Option<String>,
}

impl Columns {
    /// These roles, with those that `over` names taken from there.
    pub fn overridden(&self, over: &Self) -> Self {
        let either = |ours: &Option<String>, theirs: &Option<String>| theirs.clone().or_else(|| ours.clone());
        Self {
            user: either(&self.user, &over.user),
            item: either(&self.item, &over.item),
            treated: either(&self.treated, &over.treated),
            outcome: either(&self.outcome, &over.outcome),
            propensity: either(&self.propensity, &over.propensity),
            propensity_before: either(&self.propensity_before, &over.propensity_before),
            prediction: either(&self.prediction, &over.prediction),
            error: either(&self.error, &over.error),
            imputed_error: either(&self.imputed_error, &over.imputed_error),
            phi: if over.phi.is_empty() { self.phi.clone() } else { over.phi.clone() },
            true_conversion: either(&self.true_conversion, &over.true_conversion),
            true_propensity: either(&self.true_propensity, &over.true_propensity),
            day: either(&self.day, &over.day),
        }
    }
}

/// The population D.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Population {
    /// What a row of a data set is.
    pub shape: Shape,
    /// A query whose first column lists every user; by default those of the training set. Further columns are covariates
    /// of [`PropensitySource::Logistic`]. Matrix shape only.
    pub users: Option<String>,
    /// The same of items.
    pub items: Option<String>,
}

/// What a row of a data set is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Every exposure is a row, untreated ones included: the rows are the population.
    #[default]
    Log,
    /// The rows are the treated pairs; the population is all users × all items.
    Matrix,
}

/// What to train, on what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSpec {
    /// Settings to start from; keys given here win over the preset's.
    pub preset: Option<String>,
    /// The data sets.
    pub data: DataSpec,
    /// The models.
    #[serde(default)]
    pub model: ModelSpec,
    /// Where propensities come from.
    #[serde(default)]
    pub propensity: PropensitySpec,
    /// The loss.
    pub loss: LossSpec,
    /// The optimiser.
    #[serde(default)]
    pub optimizer: OptimizerSpec,
    /// What the matrix products of a step are taken in.
    #[serde(default)]
    pub precision: Precision,
    /// How models are evaluated, and when training stops.
    #[serde(default)]
    pub evaluation: EvaluationSpec,
    /// What an unfinished run keeps, for another to go on from.
    #[serde(default)]
    pub checkpoint: CheckpointSpec,
    /// Whether the seconds of an epoch are recorded by what they were spent on. A GPU waits at every part of a step then.
    #[serde(default)]
    pub timing: bool,
    /// URL of the model folder.
    pub output: String,
}

/// Queries that give the data sets, with the columns that [`Columns`] names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// The biased log to learn from.
    pub train: String,
    /// Rows that decide when to stop: treated ones, better yet a uniform sample.
    pub validation: String,
    /// Rows that are evaluated once, at the end.
    pub test: Option<String>,
    /// Rows of a uniform sample, for propensities by naive Bayes.
    pub uniform: Option<String>,
}

/// The models of propensity, prediction and imputation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSpec {
    /// What users and items are to a model.
    pub kind: ModelKind,
    /// Length K of the user and item embeddings.
    pub dim: usize,
    /// Whether the models share them.
    pub embeddings: Embeddings,
    /// How the embeddings of a user and an item become a score.
    pub head: HeadKind,
    /// Widths of the hidden layers, from the embeddings to the score. Of an `mlp` head.
    pub hidden: Vec<usize>,
    /// How many of each are trained, one after the other, from other initial weights and in another order: the mean of
    /// their scores is the score. Of a `dot` head.
    pub members: usize,
}

impl Default for ModelSpec {
    fn default() -> Self {
        Self {
            kind: ModelKind::MatrixFactorization,
            dim: 64,
            embeddings: Embeddings::Separate,
            head: HeadKind::Dot,
            hidden: vec![64],
            members: 1,
        }
    }
}

/// What users and items are to a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelKind {
    /// Embeddings u and v and biases b_u and b_i: a pair scores what the head makes of u and v, plus b_u + b_i.
    MatrixFactorization,
}

/// Whether the models of propensity, prediction and imputation have embeddings in common.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Embeddings {
    /// Each model has its own.
    #[default]
    Separate,
    /// One set for all; each model has a head and biases of its own. The head `dot` then has a weight for each of the K
    /// products u_k·v_k. Embeddings and such weights have the rates of the prediction model.
    Shared,
}

/// How the embeddings u of a user and v of an item become a score.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadKind {
    /// u·v.
    #[default]
    Dot,
    /// A multilayer perceptron over [u : v] with ReLU between its layers (He et al., WWW 2017), which has the rates of
    /// its model.
    Mlp,
}

impl ModelSpec {
    fn validate(&self) -> Result<()> {
        positive("train.model.dim", self.dim)?;
        positive("train.model.members", self.members)?;
        if self.head == HeadKind::Mlp && self.members > 1 {
            invalid!(
                "train.model.members = {}: the mean of several MLP heads is not one; set train.model.members = 1, or \
                 train.model.head = \"dot\"",
                self.members
            );
        }
        if self.head == HeadKind::Mlp && self.hidden.is_empty() {
            invalid!(
                "train.model.hidden = []: an MLP head has a hidden layer; give its width, such as [64], or set \
                 train.model.head = \"dot\""
            );
        }
        self.hidden.iter().try_for_each(|width| positive("train.model.hidden: a width", *width))
    }
}

/// What a job file calls a value that is chosen by its name.
pub(crate) fn name_of(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Json::String(name)) => name,
        other => unreachable!("a name is text, not {other:?}"),
    }
}

fn one() -> f64 {
    1.0
}

fn squared_error() -> PointLoss {
    PointLoss::SquaredError
}

/// What the matrix products of a step are taken in: those of a block's embeddings and of an MLP's hidden layers, forward
/// and backward.
///
/// Weights and their gradients, losses, sums and Adam are float32 whichever it is, and so are evaluation and scoring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// float32.
    #[default]
    Float32,
    /// bfloat16, which has the range of float32, and 8 bits of precision: the factors are rounded to it, and so is the
    /// product. The last layer of an MLP, which multiplies a matrix by a vector, is taken in float32.
    Bfloat16,
}

/// Adam, one set of rates a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerSpec {
    /// Epochs, at most: passes over the population, or as many blocks as `blocks_per_epoch` says.
    pub epochs: usize,
    /// Rows of a mini-batch. Log shape.
    pub batch_size: usize,
    /// Users of a block. Matrix shape.
    pub block_users: usize,
    /// Items of a block. Matrix shape.
    pub block_items: usize,
    /// Blocks of an epoch, drawn at random; where it is absent, an epoch is every pair once. Matrix shape.
    pub blocks_per_epoch: Option<usize>,
    /// What a step does to rows that it has no gradient for.
    pub adam: AdamKind,
    /// Rates of the prediction model.
    pub prediction: AdamSpec,
    /// Rates of the propensity model.
    pub propensity: AdamSpec,
    /// Rates of the imputation model.
    pub imputation: AdamSpec,
}

impl Default for OptimizerSpec {
    fn default() -> Self {
        Self {
            epochs: 500,
            batch_size: 8192,
            block_users: 2000,
            block_items: 200,
            blocks_per_epoch: None,
            adam: AdamKind::default(),
            prediction: AdamSpec::default(),
            propensity: AdamSpec::default(),
            imputation: AdamSpec::default(),
        }
    }
}

/// What a step of Adam does to the embeddings of users and items that are not in its batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdamKind {
    /// They move too: momentum and weight decay go on. A step costs the whole table.
    #[default]
    Dense,
    /// They stay. Every embedding has an Adam of its own, which counts, corrects and decays only at the steps whose batch
    /// it is in; a step costs its batch.
    Lazy,
}

/// Adam's settings for one model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamSpec {
    /// Learning rate.
    pub lr: f64,
    /// L2 penalty added to the gradient.
    pub weight_decay: f64,
}

impl Default for AdamSpec {
    fn default() -> Self {
        Self { lr: 1e-3, weight_decay: 0.0 }
    }
}

/// How models are evaluated, and when training stops.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluationSpec {
    /// Length of the ranked list in Recall@K and NDCG@K.
    pub k: usize,
    /// The validation metric that picks the best epoch.
    pub metric: Metric,
    /// Epochs without a better metric before training stops.
    pub patience: usize,
}

impl Default for EvaluationSpec {
    fn default() -> Self {
        Self { k: 5, metric: Metric::Auc, patience: 30 }
    }
}

/// What an unfinished run keeps, in the folder `resume/` of the model folder, until it has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointSpec {
    /// Seconds between two writes, each at the end of an epoch; 0 writes after every epoch.
    pub every_seconds: u64,
    /// Whether to go on from what an unfinished run kept.
    pub resume: bool,
}

impl Default for CheckpointSpec {
    fn default() -> Self {
        Self { every_seconds: 300, resume: false }
    }
}

/// A metric of a trained model on a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Area under the ROC curve of prediction against outcome. Higher is better.
    Auc,
    /// Hits among the K best-ranked over positives, mean over users with a positive. Higher is better.
    Recall,
    /// Normalised discounted cumulative gain at K. Higher is better.
    Ndcg,
    /// Mean cross-entropy of prediction against outcome. Lower is better.
    LogLoss,
    /// Mean squared error of prediction against outcome. Lower is better.
    Mse,
    /// Balance of the propensities on the training population. Lower is better.
    Bmse,
}

/// A table to score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreSpec {
    /// Name of the input table, one of `[tables]`.
    pub table: String,
    /// URL of the model folder; by default the one that `[train]` writes.
    pub model: Option<String>,
    /// URL of the folder that the scored files are written to, laid out as the input's.
    pub output: String,
    /// What an unknown user or item gets.
    #[serde(default)]
    pub unknown: Unknown,
    /// Whether to write the φ that the model was trained with: a column `phi` of vectors.
    #[serde(default)]
    pub phi: bool,
}

/// What a user or item that the model never saw gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unknown {
    /// The run stops and names it.
    #[default]
    Error,
    /// The mean embedding and bias of those known.
    Average,
}

/// A table to audit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditSpec {
    /// A query that gives the table to audit.
    pub query: String,
    /// Roles that differ from the job's.
    #[serde(default)]
    pub columns: Columns,
    /// Columns whose values are segments to look at one by one.
    #[serde(default)]
    pub segments: Vec<String>,
    /// How many of the worst segments, and of the worst elements of φ, are shown.
    #[serde(default = "worst_segments")]
    pub worst: usize,
    /// How many of the last days are shown.
    #[serde(default = "last_days")]
    pub days: usize,
    /// Bins of the calibration table.
    #[serde(default = "propensity_bins")]
    pub propensity_bins: usize,
    /// Below the first and above the second a propensity is too close to 0 or 1.
    #[serde(default = "propensity_bounds")]
    pub propensity_bounds: [f64; 2],
    /// How the error is derived where no column holds it.
    #[serde(default = "squared_error")]
    pub prediction_loss: PointLoss,
    /// λ of the IPS-V2 and DR-V2 estimates.
    #[serde(default = "one")]
    pub balance_weight: f64,
    /// URL of the folder that the results are written to, as Parquet and JSON.
    pub output: Option<String>,
    /// URL of the Prometheus text file.
    pub metrics: Option<String>,
}

fn worst_segments() -> usize {
    10
}

fn last_days() -> usize {
    30
}

fn propensity_bins() -> usize {
    10
}

fn propensity_bounds() -> [f64; 2] {
    [0.01, 0.99]
}

impl Job {
    /// Reads a job file, after `--set` assignments such as `vars.dir=/data` or `train.loss.phi="K"`.
    ///
    /// # Errors
    /// Where the text is no TOML (with line and column), a key is unknown (with the nearest known one), a value is of
    /// the wrong kind or out of range, or `${name}` refers to nothing. The message names the key.
    pub fn parse(text: &str, assignments: &[String]) -> Result<Self> {
        let mut table: Toml =
            toml::from_str(text).map_err(|error| Error::Invalid(error.to_string().trim_end().to_owned()))?;
        for assignment in assignments {
            assign(&mut table, assignment)?;
        }
        merge_preset(&mut table)?;
        merge_method(&mut table)?;
        substitute(&mut table)?;
        let hidden_is_given = table.get("train").and_then(|train| train.get("model")?.get("hidden")).is_some();
        let mut job: Self = serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
            let path = error.path().to_string();
            Error::Invalid(explain("the job file", &path, error.into_inner().message()))
        })?;
        job.validate()?;
        if let Some(TrainSpec { model: ModelSpec { head: HeadKind::Dot, hidden, .. }, .. }) = &job.train
            && hidden_is_given
            && !hidden.is_empty()
        {
            invalid!(
                "train.model.hidden = {hidden:?}: train.model.head = \"dot\" has no hidden layer; set \
                 train.model.head = \"mlp\", or leave train.model.hidden out"
            );
        }
        job.source = JobSource { text: text.to_owned(), assignments: assignments.to_vec() };
        Ok(job)
    }

    /// What it was parsed from.
    pub fn source(&self) -> &JobSource {
        &self.source
    }

    /// Reads the job file at a local path.
    pub fn load(path: &std::path::Path, assignments: &[String]) -> Result<Self> {
        let text = std::fs::read_to_string(path).context(|| format!("cannot read the job file {}", path.display()))?;
        Self::parse(&text, assignments).context(|| path.display().to_string())
    }

    fn validate(&self) -> Result<()> {
        if let Some(train) = &self.train {
            train.validate()?;
        }
        let in_log = |train: &&TrainSpec| self.population.shape == Shape::Log && train.model.head == HeadKind::Dot;
        if self.train.as_ref().filter(in_log).is_some_and(|train| train.precision == Precision::Bfloat16) {
            invalid!(
                "train.precision = \"bfloat16\" is of matrix products, and train.model.head = \"dot\" takes none in a \
                 log; leave it \"float32\", or set train.model.head = \"mlp\""
            );
        }
        let blocks = self.train.as_ref().and_then(|train| train.optimizer.blocks_per_epoch);
        let matrix_only = [
            ("population.users", self.population.users.is_some()),
            ("population.items", self.population.items.is_some()),
            ("train.optimizer.blocks_per_epoch", blocks.is_some()),
        ];
        for (key, given) in matrix_only {
            if given && self.population.shape == Shape::Log {
                invalid!("{key} belongs to shape = \"matrix\": in a log the rows are the population");
            }
        }
        if let Some(score) = &self.score {
            if !self.tables.contains_key(&score.table) {
                let known = self.tables.keys().map(String::as_str);
                invalid!("score.table = {:?} is not one of [tables]{}", score.table, suggestion(&score.table, known));
            }
            if score.model.is_none() && self.train.is_none() {
                invalid!(
                    "score.model is missing: give the URL of a model folder, or a [train] section that writes one"
                );
            }
        }
        for (name, audit) in &self.audit {
            positive(&format!("audit.{name}.worst"), audit.worst)?;
            positive(&format!("audit.{name}.days"), audit.days)?;
            positive(&format!("audit.{name}.propensity_bins"), audit.propensity_bins)?;
            non_negative(&format!("audit.{name}.balance_weight"), audit.balance_weight)?;
            let [lower, upper] = audit.propensity_bounds;
            if !(0.0 < lower && lower < upper && upper < 1.0) {
                invalid!("audit.{name}.propensity_bounds is [{lower}, {upper}]; it must rise, between 0 and 1");
            }
        }
        Ok(())
    }
}

impl TrainSpec {
    fn validate(&self) -> Result<()> {
        let Self { model, loss, optimizer, evaluation, .. } = self;
        model.validate()?;
        positive("train.optimizer.epochs", optimizer.epochs)?;
        positive("train.optimizer.batch_size", optimizer.batch_size)?;
        positive("train.optimizer.block_users", optimizer.block_users)?;
        positive("train.optimizer.block_items", optimizer.block_items)?;
        positive("train.optimizer.blocks_per_epoch", optimizer.blocks_per_epoch.unwrap_or(1))?;
        positive("train.evaluation.k", evaluation.k)?;
        positive("train.evaluation.patience", evaluation.patience)?;
        loss.validate()?;
        if loss.phi == Phi::Learned && model.head == HeadKind::Dot {
            invalid!(
                "train.loss.phi = \"learned\": φ is then the last hidden layer of the propensity model, and \
                 train.model.head = \"dot\" has none; set train.model.head = \"mlp\", or phi = \"1\", \"K\", \"2K\" or \"R\""
            );
        }
        self.validate_propensity()?;
        let weights = [
            ("train.optimizer.prediction.weight_decay", optimizer.prediction.weight_decay),
            ("train.optimizer.propensity.weight_decay", optimizer.propensity.weight_decay),
            ("train.optimizer.imputation.weight_decay", optimizer.imputation.weight_decay),
        ];
        for (key, value) in weights {
            non_negative(key, value)?;
        }
        let rates = [
            ("train.optimizer.prediction.lr", optimizer.prediction.lr),
            ("train.optimizer.propensity.lr", optimizer.propensity.lr),
            ("train.optimizer.imputation.lr", optimizer.imputation.lr),
        ];
        for (key, value) in rates {
            above_zero(key, value)?;
        }
        Ok(())
    }
}

fn positive(key: &str, value: usize) -> Result<()> {
    if value == 0 {
        invalid!("{key} = 0: give at least 1");
    }
    Ok(())
}

fn above_zero(key: &str, value: f64) -> Result<()> {
    if !(value > 0.0 && value.is_finite()) {
        invalid!("{key} = {value}: give a positive number");
    }
    Ok(())
}

fn non_negative(key: &str, value: f64) -> Result<()> {
    if !(value >= 0.0 && value.is_finite()) {
        invalid!("{key} = {value}: give a number that is not negative");
    }
    Ok(())
}

/// Keys of a job that say where results go and what the machine may use, not what is learned.
const NOT_LEARNED: [&str; 9] =
    ["audit", "name", "score", "session", "train.checkpoint", "train.output", "train.preset", "train.timing", "vars"];

/// Every key of a job, given as JSON, that has a bearing on what is learned, by its dotted path.
pub fn settings_of(job: &Json) -> BTreeMap<String, Json> {
    // What a table is checked against changes nothing of what it holds.
    let is_expectation = |path: &str| path.starts_with("tables.") && path.ends_with(".expect");
    let mut settings = BTreeMap::new();
    let mut open = vec![(String::new(), job)];
    while let Some((path, value)) = open.pop() {
        match value {
            _ if NOT_LEARNED.contains(&&*path) || is_expectation(&path) => {}
            Json::Null => {}
            Json::Object(inner) => {
                let prefix = if path.is_empty() { path } else { path + "." };
                open.extend(inner.iter().map(|(key, value)| (format!("{prefix}{key}"), value)));
            }
            value => drop(settings.insert(path, value.clone())),
        }
    }
    settings
}

/// Applies one `key.path=value`: the value is TOML, or else text. It takes the place of what has that key, and a section
/// on its path that of a value.
fn assign(table: &mut Toml, assignment: &str) -> Result<()> {
    let Some((path, text)) = assignment.split_once('=').filter(|(path, _)| !path.is_empty()) else {
        invalid!("--set {assignment:?}: write it as key=value, such as --set vars.dir=/data or --set seed=3");
    };
    let value = match toml::from_str::<Toml>(&format!("value = {text}")) {
        Ok(mut parsed) if parsed.len() == 1 => parsed.remove("value").unwrap_or_else(|| Value::String(text.to_owned())),
        _ => Value::String(text.to_owned()),
    };
    let mut keys: Vec<&str> = path.trim().split('.').collect();
    let last = keys.pop().unwrap_or_default();
    let mut inner = table;
    for key in keys {
        let section = inner.entry(key).or_insert(Value::Table(Toml::new()));
        if !section.is_table() {
            *section = Value::Table(Toml::new());
        }
        inner = section.as_table_mut().expect("it is a table, or has just become one");
    }
    // Variables are text, whatever they look like.
    let value = if path.starts_with("vars.") { Value::String(text.to_owned()) } else { value };
    inner.insert(last.to_owned(), value);
    Ok(())
}

const PRESETS: [(&str, &str); 23] = [
    ("ips-v2", include_str!("job/presets/ips-v2.toml")),
    ("dr-v2", include_str!("job/presets/dr-v2.toml")),
    ("coat", include_str!("job/presets/coat.toml")),
    ("coat-mf", include_str!("job/presets/coat-mf.toml")),
    ("coat-ips", include_str!("job/presets/coat-ips.toml")),
    ("coat-snips", include_str!("job/presets/coat-snips.toml")),
    ("coat-eib", include_str!("job/presets/coat-eib.toml")),
    ("coat-dr", include_str!("job/presets/coat-dr.toml")),
    ("coat-mrdr", include_str!("job/presets/coat-mrdr.toml")),
    ("coat-stable-dr", include_str!("job/presets/coat-stable-dr.toml")),
    ("coat-rd-ips", include_str!("job/presets/coat-rd-ips.toml")),
    ("coat-rd-dr", include_str!("job/presets/coat-rd-dr.toml")),
    ("coat-esmm", include_str!("job/presets/coat-esmm.toml")),
    ("coat-multi-ips", include_str!("job/presets/coat-multi-ips.toml")),
    ("coat-multi-dr", include_str!("job/presets/coat-multi-dr.toml")),
    ("coat-escm2-ips", include_str!("job/presets/coat-escm2-ips.toml")),
    ("coat-escm2-dr", include_str!("job/presets/coat-escm2-dr.toml")),
    ("coat-ips-v2", include_str!("job/presets/coat-ips-v2.toml")),
    ("coat-dr-v2", include_str!("job/presets/coat-dr-v2.toml")),
    ("yahoo-r3-ips-v2", include_str!("job/presets/yahoo-r3-ips-v2.toml")),
    ("yahoo-r3-dr-v2", include_str!("job/presets/yahoo-r3-dr-v2.toml")),
    ("kuairec-ips-v2", include_str!("job/presets/kuairec-ips-v2.toml")),
    ("kuairec-dr-v2", include_str!("job/presets/kuairec-dr-v2.toml")),
];

/// Puts the settings of `train.preset`, and of the preset that it builds on, under those the job gives.
fn merge_preset(table: &mut Toml) -> Result<()> {
    let Some(Value::Table(train)) = table.get_mut("train") else { return Ok(()) };
    let mut next = train.get("preset").cloned();
    while let Some(Value::String(name)) = next {
        let Some((_, text)) = PRESETS.iter().find(|(known, _)| *known == name) else {
            invalid!("train.preset = {name:?} is unknown{}", suggestion(&name, PRESETS.map(|(known, _)| known)));
        };
        let mut preset: Toml =
            toml::from_str(text).map_err(|error| Error::Invalid(format!("preset {name}: {error}")))?;
        next = preset.remove("preset");
        merge_under(train, preset);
    }
    Ok(())
}

/// Puts what `train.loss.method` entails under the settings of the job and its preset.
fn merge_method(table: &mut Toml) -> Result<()> {
    let Some(Value::Table(train)) = table.get_mut("train") else { return Ok(()) };
    let Some(Value::Table(loss)) = train.get_mut("loss") else { return Ok(()) };
    let Some(Value::String(method)) = loss.get("method") else { return Ok(()) };
    let mut methods: Toml = toml::from_str(include_str!("job/methods.toml"))
        .map_err(|error| Error::Invalid(format!("methods.toml: {error}")))?;
    if let Some(Value::Table(entailed)) = methods.remove(method) {
        merge_under(loss, entailed);
    }
    Ok(())
}

fn merge_under(over: &mut Toml, under: Toml) {
    for (key, value) in under {
        match (over.get_mut(&key), value) {
            (Some(Value::Table(over)), Value::Table(under)) => merge_under(over, under),
            (Some(_), _) => {}
            (None, value) => {
                over.insert(key, value);
            }
        }
    }
}

/// Replaces `${name}` in every text of the job.
fn substitute(table: &mut Toml) -> Result<()> {
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    for key in ["name", "seed"] {
        match table.get(key) {
            Some(Value::String(text)) => known.insert(key.to_owned(), text.clone()),
            Some(other) => known.insert(key.to_owned(), other.to_string()),
            None => known.insert(key.to_owned(), "0".to_owned()),
        };
    }
    if let Some(Value::Table(vars)) = table.get("vars") {
        for (key, value) in vars {
            let Value::String(text) = value else {
                invalid!("vars.{key} = {value}: a variable is text; put it in quotes")
            };
            known.insert(key.clone(), text.clone());
        }
    }
    for (key, value) in table.iter_mut().filter(|(key, _)| *key != "vars") {
        substitute_value(value, &known, key)?;
    }
    Ok(())
}

fn substitute_value(value: &mut Value, known: &BTreeMap<String, String>, path: &str) -> Result<()> {
    match value {
        Value::String(text) => *text = substitute_text(text, known, path)?,
        Value::Array(values) => {
            for value in values {
                substitute_value(value, known, path)?;
            }
        }
        Value::Table(table) => {
            for (key, value) in table {
                substitute_value(value, known, &format!("{path}.{key}"))?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn substitute_text(text: &str, known: &BTreeMap<String, String>, path: &str) -> Result<String> {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let Some(length) = rest[start..].find('}') else { invalid!("{path}: ${{ without its }}") };
        let name = &rest[start + 2..start + length];
        let Some(value) = known.get(name) else {
            let near = nearest(name, known.keys().map(String::as_str))
                .map_or(String::new(), |near| format!(" (there is ${{{near}}})"));
            invalid!(
                "{path} refers to ${{{name}}}, which is not set{near}; put it in [vars], or pass --set vars.{name}=…"
            );
        };
        result.push_str(&rest[..start]);
        result.push_str(value);
        rest = &rest[start + length + 1..];
    }
    result.push_str(rest);
    Ok(result)
}

/// A deserialiser's complaint, with the key's whole name and, for an unknown one, the nearest known.
pub(crate) fn explain(file: &str, path: &str, message: &str) -> String {
    let quoted = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let message = message.trim_end();
    let section = if path == "." { file.to_owned() } else { format!("[{path}]") };
    let words = quoted(message);
    if let (true, [unknown, known @ ..]) = (message.starts_with("unknown field"), words.as_slice()) {
        let unknown_path = path.rsplit_once('.').map_or(path, |(parent, _)| parent);
        let section = if path == *unknown { file.to_owned() } else { format!("[{unknown_path}]") };
        return format!(
            "unknown key {unknown:?} in {section}{}",
            suggestion(unknown, known.iter().map(String::as_str))
        );
    }
    if let (true, [unknown, known @ ..]) = (message.starts_with("unknown variant"), words.as_slice()) {
        return format!("{path} = {unknown:?} is not one{}", suggestion(unknown, known.iter().map(String::as_str)));
    }
    if message.starts_with("missing field") {
        return format!("{section} lacks the key {}", words.first().map_or("?", String::as_str));
    }
    format!("{path}: {message}")
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl std::str::FromStr for DeviceSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => match text.strip_prefix("cuda:").and_then(|index| index.parse().ok()) {
                Some(index) => Ok(Self::Cuda(index)),
                None => invalid!("device = {text:?} is not one; write auto, cpu or cuda:0"),
            },
        }
    }
}

impl Serialize for DeviceSpec {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeviceSpec {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
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
        balance_weight = 0.5
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
        let train = job.train.unwrap();
        assert_eq!(train.output, "/data/model-7");
        assert_eq!(
            (train.loss.method, train.loss.balance_weight),
            (Method::DrV2, BalanceWeight::Fixed(0.5)),
            "the job wins over its preset"
        );

        let assignments =
            ["vars.dir=/else", "seed=3", "train.loss.phi=\"2K\"", "device=cuda:1", "train.preset=coat-ips-v2"];
        let job = Job::parse(JOB, &assignments.map(str::to_owned)).unwrap();
        let train = job.train.unwrap();
        assert_eq!((train.output.as_str(), train.loss.phi), ("/else/model-3", Phi::Concatenation));
        assert_eq!((train.model.dim, train.optimizer.block_users, train.loss.method), (256, 64, Method::IpsV2));
        assert_eq!(job.device, DeviceSpec::Cuda(1));
    }

    #[test]
    fn sections_and_values_take_each_others_place() {
        let weight = |text: &str, assignments: &[&str]| {
            let assignments: Vec<_> = assignments.iter().map(|&text| text.to_owned()).collect();
            Job::parse(text, &assignments).unwrap().train.unwrap().loss.balance_weight
        };
        let schedule = |curve| BalanceWeight::Scheduled(Schedule { from: 0.0, to: 2.0, epochs: 9, curve });
        let whole = "train.loss.balance_weight={ from = 0, to = 2, epochs = 9 }";
        let parts = ["from=0", "to=2", "epochs=9"].map(|part| format!("train.loss.balance_weight.{part}"));
        let parts = parts.each_ref().map(String::as_str);
        // The weight is a number in the job, then in the preset alone.
        for job in [JOB, &JOB.replace("balance_weight = 0.5", "").replace("dr-v2", "kuairec-dr-v2")] {
            assert_eq!(weight(job, &[whole]), schedule(Curve::Linear));
            assert_eq!(weight(job, &parts), schedule(Curve::Linear));
            assert_eq!(weight(job, &[whole, "train.loss.balance_weight=1"]), BalanceWeight::Fixed(1.0));
        }
        let scheduled = JOB.replace("= 0.5", "= { from = 1, to = 2, epochs = 9, curve = \"cosine\" }");
        assert_eq!(weight(&scheduled, &["train.loss.balance_weight=1"]), BalanceWeight::Fixed(1.0));
        assert_eq!(weight(&scheduled, &[whole]), schedule(Curve::Linear));
        assert_eq!(weight(&scheduled, &["train.loss.balance_weight.from=0"]), schedule(Curve::Cosine));
    }

    #[test]
    fn every_preset_is_a_whole_job() {
        for (preset, _) in PRESETS.into_iter().filter(|(preset, _)| *preset != "coat") {
            let uniform = "train.data.uniform=SELECT * FROM log".to_owned();
            let set = [format!("train.preset={preset}"), uniform, "train.loss.balance_weight=0".to_owned()];
            let job = Job::parse(JOB, &set).unwrap();
            let loss = Value::try_from(job.train.unwrap().loss).unwrap();
            assert!(preset.ends_with(loss["method"].as_str().unwrap()), "{preset}");
        }
    }

    #[test]
    fn a_method_entails_settings_that_the_job_may_change() {
        let job = JOB.replace("preset = \"dr-v2\"", "").replace("balance_weight = 0.5", "");
        let loss = |set: &[&str]| {
            let set: Vec<_> = set.iter().map(|&text| text.to_owned()).collect();
            Value::try_from(Job::parse(&job, &set).unwrap().train.unwrap().loss).unwrap()
        };
        let methods: Toml = toml::from_str(include_str!("job/methods.toml")).unwrap();
        for (method, entailed) in &methods {
            let loss = loss(&[&format!("train.loss.method={method}")]);
            for (key, value) in entailed.as_table().unwrap() {
                assert_eq!(&loss[key], value, "{method}.{key}");
            }
        }
        let ours = loss(&["train.loss.method=ips", "train.loss.stop_gradient=false"]);
        assert_eq!((&ours["stop_gradient"], &ours["balance_weight"]), (&Value::from(false), &Value::from(0.0)));
    }

    #[test]
    fn a_job_survives_being_written_and_read() {
        let job = Job::parse(JOB, &[]).unwrap();
        let json = serde_json::to_string(&job).unwrap();
        assert_eq!(serde_json::from_str::<Job>(&json).unwrap(), job);
    }

    #[test]
    fn settings_tell_weights_apart() {
        let settings = |weight: &str| {
            let job = Job::parse(JOB, &[format!("train.loss.balance_weight={weight}")]).unwrap();
            let settings = settings_of(&serde_json::to_value(job).unwrap());
            settings.into_iter().filter(|(key, _)| key.contains("balance_weight")).collect::<Vec<_>>()
        };
        let schedule = |curve: &str| settings(&format!("{{ from = 0, to = 0.5, epochs = 9, curve = \"{curve}\" }}"));
        let all = [settings("0.5"), settings("optimal"), schedule("linear"), schedule("cosine")];
        assert!(all.iter().enumerate().all(|(at, weight)| !all[..at].contains(weight)), "{all:?}");
        assert_eq!(settings("{ from = 0, to = 0.5, epochs = 9 }"), schedule("linear"));
        assert_eq!(settings("optimal"), [("train.loss.balance_weight".to_owned(), Json::from("optimal"))]);

        let set = ["train.model.head=mlp", "train.precision=bfloat16"].map(str::to_owned);
        let settings = |set: &[String]| settings_of(&serde_json::to_value(Job::parse(JOB, set).unwrap()).unwrap());
        assert_eq!(settings(&[])["train.precision"], "float32");
        assert_eq!(settings(&set)["train.precision"], "bfloat16");
    }

    #[test]
    fn unknown_keys_name_the_nearest() {
        let cases = [
            ("tran.output=\"x\"", "unknown key \"tran\" in the job file; did you mean \"train\"?"),
            (
                "train.loss.balence_weight=1",
                "unknown key \"balence_weight\" in [train.loss]; did you mean \"balance_weight\"?",
            ),
            ("columns.usr=\"u\"", "unknown key \"usr\" in [columns]; did you mean \"user\"?"),
            ("tables.log.uri=\"u\"", "unknown key \"uri\" in [tables.log]; did you mean \"url\"?"),
            ("train.loss.method=\"ips-v3\"", "train.loss.method = \"ips-v3\" is not one; did you mean \"ips-v2\"?"),
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
            ("seed=\"x\"", "seed: "),
            ("device=\"gpu\"", "device: device = \"gpu\" is not one; write auto, cpu or cuda:0"),
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
            ("train.model.head=mpl", "train.model.head = \"mpl\" is not one; did you mean \"mlp\"?"),
            ("train.model.hidden=[8, 0]", "train.model.hidden: a width = 0: give at least 1"),
            (
                "train.model.hidden=[8, 4]",
                "train.model.hidden = [8, 4]: train.model.head = \"dot\" has no hidden layer; set train.model.head = \"mlp\", or leave",
            ),
            (
                "train.loss.phi=learned",
                "train.loss.phi = \"learned\": φ is then the last hidden layer of the propensity model, and train.model.head = \"dot\" has none",
            ),
            ("train.loss.balance_weight=-1.0", "train.loss.balance_weight = -1: give a number that is not negative"),
            (
                "train.loss.balance_weight=best",
                "train.loss.balance_weight: invalid value: string \"best\", expected a number, \"optimal\" or { from",
            ),
            (
                "train.loss.balance_weight={ from = 0, to = 1, epoch = 9 }",
                "unknown key \"epoch\" in [train.loss.balance_weight]; did you mean \"epochs\"?",
            ),
            ("train.loss.balance_weight={ from = 0, to = 1 }", "[train.loss.balance_weight] lacks the key epochs"),
            (
                "train.loss.balance_weight={ from = 0, to = -1, epochs = 9 }",
                "train.loss.balance_weight.to = -1: give a number that is not negative",
            ),
            (
                "train.loss.balance_weight={ from = 0, to = 1, epochs = 1 }",
                "train.loss.balance_weight.epochs = 1: give at least 2, or a number in place of the schedule",
            ),
            (
                "train.loss.balance_weight={ from = 0, to = 1, epochs = 9, curve = \"cosin\" }",
                "train.loss.balance_weight.curve = \"cosin\" is not one; did you mean \"cosine\"?",
            ),
            ("train.loss.odds_ratio_bound=0.5", "train.loss.odds_ratio_bound = 0.5: give a number of at least 1"),
            ("train.loss.propensity_clip=0.7", "train.loss.propensity_clip = 0.7: give a number from 0 to below 0.5"),
            ("train.optimizer.prediction.lr=0.0", "train.optimizer.prediction.lr = 0: give a positive number"),
            ("train.propensity.l2=0.0", "train.propensity.l2 = 0: give a positive number"),
            (
                "train.propensity.source=model",
                "train.loss.balance_weight = 0.5: a regulariser moves propensities, and train.propensity.source = \"model\"",
            ),
            ("train.loss.method=esm", "train.loss.method = \"esm\" is not one; did you mean \"esmm\"?"),
            ("population.users=\"SELECT 1\"", "population.users belongs to shape = \"matrix\""),
            ("train.precision=float16", "train.precision = \"float16\" is not one; did you mean \"bfloat16\"?"),
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
            ("seed.x=1", "seed: invalid type: map, expected u64"),
        ];
        for (assignment, expected) in cases {
            let message = error(JOB, &[assignment]);
            assert!(message.starts_with(expected), "{assignment}: {message}");
        }
        let fixed = ["train.loss.balance_weight=0", "train.propensity.source=naive-bayes"];
        assert!(error(JOB, &fixed).starts_with("train.data.uniform is missing: propensities by naive Bayes need"));
        for source in ["column", "logistic", "model", "naive-bayes"] {
            let fixed = format!("train.propensity.source={source}");
            let stable = error(JOB, &[&fixed, "train.loss.balance_weight=0", "train.loss.method=stable-dr"]);
            assert!(
                stable.starts_with(&format!("train.propensity.source = {source:?}: stable-dr trains the propensities")),
                "{stable}"
            );
        }
        let logistic = [fixed[0], "train.propensity.source=logistic", "train.loss.phi=\"2K\""];
        assert!(error(JOB, &logistic).starts_with("train.loss.phi = \"2K\": a logistic regression has no embeddings"));
        let optimal = "train.loss.balance_weight=optimal";
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
        assert!(
            error(JOB, &esmm).starts_with("train.loss.ctcvr_weight = 0: nothing else trains the prediction of esmm")
        );
        assert_eq!(error("name = \"x\"\n[train]\noutput = \"m\"", &[]), "[train] lacks the key data");
        assert!(error("name = ", &[]).contains("line 1"), "{}", error("name = ", &[]));
    }
}
