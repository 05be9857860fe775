//! Balance of treated and untreated rows under the propensity weights.

mod bmse;
mod bmse_noise_floor;
mod bmse_unbiased;

pub use bmse::bmse_udaf;
pub use bmse_noise_floor::bmse_noise_floor_udaf;
pub use bmse_unbiased::bmse_unbiased_udaf;

use crate::args::Rows;
use crate::state::Weighted;
use crate::{args, weights};

/// The vectors `w · φ`, with w the balance weight.
pub(crate) fn imbalance(rows: &Rows<'_>) -> Weighted {
    Weighted { lead: None, weights: balance_weights(rows) }
}

pub(crate) fn balance_weights(rows: &Rows<'_>) -> Vec<f64> {
    args::map2(rows.treated(), rows.propensity(), weights::balance)
}

/// Squared length of a vector.
pub(crate) fn squared_norm(vector: &[f64]) -> f64 {
    vector.iter().map(|x| x * x).sum()
}
