//! A seeded exposure log whose truth is known: what every row's propensity and conversion probability really are.
//!
//! Users like some items more than others, and click what they like and buy what they like: the affinity of a user and
//! an item moves both the propensity and the conversion, so the mean over treated rows is biased, and inverse
//! propensity scoring with the true propensities is not. True propensities are (position apart) a logistic function of
//! biases and a product of low rank, which a matrix factorisation can learn. Beside the truth stands the `propensity`
//! of an imagined system in production, wrong in known ways, and its `prediction`.
//!
//! Other worlds are worse for a method, or take away what it mends: a placebo in which conversion has nothing to do with
//! treatment, users whose treatments go together, and something unseen that moves both treatment and conversion.
//!
//! Rows come in chunks, each from a random stream of its own: the result depends on the settings alone, not on how
//! many threads made it.

mod chunk;
mod columns;
mod moods;
mod tally;
#[cfg(test)]
mod tests;
mod world;
mod write;

use crate::error::{Result, invalid};
use crate::job::Shape;

pub use chunk::{Sample, Simulator};
pub use tally::{Estimates, Tally};
pub use write::{Destination, simulate};

/// Settings of a simulation.
#[derive(Debug, Clone, PartialEq)]
pub struct Simulation {
    /// Exposures in the log; at least 1. Log shape only: a matrix has a row for each treated pair.
    pub rows: u64,
    /// Users, with identities from 0; at least 1.
    pub users: u32,
    /// Items, with identities from 0; at least 1.
    pub items: u32,
    /// Seeds every random choice.
    pub seed: u64,
    /// What a row is.
    pub shape: Shape,
    /// K: the length of φ, and of the factors that users and items have; at least 1.
    pub dim: usize,
    /// Mean of the true propensities; strictly between 0 and 1.
    pub treated_rate: f64,
    /// Mean of the true conversion probabilities over the population; strictly between 0 and 1.
    pub conversion_rate: f64,
    /// How wrong the column `propensity` is: 0 is the truth, 1 ignores the affinity altogether, is too timid, and is
    /// far too low in some segments and on one device.
    pub miscalibration: f64,
    /// Segments of users; at least 1. `propensity` is far too low in the tenth of each ten, or in the last where there
    /// are fewer.
    pub segments: u32,
    /// Rows of the uniform sample; 20 a user by default.
    pub uniform_rows: Option<u64>,
    /// Whether conversion has nothing to do with treatment: it then follows tastes, intents and qualities of its own, of
    /// the same law. There is nothing to debias.
    pub placebo: bool,
    /// ρ: the correlation, given the true propensities, of the treatments of two rows of a user, Cov(o, o′) over
    /// √(p(1 − p)·p′(1 − p′)), each averaged over pairs of rows. At least 0, where treatments are independent, and below 1.
    ///
    /// Each row is still treated with its true propensity. A user has one mood for the whole log, a part of the normal
    /// score by which each of its rows is treated or not (a Gaussian copula). Outcomes do not depend on it.
    pub user_correlation: f64,
    /// By how much something that no column holds, and no model sees, raises the log odds of treatment in one half of
    /// the rows, drawn at random, and lowers them in the other half; of conversion, too, unless [`Self::placebo`]. At
    /// least 0.
    ///
    /// The columns `true_propensity` and `true_conversion` are of the row with it, and so IPS by the former is unbiased;
    /// `propensity` is of the mean over both halves.
    pub unseen: f64,
}

impl Default for Simulation {
    fn default() -> Self {
        Self {
            rows: 400_000,
            users: 2_000,
            items: 500,
            seed: 0,
            shape: Shape::Log,
            dim: 16,
            treated_rate: 0.15,
            conversion_rate: 0.2,
            miscalibration: 1.0,
            segments: 20,
            uniform_rows: None,
            placebo: false,
            user_correlation: 0.0,
            unseen: 0.0,
        }
    }
}

impl Simulation {
    /// Elements of the population D: exposures, or pairs of user and item.
    pub fn population(&self) -> u64 {
        match self.shape {
            Shape::Log => self.rows,
            Shape::Matrix => u64::from(self.users) * u64::from(self.items),
        }
    }

    /// Rows of the uniform sample.
    pub fn uniform_rows(&self) -> u64 {
        self.uniform_rows.unwrap_or(20 * u64::from(self.users))
    }

    /// Refuses settings that describe no data, naming the one at fault.
    pub fn validate(&self) -> Result<()> {
        let counts = [
            ("rows", self.rows),
            ("users", self.users.into()),
            ("items", self.items.into()),
            ("dim", self.dim as u64),
            ("segments", self.segments.into()),
            ("uniform-rows", self.uniform_rows()),
        ];
        for (name, count) in counts {
            if count == 0 {
                invalid!("{name} = 0: give at least 1");
            }
        }
        if self.dim > MAX_DIM {
            invalid!("dim = {}: give at most {MAX_DIM}", self.dim);
        }
        for (name, rate) in [("treated-rate", self.treated_rate), ("conversion-rate", self.conversion_rate)] {
            if !(rate > 0.0 && rate < 1.0) {
                invalid!("{name} = {rate}: give a number strictly between 0 and 1");
            }
        }
        if !(self.miscalibration.is_finite() && self.miscalibration >= 0.0) {
            invalid!("miscalibration = {}: give 0 (the truth) or more", self.miscalibration);
        }
        if !(0.0..1.0).contains(&self.user_correlation) {
            invalid!("user-correlation = {}: give a number from 0 (none) to below 1", self.user_correlation);
        }
        if !(self.unseen.is_finite() && self.unseen >= 0.0) {
            invalid!("unseen = {}: give 0 (nothing) or more, in log odds", self.unseen);
        }
        Ok(())
    }

    /// Bounds of every propensity: 0.01 and 0.99, or nearer to 0 or 1 where the treated rate itself is near.
    pub fn propensity_bounds(&self) -> (f64, f64) {
        (0.01_f64.min(self.treated_rate / 4.0), 0.99_f64.max(1.0 - (1.0 - self.treated_rate) / 4.0))
    }

    /// Whether `propensity` is far too low in that segment.
    pub fn is_off(&self, segment: u32) -> bool {
        self.segments > 1 && segment % 10 == 9.min(self.segments - 1)
    }
}

const MAX_DIM: usize = 4096;
