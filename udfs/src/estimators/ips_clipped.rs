use std::sync::Arc;

use datafusion_expr::{AggregateUDF, Documentation};

use super::estimator::{Estimator, Point};
use super::interval::Interval;
use super::weighted_errors;
use crate::args::{Call, Role, Rows, Spec};
use crate::docs;
use crate::udaf::udaf;
use crate::{args, weights};

/// Clipped inverse propensity score estimate: `mean(o·e·min(1/p, max_weight))` over all rows.
///
/// `ips_clipped(treated, propensity, error, max_weight)`: [`ips`](crate::ips_udaf) without its largest weights, so with
/// less variance for some bias towards 0; in the unit of the error. `max_weight` is a literal above 0. NULL without a
/// row.
///
/// Source: Ionides, *Truncated importance sampling*, 2008; Bottou et al., JMLR 2013, section 4.
pub fn ips_clipped_udaf() -> Arc<AggregateUDF> {
    udaf::<Point<IpsClipped>>()
}

/// [`ips_clipped`](crate::ips_clipped_udaf) with its standard error and confidence interval.
///
/// `ips_clipped_interval(treated, propensity, error, max_weight [, level])` gives a struct of
/// `estimate`, `std_error`, `lower`, `upper`, `n` and `ess`, in the unit of the error but for the last two:
/// the standard error is that of the mean of the row terms, NULL with the bounds if fewer than two rows count;
/// `ess` is Kish's effective sample size of the clipped weights. NULL without a row.
pub fn ips_clipped_interval_udaf() -> Arc<AggregateUDF> {
    udaf::<Interval<IpsClipped>>()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct IpsClipped;

impl Estimator for IpsClipped {
    const SPEC: &'static Spec =
        &Spec::new("ips_clipped", &[Role::Treated, Role::Propensity, Role::Error, Role::MaxWeight]);

    const INTERVAL: &'static Spec = &Spec::new(
        "ips_clipped_interval",
        &[Role::Treated, Role::Propensity, Role::Error, Role::MaxWeight, Role::Level],
    );

    const INTERVAL_EXAMPLE: &'static str =
        "> SELECT round(i['estimate'], 4) AS estimate, round(i['lower'], 4) AS lower, round(i['upper'], 4) AS upper
  FROM (SELECT ips_clipped_interval(clicked, p, e, 1.5) AS i
        FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
          AS log (clicked, p, e, imputed));
+----------+---------+--------+
| estimate | lower   | upper  |
+----------+---------+--------+
| 0.25     | -0.0501 | 0.5501 |
+----------+---------+--------+";

    fn terms(rows: &Rows<'_>, call: &Call) -> [Vec<f64>; 2] {
        let most = call.literal(Role::MaxWeight);
        let clipped = |o, p| weights::inverse_propensity(o, p).min(most);
        weighted_errors(rows, args::map2(rows.treated(), rows.propensity(), clipped))
    }

    fn documentation() -> Documentation {
        docs::aggregate(
            Self::SPEC,
            docs::ESTIMATORS,
            "Inverse propensity score estimate of the mean error over all rows, with weights `1/p` cut to \
             `max_weight`: less noise than `ips` if some propensities are small, for a bias towards 0. NULL if no row \
             counts.",
            "> SELECT ips_clipped(clicked, p, e, 1.5) AS ips_clipped
  FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
    AS log (clicked, p, e, imputed);
+-------------+
| ips_clipped |
+-------------+
| 0.25        |
+-------------+",
            &["ips", "switch_dr", "dr_os"],
        )
    }
}
