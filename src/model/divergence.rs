//! Training that breaks: which quantity stopped being a finite number, at which step, and why it likely did.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// A number that every step gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quantity {
    /// A term of the loss, before it is weighted, or the `total`.
    Term(String),
    /// The Euclidean norm of the gradient of a model, over the embeddings and biases of the step's batch and its head.
    Gradient(String),
}

/// Where training broke.
///
/// On a CPU the weights are those from before the step. A GPU is asked every 64 steps, and has gone on in between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Divergence {
    /// From 1.
    pub epoch: usize,
    /// The step in it, from 1.
    pub step: usize,
    /// The first quantity that was not finite: a gradient is named where every term was.
    #[serde(flatten)]
    pub quantity: Quantity,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { epoch, step, quantity } = self;
        write!(f, "training diverged: at epoch {epoch}, step {step}, ")?;
        match quantity {
            Quantity::Term(term) => write!(f, "the {term} loss is not a finite number: ")?,
            Quantity::Gradient(model) => write!(f, "the gradient of the {model} model is not a finite number: ")?,
        }
        match quantity {
            Quantity::Term(term) if term == "propensity" => {
                write!(f, "scores of the propensity model overflow; lower train.optimizer.propensity.lr")
            }
            Quantity::Term(term) if term == "ctcvr" => {
                write!(f, "scores of the prediction model overflow; lower train.optimizer.prediction.lr")
            }
            Quantity::Term(_) => write!(
                f,
                "a propensity next to 0 or 1 divides, or scores overflow; raise train.loss.propensity_clip, or lower \
                 train.optimizer.*.lr"
            ),
            Quantity::Gradient(model) => write!(
                f,
                "a propensity next to 0 or 1 divides, and steeply; raise train.loss.propensity_clip, set \
                 train.loss.stop_gradient = true, or lower train.optimizer.{model}.lr"
            ),
        }
    }
}

impl From<Divergence> for Error {
    fn from(divergence: Divergence) -> Self {
        Self::Diverged(divergence.to_string())
    }
}
