use arrow::array::ArrayRef;
use datafusion_common::Result;
use datafusion_expr::Expr;

use super::estimator::Estimator;
use super::interval::{Interval, estimate, interval_doc};
use super::{corrections, inverse_propensity_weights};
use crate::args::{Call, Role, Rows, Spec};
use crate::results::numbers;
use crate::state::Products;
use crate::udaf::{Function, Udaf};

aggregate! {
    /// Self-normalised doubly robust estimate of the mean error over all rows: the mean imputed error, plus the mean of
    /// `e-imputed` over treated rows weighted by `1/p`.
    ///
    /// Less noise than `dr` if some propensities are small, for a bias that vanishes with more rows. NULL if no treated
    /// row counts.
    ///
    /// # Details
    /// `mean(ê) + Σ(o·(e−ê)/p) / Σ(o/p)`, in the unit of the error: the correction stays within the range of the
    /// observed `e−ê`.
    ///
    /// Source: Thomas and Brunskill, *Data-efficient off-policy policy evaluation*, ICML 2016 (weighted doubly robust,
    /// for one step).
    snips_dr(treated: Expr, propensity: Expr, error: Expr, imputed_error: Expr), snips_dr_udaf: Udaf<SnipsDr>
}

aggregate! {
    #[doc = interval_doc!(snips_dr, ratio)]
    snips_dr_interval(treated: Expr, propensity: Expr, error: Expr, imputed_error: Expr, level: Option<Expr>),
    snips_dr_interval_udaf: Udaf<Interval<SnipsDr, 3>>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SnipsDr;

impl Estimator<3> for SnipsDr {
    const SPEC: &'static Spec =
        &Spec::new("snips_dr", &[Role::Treated, Role::Propensity, Role::Error, Role::ImputedError]);

    const INTERVAL: &'static Spec = &Spec::new(
        "snips_dr_interval",
        &[Role::Treated, Role::Propensity, Role::Error, Role::ImputedError, Role::Level],
    );

    const EXAMPLE: &'static str = "> SELECT snips_dr(clicked, p, e, imputed) AS snips_dr
  FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
    AS log (clicked, p, e, imputed);
+---------------------+
| snips_dr            |
+---------------------+
| 0.37740384615384615 |
+---------------------+";

    const RELATED: &'static [&'static str] = &["dr", "snips", "ess"];

    const INTERVAL_EXAMPLE: &'static str =
        "> SELECT round(i['estimate'], 4) AS estimate, round(i['lower'], 4) AS lower, round(i['upper'], 4) AS upper
  FROM (SELECT snips_dr_interval(clicked, p, e, imputed) AS i
        FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
          AS log (clicked, p, e, imputed));
+----------+--------+--------+
| estimate | lower  | upper  |
+----------+--------+--------+
| 0.3774   | 0.1332 | 0.6216 |
+----------+--------+--------+";

    fn terms(rows: &Rows<'_>, _call: &Call) -> [Vec<f64>; 3] {
        let weights = inverse_propensity_weights(rows);
        let terms = corrections(rows, &weights);
        [weights, terms, rows.imputed_error().to_vec()]
    }
}

impl Function for SnipsDr {
    const SPEC: &'static Spec = <Self as Estimator<3>>::SPEC;

    const EXAMPLE: &'static str = <Self as Estimator<3>>::EXAMPLE;

    const RELATED: &'static [&'static str] = <Self as Estimator<3>>::RELATED;

    type State = Products<3>;

    fn terms(rows: &Rows<'_>, call: &Call) -> [Vec<f64>; 3] {
        <Self as Estimator<3>>::terms(rows, call)
    }

    fn values(state: &Products<3>, _call: &Call) -> Result<ArrayRef> {
        Ok(numbers(state.totals().map(|totals| totals.and_then(estimate::<Self, 3>))))
    }
}
