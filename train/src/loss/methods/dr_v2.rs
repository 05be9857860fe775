//! DR with balancing propensities, DR-V2 (Li et al., ICML 2023).
//!
//! - Estimate: mean(ê + o·(e − ê)/p̂).
//! - L_e = mean(o·(ê − e)²/p̂).
//!
//! Both train all three models. λ·BMSE is added; it trains the propensity model.

use super::{Losses, dr};

pub(super) const LOSSES: Losses = dr::LOSSES;
