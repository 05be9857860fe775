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

pub use auc::auc_udaf;
pub use calibration_curve::calibration_curve_udaf;
pub use ece::ece_udaf;
pub use ess::ess_udaf;
pub use mis::mis_udaf;
pub use nll::nll_udaf;
pub use ppl::ppl_udaf;
pub use propensity_profile::propensity_profile_udaf;
pub use sv::sv_udaf;

use crate::args::{self, Rows};

/// `−ln` of the probability of what happened to each row.
fn surprises(rows: &Rows<'_>) -> Vec<f64> {
    args::map2(rows.treated(), rows.propensity(), |o, p| -if o == 1.0 { p.ln() } else { (-p).ln_1p() })
}
