use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion_common::Result;
use datafusion_expr::Expr;

use super::covariates::{compare, comparison_type, covariates};
use crate::args::{Call, Role, Rows, Spec};
use crate::state::{Arms, Covariates};
use crate::udaf::{Function, Udaf};

aggregate! {
    /// Standardised mean difference of each covariate between treated and untreated rows: a struct of `raw` and
    /// `weighted` (by `1/p` and `1/(1-p)`).
    ///
    /// Both are in units of the pooled standard deviation of the unweighted rows; within ±0.1 is usually called
    /// balanced. Numbers for one numeric column, lists for several or for a list. NULL if no row counts.
    ///
    /// # Details
    /// The pooled standard deviation is `√((s₁² + s₀²)/2)`. An entry is NULL where either arm has no row, or where
    /// neither varies.
    ///
    /// Source: Rosenbaum and Rubin, *Constructing a control group using multivariate matched sampling methods*, 1985;
    /// Austin, *Statistics in Medicine*, 2009.
    smd(treated: Expr, propensity: Expr, covariate: Vec<Expr>), smd_udaf: Udaf<Smd>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Smd;

impl Function for Smd {
    const SPEC: &'static Spec = &Spec::new("smd", &[Role::Treated, Role::Propensity]).with_covariates();

    const EXAMPLE: &'static str = "> SELECT s['raw'] AS raw, s['weighted'] AS weighted
  FROM (SELECT smd(clicked, p, age) AS s
        FROM (VALUES (1, 0.5, 30.0), (1, 0.8, 20.0), (0, 0.5, 40.0), (0, 0.2, 10.0)) AS log (clicked, p, age));
+-----+--------------------+
| raw | weighted           |
+-----+--------------------+
| 0.0 | -0.145951276623156 |
+-----+--------------------+";

    const RELATED: &'static [&'static str] = &["variance_ratio", "ks", "balance_vector"];

    type State = Arms;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Covariates {
        covariates(rows)
    }

    fn return_type(arguments: &[DataType]) -> DataType {
        comparison_type(arguments)
    }

    fn values(state: &Arms, call: &Call) -> Result<ArrayRef> {
        let value = |group: usize, k: usize, weighted: bool| {
            let sample = |treated: bool, weighted: bool| state.get(group, treated, weighted, k);
            let variance = (sample(true, false)?.variance? + sample(false, false)?.variance?) / 2.0;
            let difference = sample(true, weighted)?.mean - sample(false, weighted)?.mean;
            (variance > 0.0).then(|| difference / variance.sqrt())
        };
        Ok(compare(state, call, value))
    }
}
