//! Multi-task DR (Zhang et al., WWW 2020).
//!
//! - Estimate: mean(ê + o·(e − ê)/p̂).
//! - L_e = mean(o·(ê − e)²/p̂).
//!
//! Both train all three models.

use super::{Losses, dr};

pub(super) const LOSSES: Losses = dr::LOSSES;
