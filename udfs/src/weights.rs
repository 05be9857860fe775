//! The weights of a row, as the paper prints them.

/// `o / p`: inverse propensity weight.
pub(crate) fn inverse_propensity(o: f64, p: f64) -> f64 {
    if o == 1.0 { 1.0 / p } else { 0.0 }
}

/// `o / p − (1 − o) / (1 − p)`: balance weight.
pub(crate) fn balance(o: f64, p: f64) -> f64 {
    1.0 / if o == 1.0 { p } else { p - 1.0 }
}

/// `o(1−p) / p²`: weight of the imputation loss in MRDR.
pub(crate) fn imputation(o: f64, p: f64) -> f64 {
    if o == 1.0 { (1.0 - p) / (p * p) } else { 0.0 }
}
