//! Balance of treated and untreated rows under the propensity weights.

mod alarm_days;
mod alarm_directions;
mod alarm_fold;
mod alarm_state;
mod balance_alarm;
mod balance_drift;
mod balance_merge;
mod balance_state;
mod balance_test;
mod balance_test_of;
mod balance_vector;
mod balance_vector_of;
mod balance_verdict;
mod bias;
mod bmse;
mod bmse_change;
mod bmse_noise_floor;
mod bmse_of;
mod bmse_unbiased;
mod covariates;
mod effect;
mod imbalance;
mod imbalance_bias;
mod imbalance_bias_dr;
mod imbalance_both;
mod ks;
mod of_state;
mod smd;
mod stored;
mod variance_ratio;
mod wald;

use datafusion_expr::DocSection;

use crate::args::Rows;
use crate::state::{ImbalanceTerms, Weighted};
use crate::{args, weights};

const SECTION: DocSection = DocSection {
    include: true,
    label: "Balance Functions",
    description: Some("How far the propensity weights are from making treated and untreated rows alike."),
};

functions! {
    aggregates {
        bmse::{bmse, bmse_udaf},
        bmse_unbiased::{bmse_unbiased, bmse_unbiased_udaf},
        bmse_noise_floor::{bmse_noise_floor, bmse_noise_floor_udaf},
        balance_vector::{balance_vector, balance_vector_udaf},
        balance_test::{balance_test, balance_test_udaf},
        balance_state::{balance_state, balance_state_udaf},
        balance_merge::{balance_merge, balance_merge_udaf},
        bmse_change::{bmse_change, bmse_change_udaf},
        imbalance::{imbalance, imbalance_udaf},
        imbalance_both::{imbalance_both, imbalance_both_udaf},
        imbalance_bias::{imbalance_bias, imbalance_bias_udaf},
        imbalance_bias_dr::{imbalance_bias_dr, imbalance_bias_dr_udaf},
        alarm_directions::{alarm_directions, alarm_directions_udaf},
        alarm_state::{alarm_state, alarm_state_udaf},
        balance_alarm::{balance_alarm, balance_alarm_udaf},
        smd::{smd, smd_udaf},
        variance_ratio::{variance_ratio, variance_ratio_udaf},
        ks::{ks, ks_udaf},
    }
    scalars {
        bmse_of::{bmse_of, bmse_of_udf},
        balance_vector_of::{balance_vector_of, balance_vector_of_udf},
        balance_test_of::{balance_test_of, balance_test_of_udf},
        balance_drift::{balance_drift, balance_drift_udf},
        balance_verdict::{balance_verdict, balance_verdict_udf},
    }
}

/// The vectors `w · φ`, with w the balance weight.
fn weighted_phi(rows: &Rows<'_>) -> Weighted {
    Weighted::phi(balance_weights(rows))
}

/// The vectors `w · φ`, and what their moments are under true propensities.
fn imbalance_terms(rows: &Rows<'_>) -> ImbalanceTerms {
    let squares = args::map2(rows.treated(), rows.propensity(), weights::expected_square);
    let fourth = squares.iter().map(|square| square * square * (square - 6.0)).collect();
    ImbalanceTerms {
        imbalance: weighted_phi(rows),
        phi: Weighted::phi(vec![1.0; rows.len()]),
        weights: [squares, balance_weights(rows), fourth],
    }
}

/// The balance weight of each row.
pub(crate) fn balance_weights(rows: &Rows<'_>) -> Vec<f64> {
    args::map2(rows.treated(), rows.propensity(), weights::balance)
}

/// What chance alone adds to the squared length of a mean of `count` vectors; `spread` is Σ‖x − mean‖².
fn noise_floor(count: u64, spread: f64) -> Option<f64> {
    let n = count as f64;
    (count > 1).then(|| spread / (n * n))
}

/// The unbiased estimate of the squared length of the true mean.
fn unbiased(count: u64, mean: &[f64], spread: f64) -> Option<f64> {
    let n = count as f64;
    (count > 1).then(|| squared_norm(mean) - spread / (n * (n - 1.0)))
}

/// Squared length of a vector.
pub(crate) fn squared_norm(vector: &[f64]) -> f64 {
    vector.iter().map(|x| x * x).sum()
}
