//! How well the propensities predict the treatment, and what the weights cost in precision.

mod auc;
mod calibration;
mod calibration_curve;
mod ece;
mod ess;
mod mis;
mod nll;
mod ppl;
mod propensity_profile;
mod sv;

use datafusion_expr::DocSection;

use crate::args::{self, Rows};

const SECTION: DocSection = DocSection {
    include: true,
    label: "Diagnostic Functions",
    description: Some("How well the propensities predict who is treated, and what their weights cost in precision."),
};

functions! {
    aggregates {
        ess::{ess, ess_udaf},
        propensity_profile::{propensity_profile, propensity_profile_udaf},
        nll::{nll, nll_udaf},
        ppl::{ppl, ppl_udaf},
        auc::{auc, auc_udaf},
        ece::{ece, ece_udaf},
        calibration_curve::{calibration_curve, calibration_curve_udaf},
        sv::{sv, sv_udaf},
        mis::{mis, mis_udaf},
    }
    scalars {}
}

/// `−ln` of the probability of what happened to each row.
fn surprises(rows: &Rows<'_>) -> Vec<f64> {
    args::map2(rows.treated(), rows.propensity(), |o, p| -if o == 1.0 { p.ln() } else { (-p).ln_1p() })
}
