//! What functions keep at most.

/// The most elements of φ that `imbalance_bias` takes: `/*bias_elements*/`.
pub(super) const BIAS_ELEMENTS: i64 = 63;

/// The most elements of φ whose covariances `lambda_opt` keeps: `/*lambda_elements*/`.
pub(super) const LAMBDA_ELEMENTS: i64 = 62;

/// The most elements of φ whose covariances `bmse_change` keeps: `/*change_elements*/`.
pub(super) const CHANGE_ELEMENTS: i64 = 32;
