//! `[train]`: what to train, on what.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    CheckpointSpec, DataSpec, EvaluationSpec, HeadKind, LossSpec, ModelSpec, OptimizerSpec, Phi, PropensitySpec,
};
use crate::error::{Result, invalid};

/// What to train, on what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TrainSpec {
    /// Settings to start from; keys given here win over the preset's.
    #[schemars(extend("enum" = crate::job::load::PRESETS.map(|(name, _)| name)))]
    pub preset: Option<String>,
    /// Queries that give the data sets, with the columns that `[columns]` names.
    pub data: DataSpec,
    /// The models of propensity, prediction and imputation.
    #[serde(default)]
    pub model: ModelSpec,
    /// Where the p̂ of the estimate and of L_e comes from.
    #[serde(default)]
    pub propensity: PropensitySpec,
    /// An estimate of the ideal loss, what is trained beside it, and a regularizer, each with its weight.
    pub loss: LossSpec,
    /// Adam, with rates of its own for each model.
    #[serde(default)]
    pub optimizer: OptimizerSpec,
    /// What the matrix products of a step are taken in.
    #[serde(default)]
    pub precision: Precision,
    /// How models are evaluated, and when training stops.
    #[serde(default)]
    pub evaluation: EvaluationSpec,
    /// What an unfinished run keeps, in the folder `resume/` of the model folder, for another to resume from.
    #[serde(default)]
    pub checkpoint: CheckpointSpec,
    /// Whether the seconds of an epoch are recorded by what they were spent on. A GPU waits at every part of a step then.
    #[serde(default)]
    pub timing: bool,
    /// URL of the model folder.
    pub output: String,
}

/// What the matrix products of a step are taken in: those of a block's embeddings and of an MLP's hidden layers, forward
/// and backward.
///
/// Weights and their gradients, losses, sums and Adam are float32 whichever it is, and so are evaluation and scoring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// float32.
    #[default]
    Float32,
    /// bfloat16, which has the range of float32, and 8 bits of precision: the factors are rounded to it, and so is the
    /// product. The last layer of an MLP, which multiplies a matrix by a vector, is taken in float32.
    Bfloat16,
}

impl TrainSpec {
    pub(in crate::job) fn validate(&self) -> Result<()> {
        let Self { model, loss, optimizer, evaluation, .. } = self;
        model.validate()?;
        optimizer.validate()?;
        evaluation.validate()?;
        loss.validate()?;
        if loss.phi == Phi::Learned && model.head == HeadKind::Dot {
            invalid!(
                "train.loss.phi = \"learned\": φ is then the last hidden layer of the propensity model, and \
                 train.model.head = \"dot\" has none; set train.model.head = \"mlp\", or another phi"
            );
        }
        self.validate_propensity()
    }
}
