//! Estimates of the mean error over the population.

mod dr;
mod dr_v2;
mod eib;
mod ips;
mod ips_v2;
mod naive;
mod naive_treated;
mod snips;

pub use dr::dr_udaf;
pub use dr_v2::dr_v2_udaf;
pub use eib::eib_udaf;
pub use ips::ips_udaf;
pub use ips_v2::ips_v2_udaf;
pub use naive::naive_udaf;
pub use naive_treated::naive_treated_udaf;
pub use snips::snips_udaf;

use crate::args::{self, Rows};
use crate::balance::{balance_weights, squared_norm};
use crate::state::{Moments, Weighted};

/// `o·e`; an error that is not observed is not read.
fn observed_errors(rows: &Rows<'_>) -> Vec<f64> {
    args::map2(rows.treated(), rows.error(), |o, e| if o == 1.0 { e } else { 0.0 })
}

/// `o·e/p`
pub(crate) fn ips_terms(rows: &Rows<'_>) -> Vec<f64> {
    args::map3(rows.treated(), rows.propensity(), rows.error(), |o, p, e| if o == 1.0 { e / p } else { 0.0 })
}

/// `ê + o·(e − ê)/p`
pub(crate) fn dr_terms(rows: &Rows<'_>) -> Vec<f64> {
    let corrections =
        args::map3(rows.propensity(), rows.error(), rows.imputed_error(), |p, e, imputed| (e - imputed) / p);
    args::map3(rows.treated(), rows.imputed_error(), &corrections, |o, imputed, correction| {
        imputed + if o == 1.0 { correction } else { 0.0 }
    })
}

/// `loss` in front of the vectors whose mean is the imbalance.
fn regularised(rows: &Rows<'_>, loss: Vec<f64>) -> Weighted {
    Weighted { leads: vec![loss], weights: Some(balance_weights(rows)) }
}

/// Mean loss + λ · BMSE
fn regularised_value(state: &Moments, group: usize, lambda: f64) -> Option<f64> {
    let mean = state.get(group)?.mean;
    let (loss, imbalance) = mean.split_first()?;
    Some(loss + lambda * squared_norm(imbalance))
}
