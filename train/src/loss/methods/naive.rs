//! The models are fitted to the observed outcomes, without a propensity (Koren et al., *Computer* 2009).
//!
//! Estimate: Σ o·e / Σ o. It trains the prediction.

use tch::{Kind, Tensor};

use super::{Estimate, Losses, Observed};

pub(super) const LOSSES: Losses = Losses::Plain { estimate: Estimate::Ratio(estimate) };

/// Σ o·e / Σ o; 0 without a treated pair.
pub(in crate::loss) fn estimate(&Observed { treated, error, .. }: &Observed) -> Tensor {
    (treated * error).sum(None::<Kind>) / treated.sum(None::<Kind>).clamp_min(1.0)
}
