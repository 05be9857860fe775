//! The record of how a model was trained.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::divergence::Divergence;
use super::metrics::{Metrics, RankedUsers};
use crate::job::Split;

/// How training went.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TrainingRecord {
    /// Where.
    pub device: String,
    /// Why it ended.
    pub stop: Stop,
    /// The models whose mean score is that of these weights; a single one where no more were asked for.
    pub members: Vec<MemberRecord>,
    /// Of these weights, on the validation rows.
    pub validation: Metrics,
    /// Of these weights, on the test rows.
    pub test: Option<Metrics>,
    /// The users that Recall@K and NDCG@K are means over, by split.
    #[serde(default)]
    pub ranked: BTreeMap<Split, RankedUsers>,
}

/// How the training of a member of the ensemble went.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MemberRecord {
    /// The epoch whose weights it has.
    pub best_epoch: usize,
    /// Every epoch.
    pub history: Vec<EpochRecord>,
}

impl TrainingRecord {
    /// Every epoch of every member.
    pub fn epochs(&self) -> impl Iterator<Item = &EpochRecord> {
        self.members.iter().flat_map(|member| &member.history)
    }
}

/// What one epoch did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// From 1.
    pub epoch: usize,
    /// How long its steps and its evaluation took.
    pub seconds: f64,
    /// Mean over the steps of each unweighted term, and of the `total`.
    pub losses: BTreeMap<String, f64>,
    /// Mean over the steps of the norm of each model's gradient.
    #[serde(default)]
    pub gradient_norms: BTreeMap<String, f64>,
    /// λ: the weight of the regularizer.
    #[serde(default)]
    pub lambda: f64,
    /// What the steps say of the best λ of an estimate that weighs 1, where λ is to be the optimum.
    pub optimum: Option<Optimum>,
    /// What the seconds were spent on, where that was asked for.
    #[serde(default)]
    pub timing: Option<Timing>,
    /// On the validation rows.
    pub validation: Metrics,
}

/// Why training ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum Stop {
    /// All epochs are done.
    Epochs,
    /// The validation metric did not improve for as long as the patience.
    Patience,
    /// Somebody asked.
    Interrupted {
        /// The epoch under way.
        epoch: usize,
    },
    /// A loss or a gradient was not finite.
    Diverged(Divergence),
}

impl Stop {
    /// Whether training did all it was to do.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Epochs | Self::Patience)
    }
}

/// Seconds of an epoch, by what they were spent on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Making batches, or waiting for those that another thread makes.
    pub data: f64,
    /// Scores and the loss.
    pub forward: f64,
    /// Gradients, and the check that they are finite.
    pub backward: f64,
    /// Adam.
    pub optimizer: f64,
    /// Metrics on the validation rows, BMSE of the population, and the copy of models that are the best so far.
    pub evaluation: f64,
}

impl Timing {
    /// Each part with its name.
    pub fn parts(&self) -> [(&'static str, f64); 5] {
        let Self { data, forward, backward, optimizer, evaluation } = *self;
        [
            ("data", data),
            ("forward", forward),
            ("backward", backward),
            ("optimizer", optimizer),
            ("evaluation", evaluation),
        ]
    }
}

/// The λ of theorem 4.2.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Optimum {
    /// λ, in units of the loss over φ's unit squared. Negative where loss and imbalance rise together.
    pub lambda: f64,
    /// ρ, the correlation of L and BMSE over batches: with BMSE weighted by λ, the loss has 1 − ρ² times its variance.
    pub correlation: f64,
}
