use datafusion_common::Result;
use datafusion_expr::Expr;

use super::{RowFunction, RowUdf};

scalar! {
    /// The squared error `(prediction - outcome)^2` of a row, an `error` for the estimators.
    ///
    /// NULL where the outcome is not known.
    ///
    /// # Details
    /// In the unit of the outcome, squared. NULL if an argument is.
    squared_error(prediction: Expr, outcome: Expr), squared_error_udf: RowUdf<SquaredError, 2>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SquaredError;

impl RowFunction<2> for SquaredError {
    const NAME: &'static str = "squared_error";
    const EXAMPLE: &'static str = "> SELECT squared_error(0.75, 1) AS error;
+--------+
| error  |
+--------+
| 0.0625 |
+--------+";
    const PARAMETERS: [(&'static str, &'static str); 2] = [
        ("prediction", "The predicted outcome."),
        ("outcome", "The observed outcome, a number or a boolean; NULL where it is not known."),
    ];

    fn value([prediction, outcome]: [f64; 2]) -> Result<f64> {
        Ok((prediction - outcome) * (prediction - outcome))
    }
}
