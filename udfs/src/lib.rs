//! Propensity balance and counterfactual estimates as DataFusion functions.
//!
//! The aggregates follow Li, Xiao, Zheng, Wu and Cui, *Propensity Matters: Towards Achieving
//! Balance in Recommendation with Uncertain Propensities* (ICML 2023). A row is one element of
//! the population D: it was treated (`o = 1`) or not, has a learned propensity `p`, and, where it
//! was treated, a prediction error `e`. All means are over D, not over the treated rows.
//!
//! ```
//! # use datafusion::prelude::SessionContext;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> datafusion::error::Result<()> {
//! let mut ctx = SessionContext::new();
//! counterweight_udfs::register_all(&mut ctx)?;
//! let result = ctx
//!     .sql("SELECT bmse(clicked, p) FROM (VALUES (true, 0.5), (false, 0.2)) AS log (clicked, p)")
//!     .await?;
//! assert_eq!(result.collect().await?[0].num_rows(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! For DataFrames, [`expr_fn`] has a constructor for each function. Every function exists once: [`all_aggregates`],
//! [`all_scalars`] and accessors such as [`bmse_udaf`] share that instance. [`arrow`], [`datafusion_common`] and
//! [`datafusion_expr`], whose types appear in this API, are re-exported in the versions it is built on.
//!
//! # NULL and errors
//! A row with a NULL argument is skipped, as is one with a NULL cluster in its [`treatment`](expr_fn::treatment): it does not
//! count in D. One exception: `error` is not read where `treated` is 0, so it may be NULL there and the row counts. A group
//! without a row that counts gives NULL.
//!
//! A value that cannot be right stops the query with an error that names the function, the
//! argument, the value and a cure: `treated` other than 0 or 1, `propensity` outside `[0, 1]` or
//! where it would be divided by 0, NaN or infinity in φ or in an error that is read, lists of two
//! lengths in φ. Only [`propensity_profile`](expr_fn::propensity_profile) takes every row: it counts the bad ones.

#[macro_use]
mod macros;

mod args;
mod balance;
mod diagnostics;
mod docs;
mod estimators;
pub mod expr_fn;
mod inference;
mod results;
mod scalar;
mod state;
mod udaf;
mod weights;

use std::sync::Arc;

use datafusion_common::Result;
use datafusion_expr::registry::FunctionRegistry;
use datafusion_expr::{AggregateUDF, ScalarUDF};
pub use {arrow, datafusion_common, datafusion_expr};

pub use balance::shared::*;
pub use diagnostics::shared::*;
pub use estimators::shared::*;
pub use scalar::shared::*;

/// The functions of a folder, in the order of the SQL reference.
struct Functions {
    aggregates: Vec<Arc<AggregateUDF>>,
    scalars: Vec<Arc<ScalarUDF>>,
}

fn categories() -> [Functions; 4] {
    [balance::functions(), estimators::functions(), diagnostics::functions(), scalar::functions()]
}

/// All aggregate functions.
pub fn all_aggregates() -> Vec<Arc<AggregateUDF>> {
    categories().into_iter().flat_map(|category| category.aggregates).collect()
}

/// All scalar functions.
pub fn all_scalars() -> Vec<Arc<ScalarUDF>> {
    categories().into_iter().flat_map(|category| category.scalars).collect()
}

/// Registers every function of this crate, e.g. with a `SessionContext`.
pub fn register_all(registry: &mut dyn FunctionRegistry) -> Result<()> {
    for udaf in all_aggregates() {
        registry.register_udaf(udaf)?;
    }
    for udf in all_scalars() {
        registry.register_udf(udf)?;
    }
    Ok(())
}
