//! What the weights cost in precision.

mod ess;

pub use ess::ess_udaf;
