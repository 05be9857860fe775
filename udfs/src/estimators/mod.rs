//! Estimates of the mean error over the population.

mod dr;
mod dr_os;
mod dr_v2;
mod dr_variance;
mod eib;
mod estimator;
mod interval;
mod ips;
mod ips_clipped;
mod ips_v2;
mod ips_variance;
mod lambda_opt;
mod lambda_opt_dr;
mod naive;
mod naive_treated;
mod optimum;
mod snips;
mod snips_dr;
mod switch_dr;

use datafusion_expr::DocSection;

use crate::args::{self, Rows};
use crate::balance::{balance_weights, squared_norm};
use crate::state::{Moments, Sums, Weighted};
use crate::weights;

const SECTION: DocSection = DocSection {
    include: true,
    label: "Estimator Functions",
    description: Some("Estimates of the mean prediction error over the whole population, from treated rows."),
};

functions! {
    aggregates {
        naive::{naive, naive_udaf},
        naive_treated::{naive_treated, naive_treated_udaf},
        eib::{eib, eib_udaf},
        ips::{ips, ips_udaf},
        snips::{snips, snips_udaf},
        dr::{dr, dr_udaf},
        snips_dr::{snips_dr, snips_dr_udaf},
        ips_clipped::{ips_clipped, ips_clipped_udaf},
        switch_dr::{switch_dr, switch_dr_udaf},
        dr_os::{dr_os, dr_os_udaf},
        ips_v2::{ips_v2, ips_v2_udaf},
        dr_v2::{dr_v2, dr_v2_udaf},
        naive::{naive_interval, naive_interval_udaf},
        naive_treated::{naive_treated_interval, naive_treated_interval_udaf},
        eib::{eib_interval, eib_interval_udaf},
        ips::{ips_interval, ips_interval_udaf},
        snips::{snips_interval, snips_interval_udaf},
        dr::{dr_interval, dr_interval_udaf},
        snips_dr::{snips_dr_interval, snips_dr_interval_udaf},
        ips_clipped::{ips_clipped_interval, ips_clipped_interval_udaf},
        switch_dr::{switch_dr_interval, switch_dr_interval_udaf},
        dr_os::{dr_os_interval, dr_os_interval_udaf},
        ips_variance::{ips_variance, ips_variance_udaf},
        dr_variance::{dr_variance, dr_variance_udaf},
        lambda_opt::{lambda_opt, lambda_opt_udaf},
        lambda_opt_dr::{lambda_opt_dr, lambda_opt_dr_udaf},
    }
    scalars {}
}

/// `o/p`
fn inverse_propensity_weights(rows: &Rows<'_>) -> Vec<f64> {
    args::map2(rows.treated(), rows.propensity(), weights::inverse_propensity)
}

/// `e − ê`
fn residuals(rows: &Rows<'_>) -> Vec<f64> {
    args::map2(rows.error(), rows.imputed_error(), |e, imputed| e - imputed)
}

/// `w·x`; an x that is not observed is not read.
fn weigh(rows: &Rows<'_>, weights: &[f64], x: &[f64]) -> Vec<f64> {
    args::map3(rows.treated(), weights, x, |o, w, x| if o == 1.0 { w * x } else { 0.0 })
}

/// `w·(e − ê)`
fn corrections(rows: &Rows<'_>, weights: &[f64]) -> Vec<f64> {
    weigh(rows, weights, &residuals(rows))
}

/// The weights, and `w·e`.
fn weighted_errors(rows: &Rows<'_>, weights: Vec<f64>) -> [Vec<f64>; 2] {
    let terms = weigh(rows, &weights, rows.error());
    [weights, terms]
}

/// The weights, and `ê + w·(e − ê)`.
fn doubly_robust(rows: &Rows<'_>, weights: Vec<f64>) -> [Vec<f64>; 2] {
    let corrections = corrections(rows, &weights);
    let terms = args::map2(rows.imputed_error(), &corrections, |imputed, correction| imputed + correction);
    [weights, terms]
}

/// `o·e/p`
fn ips_terms(rows: &Rows<'_>) -> Vec<f64> {
    weigh(rows, &inverse_propensity_weights(rows), rows.error())
}

/// `ê + o·(e − ê)/p`
fn dr_terms(rows: &Rows<'_>) -> Vec<f64> {
    let [_, terms] = doubly_robust(rows, inverse_propensity_weights(rows));
    terms
}

/// `o(1−p)x²/p²`
fn treatment_variances(rows: &Rows<'_>, x: &[f64]) -> Vec<f64> {
    let variance = |o, p, x| if o == 1.0 { weights::imputation(o, p) * x * x } else { 0.0 };
    args::map3(rows.treated(), rows.propensity(), x, variance)
}

/// The variance of a mean over the rows, of independent terms with the variances that are summed.
fn mean_variance(state: &Sums, group: usize) -> Option<f64> {
    state.get(group).map(|(variances, rows)| variances / rows / rows)
}

/// `loss` in front of the vectors whose mean is the imbalance.
fn regularised(rows: &Rows<'_>, loss: Vec<f64>) -> Weighted {
    Weighted { leads: vec![loss], weights: vec![balance_weights(rows)] }
}

/// Mean loss + λ · BMSE
fn regularised_value(state: &Moments, group: usize, lambda: f64) -> Option<f64> {
    let mean = state.get(group)?.mean;
    let (loss, imbalance) = mean.split_first()?;
    Some(loss + lambda * squared_norm(imbalance))
}
