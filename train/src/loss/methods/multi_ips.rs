//! Multi-task IPS, Multi-IPW (Zhang et al., WWW 2020).
//!
//! Estimate: mean(o·e/p̂). It trains the prediction and the propensity model.

use super::{Losses, ips};

pub(super) const LOSSES: Losses = ips::LOSSES;
