//! What the verdicts of checks compare figures with.

/// A p-value or q-value below this is not taken for chance. The SQL of the checks counts what is out of balance by it:
/// `/*significance*/`.
pub(super) const SIGNIFICANCE: f64 = 0.01;

/// An effective sample below this share of the treated rows is dominated by few of them.
pub(super) const POOR_SAMPLE: f64 = 0.1;

/// The most elements of φ whose covariances `lambda_opt` keeps: `/*lambda_elements*/`.
pub(super) const LAMBDA_ELEMENTS: i64 = 62;

/// The most elements of φ whose covariances `bmse_change` keeps: `/*change_elements*/`.
pub(super) const CHANGE_ELEMENTS: i64 = 32;
