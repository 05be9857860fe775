use std::sync::Arc;

use datafusion_expr::{AggregateUDF, Documentation};

use super::estimator::{Estimator, Point};
use super::interval::Interval;
use super::weighted_errors;
use crate::args::{Call, Role, Rows, Spec};
use crate::docs;
use crate::udaf::udaf;

/// Mean error over the treated rows alone: `Σ o·e / Σ o`.
///
/// `naive_treated(treated, error)`: what an audit without weights reports, in the unit of the
/// error; biased whenever treatment depends on the error. NULL if no row is treated.
pub fn naive_treated_udaf() -> Arc<AggregateUDF> {
    udaf::<Point<NaiveTreated>>()
}

/// [`naive_treated`](crate::naive_treated_udaf) with its standard error and confidence interval.
///
/// `naive_treated_interval(treated, error [, level])` gives a struct of
/// `estimate`, `std_error`, `lower`, `upper`, `n` and `ess`, in the unit of the error but for the last two:
/// the standard error is that of the ratio by the delta method, NULL with the bounds if fewer than two rows are
/// treated; `ess` is their number. NULL without a row.
pub fn naive_treated_interval_udaf() -> Arc<AggregateUDF> {
    udaf::<Interval<NaiveTreated>>()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct NaiveTreated;

impl Estimator for NaiveTreated {
    const SPEC: &'static Spec = &Spec::new("naive_treated", &[Role::Treated, Role::Error]);

    const INTERVAL: &'static Spec = &Spec::new("naive_treated_interval", &[Role::Treated, Role::Error, Role::Level]);

    const NORMALISED: bool = true;

    const INTERVAL_EXAMPLE: &'static str =
        "> SELECT round(i['estimate'], 4) AS estimate, round(i['lower'], 4) AS lower, round(i['upper'], 4) AS upper
  FROM (SELECT naive_treated_interval(clicked, e) AS i
        FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
          AS log (clicked, p, e, imputed));
+----------+-------+-------+
| estimate | lower | upper |
+----------+-------+-------+
| 0.375    | 0.175 | 0.575 |
+----------+-------+-------+";

    fn terms(rows: &Rows<'_>, _call: &Call) -> [Vec<f64>; 2] {
        weighted_errors(rows, rows.treated().to_vec())
    }

    fn documentation() -> Documentation {
        docs::aggregate(
            Self::SPEC,
            docs::ESTIMATORS,
            "Mean error over the treated rows alone, without weights: biased whenever treatment depends on the \
             error. NULL if no treated row counts.",
            "> SELECT naive_treated(clicked, e) AS naive_treated
  FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
    AS log (clicked, p, e, imputed);
+---------------+
| naive_treated |
+---------------+
| 0.375         |
+---------------+",
            &["naive", "snips"],
        )
    }
}
