use std::sync::Arc;

use datafusion_expr::{AggregateUDF, Documentation};

use super::estimator::{Estimator, Point};
use super::interval::Interval;
use super::{inverse_propensity_weights, weighted_errors};
use crate::args::{Call, Role, Rows, Spec};
use crate::docs;
use crate::udaf::udaf;

/// Inverse propensity score estimate: `mean(o·e/p)` over all rows.
///
/// `ips(treated, propensity, error)`: in the unit of the error, right if the propensities are.
/// NULL without a row.
///
/// Source: Li et al., ICML 2023, section 2.
pub fn ips_udaf() -> Arc<AggregateUDF> {
    udaf::<Point<Ips>>()
}

/// [`ips`](crate::ips_udaf) with its standard error and confidence interval.
///
/// `ips_interval(treated, propensity, error [, level])` gives a struct of
/// `estimate`, `std_error`, `lower`, `upper`, `n` and `ess`, in the unit of the error but for the last two:
/// the standard error is that of the mean of the row terms, NULL with the bounds if fewer than two rows count;
/// `ess` is Kish's effective sample size of the weights `o/p`. NULL without a row.
pub fn ips_interval_udaf() -> Arc<AggregateUDF> {
    udaf::<Interval<Ips>>()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Ips;

impl Estimator for Ips {
    const SPEC: &'static Spec = &Spec::new("ips", &[Role::Treated, Role::Propensity, Role::Error]);

    const INTERVAL: &'static Spec =
        &Spec::new("ips_interval", &[Role::Treated, Role::Propensity, Role::Error, Role::Level]);

    const INTERVAL_EXAMPLE: &'static str =
        "> SELECT round(i['estimate'], 4) AS estimate, round(i['lower'], 4) AS lower, round(i['upper'], 4) AS upper
  FROM (SELECT ips_interval(clicked, p, e) AS i
        FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
          AS log (clicked, p, e, imputed));
+----------+---------+--------+
| estimate | lower   | upper  |
+----------+---------+--------+
| 0.2813   | -0.0409 | 0.6034 |
+----------+---------+--------+";

    fn terms(rows: &Rows<'_>, _call: &Call) -> [Vec<f64>; 2] {
        weighted_errors(rows, inverse_propensity_weights(rows))
    }

    fn documentation() -> Documentation {
        docs::aggregate(
            Self::SPEC,
            docs::ESTIMATORS,
            "Inverse propensity score estimate of the mean error over all rows: the mean of `o*e/p`. It is \
             unbiased if the propensities are right, and noisy if some are small. NULL if no row counts.",
            "> SELECT ips(clicked, p, e) AS ips
  FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
    AS log (clicked, p, e, imputed);
+---------+
| ips     |
+---------+
| 0.28125 |
+---------+",
            &["snips", "dr", "ips_v2"],
        )
    }
}
