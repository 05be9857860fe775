//! `[train.optimizer]`: Adam, its batches and its rates.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::job::validate::{above_zero, non_negative, positive};

/// Adam, one set of rates a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct OptimizerSpec {
    /// Epochs, at most: passes over the population, or as many blocks as `blocks_per_epoch` says.
    #[schemars(range(min = 1))]
    pub epochs: usize,
    /// Rows of a mini-batch. Log shape.
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    /// Users of a block. Matrix shape.
    #[schemars(range(min = 1))]
    pub block_users: usize,
    /// Items of a block. Matrix shape.
    #[schemars(range(min = 1))]
    pub block_items: usize,
    /// Blocks of an epoch, drawn at random; where it is absent, an epoch is every pair once. Matrix shape.
    #[schemars(range(min = 1))]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdamSpec {
    /// Learning rate.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub lr: f64,
    /// L2 penalty added to the gradient.
    #[schemars(range(min = 0))]
    pub weight_decay: f64,
}

impl Default for AdamSpec {
    fn default() -> Self {
        Self { lr: 1e-3, weight_decay: 0.0 }
    }
}

impl OptimizerSpec {
    pub(super) fn validate(&self) -> Result<()> {
        positive("train.optimizer.epochs", self.epochs)?;
        positive("train.optimizer.batch_size", self.batch_size)?;
        positive("train.optimizer.block_users", self.block_users)?;
        positive("train.optimizer.block_items", self.block_items)?;
        positive("train.optimizer.blocks_per_epoch", self.blocks_per_epoch.unwrap_or(1))?;
        let models =
            [("prediction", self.prediction), ("propensity", self.propensity), ("imputation", self.imputation)];
        for (model, AdamSpec { lr, weight_decay }) in models {
            above_zero(&format!("train.optimizer.{model}.lr"), lr)?;
            non_negative(&format!("train.optimizer.{model}.weight_decay"), weight_decay)?;
        }
        Ok(())
    }
}
