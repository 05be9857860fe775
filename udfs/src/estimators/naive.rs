use std::sync::Arc;

use datafusion_expr::{AggregateUDF, Documentation};

use super::estimator::{Estimator, Point};
use super::interval::Interval;
use super::weighted_errors;
use crate::args::{Call, Role, Rows, Spec};
use crate::docs;
use crate::udaf::udaf;

/// Naive estimate as the paper prints it: `Σ o·e / |D|`, the observed error spread over all rows.
///
/// `naive(treated, error)`: in the unit of the error, 0 if no row is treated, NULL without a row.
/// For the mean over treated rows use [`naive_treated_udaf`](crate::naive_treated_udaf).
///
/// Source: Li et al., ICML 2023, section 3.2.
pub fn naive_udaf() -> Arc<AggregateUDF> {
    udaf::<Point<Naive>>()
}

/// [`naive`](crate::naive_udaf) with its standard error and confidence interval.
///
/// `naive_interval(treated, error [, level])` gives a struct of
/// `estimate`, `std_error`, `lower`, `upper`, `n` and `ess`, in the unit of the error but for the last two:
/// the standard error is that of the mean of the row terms, NULL with the bounds if fewer than two rows count;
/// `ess` is the number of treated rows. NULL without a row.
pub fn naive_interval_udaf() -> Arc<AggregateUDF> {
    udaf::<Interval<Naive>>()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Naive;

impl Estimator for Naive {
    const SPEC: &'static Spec = &Spec::new("naive", &[Role::Treated, Role::Error]);

    const INTERVAL: &'static Spec = &Spec::new("naive_interval", &[Role::Treated, Role::Error, Role::Level]);

    const INTERVAL_EXAMPLE: &'static str =
        "> SELECT round(i['estimate'], 4) AS estimate, round(i['lower'], 4) AS lower, round(i['upper'], 4) AS upper
  FROM (SELECT naive_interval(clicked, e) AS i
        FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
          AS log (clicked, p, e, imputed));
+----------+---------+--------+
| estimate | lower   | upper  |
+----------+---------+--------+
| 0.1875   | -0.0471 | 0.4221 |
+----------+---------+--------+";

    fn terms(rows: &Rows<'_>, _call: &Call) -> [Vec<f64>; 2] {
        weighted_errors(rows, rows.treated().to_vec())
    }

    fn documentation() -> Documentation {
        docs::aggregate(
            Self::SPEC,
            docs::ESTIMATORS,
            "Naive estimate of the mean error as the paper prints it: the sum of the observed errors divided by \
             the number of all rows, treated or not. For the mean over treated rows use `naive_treated`. NULL if \
             no row counts.",
            "> SELECT naive(clicked, e) AS naive
  FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
    AS log (clicked, p, e, imputed);
+--------+
| naive  |
+--------+
| 0.1875 |
+--------+",
            &["naive_treated", "ips"],
        )
    }
}
