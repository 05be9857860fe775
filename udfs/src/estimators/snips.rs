use std::sync::Arc;

use datafusion_expr::{AggregateUDF, Documentation};

use super::estimator::{Estimator, Point};
use super::interval::Interval;
use super::{inverse_propensity_weights, weighted_errors};
use crate::args::{Call, Role, Rows, Spec};
use crate::docs;
use crate::udaf::udaf;

/// Self-normalised inverse propensity score estimate: `Σ(o·e/p) / Σ(o/p)`.
///
/// `snips(treated, propensity, error)`: a weighted mean of the observed errors, in their unit and
/// within their range. NULL if no row is treated.
///
/// Source: Swaminathan and Joachims, NeurIPS 2015.
pub fn snips_udaf() -> Arc<AggregateUDF> {
    udaf::<Point<Snips>>()
}

/// [`snips`](crate::snips_udaf) with its standard error and confidence interval.
///
/// `snips_interval(treated, propensity, error [, level])` gives a struct of
/// `estimate`, `std_error`, `lower`, `upper`, `n` and `ess`, in the unit of the error but for the last two:
/// the standard error is that of the ratio by the delta method, NULL with the bounds if fewer than two rows are
/// treated; `ess` is Kish's effective sample size of the weights `o/p`. NULL without a row.
///
/// Source: Owen, *Monte Carlo theory, methods and examples*, section 9.2.
pub fn snips_interval_udaf() -> Arc<AggregateUDF> {
    udaf::<Interval<Snips>>()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Snips;

impl Estimator for Snips {
    const SPEC: &'static Spec = &Spec::new("snips", &[Role::Treated, Role::Propensity, Role::Error]);

    const INTERVAL: &'static Spec =
        &Spec::new("snips_interval", &[Role::Treated, Role::Propensity, Role::Error, Role::Level]);

    const NORMALISED: bool = true;

    const INTERVAL_EXAMPLE: &'static str =
        "> SELECT round(i['estimate'], 4) AS estimate, round(i['lower'], 4) AS lower, round(i['upper'], 4) AS upper
  FROM (SELECT snips_interval(clicked, p, e) AS i
        FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
          AS log (clicked, p, e, imputed));
+----------+--------+--------+
| estimate | lower  | upper  |
+----------+--------+--------+
| 0.3462   | 0.1568 | 0.5355 |
+----------+--------+--------+";

    fn terms(rows: &Rows<'_>, _call: &Call) -> [Vec<f64>; 2] {
        weighted_errors(rows, inverse_propensity_weights(rows))
    }

    fn documentation() -> Documentation {
        docs::aggregate(
            Self::SPEC,
            docs::ESTIMATORS,
            "Self-normalised inverse propensity score estimate of the mean error: the mean of the observed \
             errors, weighted by `1/p`. It stays within the range of the errors, for a bias that vanishes with \
             more rows. NULL if no treated row counts.",
            "> SELECT snips(clicked, p, e) AS snips
  FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
    AS log (clicked, p, e, imputed);
+---------------------+
| snips               |
+---------------------+
| 0.34615384615384615 |
+---------------------+",
            &["ips", "ess"],
        )
    }
}
