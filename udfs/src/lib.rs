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
//! # NULL and errors
//! A row with a NULL argument is skipped: it does not count in D. One exception: `error` is not
//! read where `treated` is 0, so it may be NULL there and the row counts. A group without a row
//! that counts gives NULL.
//!
//! A value that cannot be right stops the query with an error that names the function, the
//! argument, the value and a cure: `treated` other than 0 or 1, `propensity` outside `[0, 1]` or
//! where it would be divided by 0, NaN or infinity in φ or in an error that is read, lists of two
//! lengths in φ. Only [`propensity_profile_udaf`] takes every row: it counts the bad ones.

mod args;
mod balance;
mod diagnostics;
mod docs;
mod estimators;
mod results;
mod scalar;
mod state;
mod udaf;
mod weights;

use std::sync::Arc;

use datafusion_common::Result;
use datafusion_expr::registry::FunctionRegistry;
use datafusion_expr::{AggregateUDF, ScalarUDF};

pub use balance::{
    balance_drift_udf, balance_merge_udaf, balance_state_udaf, balance_test_of_udf, balance_test_udaf,
    balance_vector_of_udf, balance_vector_udaf, bmse_change_udaf, bmse_noise_floor_udaf, bmse_of_udf, bmse_udaf,
    bmse_unbiased_udaf, ks_udaf, smd_udaf, variance_ratio_udaf,
};
pub use diagnostics::{
    auc_udaf, calibration_curve_udaf, ece_udaf, ess_udaf, mis_udaf, nll_udaf, ppl_udaf, propensity_profile_udaf,
    sv_udaf,
};
pub use estimators::{
    dr_interval_udaf, dr_os_interval_udaf, dr_os_udaf, dr_udaf, dr_v2_udaf, dr_variance_udaf, eib_interval_udaf,
    eib_udaf, ips_clipped_interval_udaf, ips_clipped_udaf, ips_interval_udaf, ips_udaf, ips_v2_udaf, ips_variance_udaf,
    lambda_opt_dr_udaf, lambda_opt_udaf, naive_interval_udaf, naive_treated_interval_udaf, naive_treated_udaf,
    naive_udaf, snips_dr_interval_udaf, snips_dr_udaf, snips_interval_udaf, snips_udaf, switch_dr_interval_udaf,
    switch_dr_udaf,
};
pub use scalar::{
    balance_weight_udf, clip_propensity_udf, inverse_propensity_weight_udf, log_loss_udf, mrdr_weight_udf,
    squared_error_udf,
};

/// All aggregate functions.
pub fn all_aggregates() -> Vec<Arc<AggregateUDF>> {
    vec![
        bmse_udaf(),
        bmse_unbiased_udaf(),
        bmse_noise_floor_udaf(),
        balance_vector_udaf(),
        balance_test_udaf(),
        balance_state_udaf(),
        balance_merge_udaf(),
        bmse_change_udaf(),
        smd_udaf(),
        variance_ratio_udaf(),
        ks_udaf(),
        naive_udaf(),
        naive_treated_udaf(),
        eib_udaf(),
        ips_udaf(),
        snips_udaf(),
        dr_udaf(),
        snips_dr_udaf(),
        ips_clipped_udaf(),
        switch_dr_udaf(),
        dr_os_udaf(),
        ips_v2_udaf(),
        dr_v2_udaf(),
        naive_interval_udaf(),
        naive_treated_interval_udaf(),
        eib_interval_udaf(),
        ips_interval_udaf(),
        snips_interval_udaf(),
        dr_interval_udaf(),
        snips_dr_interval_udaf(),
        ips_clipped_interval_udaf(),
        switch_dr_interval_udaf(),
        dr_os_interval_udaf(),
        ips_variance_udaf(),
        dr_variance_udaf(),
        lambda_opt_udaf(),
        lambda_opt_dr_udaf(),
        ess_udaf(),
        propensity_profile_udaf(),
        nll_udaf(),
        ppl_udaf(),
        auc_udaf(),
        ece_udaf(),
        calibration_curve_udaf(),
        sv_udaf(),
        mis_udaf(),
    ]
}

/// All scalar functions.
pub fn all_scalars() -> Vec<Arc<ScalarUDF>> {
    vec![
        squared_error_udf(),
        log_loss_udf(),
        inverse_propensity_weight_udf(),
        balance_weight_udf(),
        mrdr_weight_udf(),
        clip_propensity_udf(),
        bmse_of_udf(),
        balance_vector_of_udf(),
        balance_test_of_udf(),
        balance_drift_udf(),
    ]
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
