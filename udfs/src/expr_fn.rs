//! Calls of the functions as expressions, for DataFrames: one constructor for each function, with the same name and
//! arguments as in SQL.
//!
//! ```
//! # use datafusion::common::Result;
//! # use datafusion::functions_aggregate::expr_fn::count;
//! # use datafusion::prelude::*;
//! use counterweight_udfs::expr_fn::{bmse, ece, snips_interval};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<()> {
//! # let ctx = SessionContext::new();
//! # let log = ctx.sql("SELECT * FROM (VALUES (1, true, 0.5, 0.1), (2, false, 0.2, NULL)) AS log (day, o, p, e)").await?;
//! let audit = log.aggregate(
//!     vec![col("day")],
//!     vec![
//!         bmse(col("o"), col("p"), vec![]).alias("bmse"),
//!         ece(col("o"), col("p"), None, Some(lit("mass"))).alias("ece"),
//!         snips_interval(col("o"), col("p"), col("e"), Some(lit(0.9))).filter(col("p").gt(lit(0.01))).build()?,
//!     ],
//! )?;
//! # assert_eq!(audit.count().await?, 2);
//! # Ok(())
//! # }
//! ```
//!
//! # Arguments
//! Columns, and literals where a function wants an argument that is the same for every row:
//! - `treated` (o): a boolean, or a number that is 0 or 1, or what [`treatment`] gives of it and of the clusters that the row
//!   belongs to;
//! - `propensity` (p), `propensity_before`: the learned probability of treatment, from 0 to 1;
//! - `error` (e): the prediction error, which is read on treated rows only; `imputed_error` (ê): a guess of it on every
//!   row;
//! - `phi` (φ), `covariate`: any number of numeric columns, or one column of lists of numbers. With an empty `phi`, φ is
//!   1; `covariate` needs at least one column;
//! - an `Option`: `None` stands for the argument's default.
//!
//! The SQL reference describes every argument of every function; for NULLs and bad values, see
//! [the crate](crate#null-and-errors).

use std::sync::Arc;

use datafusion_common::ScalarValue;
use datafusion_expr::expr::{AggregateFunction, ScalarFunction};
use datafusion_expr::{AggregateUDF, Expr, ScalarUDF, lit};

use crate::args::Spec;
pub use crate::balance::expr_fn::*;
pub use crate::diagnostics::expr_fn::*;
pub use crate::estimators::expr_fn::*;
pub use crate::scalar::expr_fn::*;

/// What a constructor takes in one place: arguments, or `None` for one that is left out.
pub(crate) trait Argument {
    fn add_to(self, arguments: &mut Vec<Option<Expr>>);
}

impl Argument for Expr {
    fn add_to(self, arguments: &mut Vec<Option<Expr>>) {
        arguments.push(Some(self));
    }
}

impl Argument for Option<Expr> {
    fn add_to(self, arguments: &mut Vec<Option<Expr>>) {
        arguments.push(self);
    }
}

impl Argument for Vec<Expr> {
    fn add_to(self, arguments: &mut Vec<Option<Expr>>) {
        arguments.extend(self.into_iter().map(Some));
    }
}

/// The call of an aggregate; an argument that is left out in front of others is given its default.
pub(crate) fn aggregate(function: Arc<AggregateUDF>, spec: &Spec, mut arguments: Vec<Option<Expr>>) -> Expr {
    while arguments.pop_if(|last| last.is_none()).is_some() {}
    let given =
        |(place, argument): (usize, Option<Expr>)| argument.unwrap_or_else(|| lit(spec.roles[place].default_value()));
    let arguments = arguments.into_iter().enumerate().map(given).collect();
    Expr::AggregateFunction(AggregateFunction::new_udf(function, arguments, false, None, vec![], None))
}

/// The call of a function; an argument that is left out in front of others is NULL.
pub(crate) fn scalar(function: Arc<ScalarUDF>, mut arguments: Vec<Option<Expr>>) -> Expr {
    while arguments.pop_if(|last| last.is_none()).is_some() {}
    let arguments = arguments.into_iter().map(|argument| argument.unwrap_or_else(|| lit(ScalarValue::Null))).collect();
    Expr::ScalarFunction(ScalarFunction::new_udf(function, arguments))
}
