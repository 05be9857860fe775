use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion_common::Result;
use datafusion_expr::Expr;

use super::covariates::{compare, comparison_type, covariates};
use crate::args::{Call, Role, Rows, Spec};
use crate::state::{Arms, Covariates};
use crate::udaf::{Function, Udaf};

aggregate! {
    /// Variance of each covariate in treated rows over that in untreated rows: a struct of `raw` and `weighted` (by
    /// `1/p` and `1/(1-p)`).
    ///
    /// 1 is balance; below 0.5 or above 2 is usually called out of balance. Numbers for one numeric column, lists for
    /// several or for a list. NULL if no row counts.
    ///
    /// # Details
    /// The weighted variance is the unbiased `Σw(x−x̄)² / (Σw − Σw²/Σw)`. An entry is NULL where either arm has fewer
    /// than two rows, or where untreated rows do not vary.
    ///
    /// Source: Austin, *Statistics in Medicine*, 2009; Stuart, *Statistical Science*, 2010.
    variance_ratio(treated: Expr, propensity: Expr, covariate: Vec<Expr>), variance_ratio_udaf: Udaf<VarianceRatio>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct VarianceRatio;

impl Function for VarianceRatio {
    const SPEC: &'static Spec = &Spec::new("variance_ratio", &[Role::Treated, Role::Propensity]).with_covariates();

    const EXAMPLE: &'static str = "> SELECT variance_ratio(clicked, p, age)['raw'] AS raw
  FROM (VALUES (1, 0.5, 30.0), (1, 0.8, 20.0), (0, 0.5, 40.0), (0, 0.2, 10.0)) AS log (clicked, p, age);
+--------------------+
| raw                |
+--------------------+
| 0.1111111111111111 |
+--------------------+";

    const RELATED: &'static [&'static str] = &["smd", "ks"];

    type State = Arms;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Covariates {
        covariates(rows)
    }

    fn return_type(arguments: &[DataType]) -> DataType {
        comparison_type(arguments)
    }

    fn values(state: &Arms, call: &Call) -> Result<ArrayRef> {
        let value = |group: usize, k: usize, weighted: bool| {
            let variance = |treated: bool| state.get(group, treated, weighted, k)?.variance;
            let (treated, untreated) = (variance(true)?, variance(false)?);
            (untreated > 0.0).then(|| treated / untreated)
        };
        Ok(compare(state, call, value))
    }
}
