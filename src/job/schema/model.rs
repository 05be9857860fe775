//! `[train.model]`: what users and items are to the models, and how a pair is scored.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Result, invalid};
use crate::job::validate::positive;

/// The models of propensity, prediction and imputation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ModelSpec {
    /// What users and items are to a model.
    pub kind: ModelKind,
    /// Length K of the user and item embeddings.
    #[schemars(range(min = 1))]
    pub dim: usize,
    /// Whether the models share them.
    pub embeddings: Embeddings,
    /// How the embeddings of a user and an item become a score.
    pub head: HeadKind,
    /// Widths of the hidden layers, from the embeddings to the score. Of an `mlp` head.
    #[schemars(inner(range(min = 1)))]
    pub hidden: Vec<usize>,
    /// How many of each are trained, one after the other, from other initial weights and in another order: the mean of
    /// their scores is the score. Of a `dot` head.
    #[schemars(range(min = 1))]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ModelKind {
    /// Embeddings u and v and biases b_u and b_i: a pair scores what the head makes of u and v, plus b_u + b_i.
    MatrixFactorization,
}

/// Whether the models of propensity, prediction and imputation have embeddings in common.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    pub(super) fn validate(&self) -> Result<()> {
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
