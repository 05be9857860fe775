use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion_common::Result;
use datafusion_expr::Expr;

use super::dr_terms;
use super::optimum::{LEADS, optima, optimum_fields, terms};
use crate::args::{Call, Role, Rows, Spec};
use crate::state::{Comoments, Weighted};
use crate::udaf::{Function, Udaf};

aggregate! {
    /// The lambda at which `dr_v2` varies least from sample to sample: `lambda_opt`, of the doubly robust estimate.
    ///
    /// NULL if fewer than three rows count.
    ///
    /// # Details
    /// The struct is that of [`lambda_opt`](crate::expr_fn::lambda_opt), with [`dr`](crate::expr_fn::dr) in place of
    /// [`ips`](crate::expr_fn::ips).
    ///
    /// Source: Li et al., ICML 2023, theorem 4.2.
    lambda_opt_dr(treated: Expr, propensity: Expr, error: Expr, imputed_error: Expr, phi: Vec<Expr>),
    lambda_opt_dr_udaf: Udaf<LambdaOptDr>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct LambdaOptDr;

impl Function for LambdaOptDr {
    const SPEC: &'static Spec =
        &Spec::new("lambda_opt_dr", &[Role::Treated, Role::Propensity, Role::Error, Role::ImputedError])
            .with_phi()
            .with_leads(LEADS);

    const EXAMPLE: &'static str = "> SELECT round(o['lambda'], 6) AS lambda
  FROM (SELECT lambda_opt_dr(clicked, p, e, i) AS o
        FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125),
                     (0, 0.1, NULL, 0.25)) AS log (clicked, p, e, i));
+----------+
| lambda   |
+----------+
| 0.008121 |
+----------+";

    const RELATED: &'static [&'static str] = &["dr_v2", "lambda_opt"];

    type State = Comoments;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Weighted {
        terms(rows, dr_terms(rows))
    }

    fn return_type(_arguments: &[DataType]) -> DataType {
        DataType::Struct(optimum_fields())
    }

    fn values(state: &Comoments, _call: &Call) -> Result<ArrayRef> {
        optima(Self::SPEC, state)
    }
}
