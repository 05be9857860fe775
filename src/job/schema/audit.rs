//! `[audit.NAME]`: a table to audit.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::loss::{PointLoss, squared_error};
use super::one;
use crate::error::{Result, invalid};
use crate::job::Columns;
use crate::job::validate::{non_negative, positive};

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

impl AuditSpec {
    /// Refuses values that are out of range, of the audit of that name.
    pub(in crate::job) fn validate(&self, name: &str) -> Result<()> {
        positive(&format!("audit.{name}.worst"), self.worst)?;
        positive(&format!("audit.{name}.days"), self.days)?;
        positive(&format!("audit.{name}.propensity_bins"), self.propensity_bins)?;
        non_negative(&format!("audit.{name}.lambda"), self.lambda)?;
        let [lower, upper] = self.propensity_bounds;
        if !(0.0 < lower && lower < upper && upper < 1.0) {
            invalid!("audit.{name}.propensity_bounds is [{lower}, {upper}]; it must rise, between 0 and 1");
        }
        Ok(())
    }
}
