use std::sync::Arc;

use arrow::array::ArrayRef;
use datafusion_common::Result;
use datafusion_expr::{AggregateUDF, Documentation};

use super::{mean_variance, residuals, treatment_variances};
use crate::args::{Call, Role, Rows, Spec};
use crate::docs;
use crate::results::numbers;
use crate::state::{State, Sums, Terms};
use crate::udaf::{Function, udaf};

/// Variance of [`dr`](crate::dr_udaf) over treatments, for rows as they are: `Σ o(1−p)(e−ê)²/p² / n²`.
///
/// `dr_variance(treated, propensity, error, imputed_error)`: in the unit of the error squared, right if the
/// propensities are. It leaves out that other rows might have been drawn, which
/// [`dr_interval`](crate::dr_interval_udaf) does not. NULL without a row.
///
/// Source: Guo et al., SIGIR 2021; Li et al., ICML 2023, section 4.2.
pub fn dr_variance_udaf() -> Arc<AggregateUDF> {
    udaf::<DrVariance>()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DrVariance;

impl Function for DrVariance {
    const SPEC: &'static Spec =
        &Spec::new("dr_variance", &[Role::Treated, Role::Propensity, Role::Error, Role::ImputedError]);

    type State = Sums;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Terms {
        Terms::mean(treatment_variances(rows, &residuals(rows)))
    }

    fn values(state: &Sums, _call: &Call) -> Result<ArrayRef> {
        Ok(numbers((0..state.groups()).map(|group| mean_variance(state, group))))
    }

    fn documentation() -> Documentation {
        docs::aggregate(
            Self::SPEC,
            docs::ESTIMATORS,
            "Variance of `dr` over treatments, if the rows are taken as given and the propensities as right: the sum \
             of `o*(1-p)*(e-imputed)*(e-imputed)/(p*p)`, divided by the number of rows squared. It leaves out that \
             other rows might have been drawn, which the `std_error` of `dr_interval` does not. NULL if no row \
             counts.",
            "> SELECT dr_variance(clicked, p, e, imputed) AS dr_variance
  FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
    AS log (clicked, p, e, imputed);
+-----------------------+
| dr_variance           |
+-----------------------+
| 0.0012207031249999996 |
+-----------------------+",
            &["dr", "dr_interval", "ips_variance"],
        )
    }
}
