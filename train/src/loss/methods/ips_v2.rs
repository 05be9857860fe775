//! IPS with balancing propensities, IPS-V2 (Li et al., ICML 2023).
//!
//! Estimate: mean(o·e/p̂). It trains the prediction and the propensity model, as λ·BMSE does, which is added.

use super::{Losses, ips};

pub(super) const LOSSES: Losses = ips::LOSSES;
