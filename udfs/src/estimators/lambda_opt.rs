use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion_common::Result;
use datafusion_expr::Expr;

use super::ips_terms;
use super::optimum::{LEADS, optima, optimum_fields, terms};
use crate::args::{Call, Role, Rows, Spec};
use crate::state::{Comoments, Weighted};
use crate::udaf::{Function, Udaf};

aggregate! {
    /// The lambda at which `ips_v2` varies least from sample to sample, `-Cov(IPS, BMSE) / Var(BMSE)`, estimated in one
    /// pass from the covariance of the rows' losses and imbalances.
    ///
    /// Gives a struct of `lambda`, `variance_at_0` (of `ips`), `variance_at_opt` and `correlation`. phi may have up to
    /// 62 elements. NULL if fewer than three rows count.
    ///
    /// # Details
    /// - `lambda`: in the unit of the error over that of φ squared; it may be negative. With ρ held within −1 and 1,
    ///   `−ρ·√(Var(IPS)/Var(BMSE))`, so that `λ·BMSE` never varies more than IPS does.
    /// - `variance_at_0`: the variance of [`ips`](crate::expr_fn::ips) over samples of as many rows.
    /// - `variance_at_opt`: that of `ips + λ·bmse`, which is `(1 − ρ²)` times the former.
    /// - `correlation`: ρ of IPS and BMSE over samples.
    ///
    /// Kept are the covariances of the row's loss l, its imbalance `z = w·φ` and `‖z‖²`. With μ and
    /// Σ the mean and covariance of z, c its covariance with l, and τ and κ the covariances of z and of l with
    /// `‖z − μ‖²`, the moments of `BMSE = ‖z̄‖²` over samples of n rows are, to order n⁻², `Cov = 2μᵀc/n + κ/n²` and
    /// `Var = 4μᵀΣμ/n + 4μᵀτ/n² + 2tr(Σ²)/n²` (the last term for a z̄ that is nearly normal). They are estimated by
    /// their sample counterparts, corrected for the bias of putting z̄ in place of μ; the variance is held above
    /// `2tr(Σ²)/n²`, its value under perfect balance.
    ///
    /// The theorem has them over outcomes, given the treatments; here treatments, too, vary from sample to sample. Rows are
    /// taken for independent.
    ///
    /// More elements of φ are an error. NULL also where z is 0 throughout.
    ///
    /// Source: Li et al., ICML 2023, theorem 4.2.
    lambda_opt(treated: Expr, propensity: Expr, error: Expr, phi: Vec<Expr>), lambda_opt_udaf: Udaf<LambdaOpt>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct LambdaOpt;

impl Function for LambdaOpt {
    const SPEC: &'static Spec =
        &Spec::new("lambda_opt", &[Role::Treated, Role::Propensity, Role::Error]).with_phi().with_leads(LEADS);

    const EXAMPLE: &'static str = "> SELECT round(o['lambda'], 6) AS lambda, round(o['correlation'], 6) AS correlation
  FROM (SELECT lambda_opt(clicked, p, e) AS o
        FROM (VALUES (1, 0.5, 0.25), (1, 0.8, 0.5), (0, 0.5, NULL), (0, 0.2, NULL), (0, 0.1, NULL))
          AS log (clicked, p, e));
+----------+-------------+
| lambda   | correlation |
+----------+-------------+
| 0.076506 | -0.470758   |
+----------+-------------+";

    const RELATED: &'static [&'static str] = &["ips_v2", "lambda_opt_dr"];

    type State = Comoments;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Weighted {
        terms(rows, ips_terms(rows))
    }

    fn return_type(_arguments: &[DataType]) -> DataType {
        DataType::Struct(optimum_fields())
    }

    fn values(state: &Comoments, _call: &Call) -> Result<ArrayRef> {
        optima(Self::SPEC, state)
    }
}
