use std::sync::Arc;

use datafusion_common::Result;
use datafusion_expr::ScalarUDF;

use super::{RowFunction, udf};

/// `propensity`, moved into `[low, high]`.
///
/// `clip_propensity(propensity, low, high)`: bounds the weights by `1/low` and `1/(1−high)`, for
/// some bias. Bounds must satisfy `0 ≤ low ≤ high ≤ 1`; a NaN propensity is an error. NULL if an
/// argument is.
pub fn clip_propensity_udf() -> Arc<ScalarUDF> {
    udf::<3, ClipPropensity>()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ClipPropensity;

impl RowFunction<3> for ClipPropensity {
    const NAME: &'static str = "clip_propensity";
    const DESCRIPTION: &'static str = "The propensity, moved into the range from `low` to `high`: it bounds the \
        weights by `1/low` and `1/(1-high)`, at the price of some bias.";
    const EXAMPLE: &'static str = "> SELECT clip_propensity(0.001, 0.01, 0.99) AS p;
+------+
| p    |
+------+
| 0.01 |
+------+";
    const PARAMETERS: [(&'static str, &'static str); 3] = [
        ("propensity", "The learned propensity."),
        ("low", "The lower bound, from 0 to 1."),
        ("high", "The upper bound, from `low` to 1."),
    ];

    fn value([propensity, low, high]: [f64; 3]) -> Result<f64> {
        if !(0.0..=1.0).contains(&low) {
            return Err(Self::error(1, low, "it must be from 0 to 1"));
        }
        if !(low..=1.0).contains(&high) {
            return Err(Self::error(2, high, "it must be from low to 1"));
        }
        if propensity.is_nan() {
            return Err(Self::error(0, propensity, "it must be a probability"));
        }
        Ok(propensity.clamp(low, high))
    }
}
