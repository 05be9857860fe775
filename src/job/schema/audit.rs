//! `[audit.NAME]`: a table to audit.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::loss::{PointLoss, squared_error};
use super::one;
use crate::error::{Result, invalid};
use crate::job::Columns;
use crate::job::validate::{above_zero, non_negative, positive};

/// A table to audit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
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
    #[schemars(range(min = 1))]
    pub worst: usize,
    /// How many of the last days are shown.
    #[serde(default = "last_days")]
    #[schemars(range(min = 1))]
    pub days: usize,
    /// Bins of the calibration table.
    #[serde(default = "propensity_bins")]
    #[schemars(range(min = 1))]
    pub propensity_bins: usize,
    /// Below the first and above the second a propensity is too close to 0 or 1.
    #[serde(default = "propensity_bounds")]
    pub propensity_bounds: [f64; 2],
    /// How the error is derived where no column holds it.
    #[serde(default = "squared_error")]
    pub prediction_loss: PointLoss,
    /// λ of the IPS-V2 and DR-V2 estimates.
    #[serde(default = "one")]
    #[schemars(range(min = 0))]
    pub lambda: f64,
    /// The standardised imbalance that is tolerated, of the constant and of every element of φ, in the whole table, segments
    /// and days; also the share by which the treated rate of a bin of propensities may be off.
    #[serde(default = "tolerance")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub tolerance: f64,
    /// How far the imbalance may move an estimate of the error, as a share of the mean error.
    #[serde(default = "bias_tolerance")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub bias_tolerance: f64,
    /// How sure a verdict must be that something is out of balance, or has changed: where all is within what is tolerated, at
    /// most the rest is the chance that one says so. Of segments and days, that is the share of false discoveries.
    #[serde(default = "confidence")]
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub confidence: f64,
    /// An effective sample below this share of the treated rows is dominated by few of them.
    #[serde(default = "min_effective_share")]
    #[schemars(range(min = 0, max = 1))]
    pub min_effective_share: f64,
    /// The share of rows that may be bad: those with a NULL in φ, and those whose treatment, propensity or cluster is NULL or
    /// cannot be. They are left out; with more of them the audit fails, once everything is shown and written.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1))]
    pub max_invalid: f64,
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

fn tolerance() -> f64 {
    0.1
}

fn bias_tolerance() -> f64 {
    0.05
}

fn confidence() -> f64 {
    0.99
}

fn min_effective_share() -> f64 {
    0.1
}

impl AuditSpec {
    /// Refuses values that are out of range, of the audit of that name.
    pub(in crate::job) fn validate(&self, name: &str) -> Result<()> {
        positive(&format!("audit.{name}.worst"), self.worst)?;
        positive(&format!("audit.{name}.days"), self.days)?;
        positive(&format!("audit.{name}.propensity_bins"), self.propensity_bins)?;
        non_negative(&format!("audit.{name}.lambda"), self.lambda)?;
        above_zero(&format!("audit.{name}.tolerance"), self.tolerance)?;
        above_zero(&format!("audit.{name}.bias_tolerance"), self.bias_tolerance)?;
        let confidence = self.confidence;
        if !(confidence > 0.0 && confidence < 1.0) {
            invalid!("audit.{name}.confidence = {confidence}: give a number between 0 and 1, such as 0.99");
        }
        for (key, share) in [("min_effective_share", self.min_effective_share), ("max_invalid", self.max_invalid)] {
            if !(0.0..=1.0).contains(&share) {
                invalid!("audit.{name}.{key} = {share}: give a share from 0 to 1, such as 0.1");
            }
        }
        let [lower, upper] = self.propensity_bounds;
        if !(0.0 < lower && lower < upper && upper < 1.0) {
            invalid!("audit.{name}.propensity_bounds is [{lower}, {upper}]; it must rise, between 0 and 1");
        }
        Ok(())
    }
}
