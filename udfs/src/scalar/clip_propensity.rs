use datafusion_common::Result;
use datafusion_expr::Expr;

use super::{RowFunction, RowUdf};

scalar! {
    /// The propensity, moved into the range from `low` to `high`: it bounds the weights by `1/low` and `1/(1-high)`, at
    /// the price of some bias.
    ///
    /// # Details
    /// Bounds outside `0 ≤ low ≤ high ≤ 1` and a NaN propensity are errors. NULL if an argument is.
    clip_propensity(propensity: Expr, low: Expr, high: Expr), clip_propensity_udf: RowUdf<ClipPropensity, 3>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ClipPropensity;

impl RowFunction<3> for ClipPropensity {
    const NAME: &'static str = "clip_propensity";
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
