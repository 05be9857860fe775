use arrow::array::ArrayRef;
use datafusion_common::Result;
use datafusion_expr::Expr;

use super::calibration::propensity_samples;
use crate::args::{Call, Divides, Role, Rows, Spec};
use crate::results::numbers;
use crate::state::{Sample, Samples, State, arms, ties};
use crate::udaf::{Function, Udaf};

aggregate! {
    /// Area under the ROC curve of the propensities: the probability that a treated row has a higher propensity than an
    /// untreated one, ties counting half.
    ///
    /// 1 if they tell the rows apart, 0.5 if they say nothing. Exact: it keeps 16 bytes a row in memory. NULL unless
    /// treated and untreated rows count.
    ///
    /// # Details
    /// Source: Mann and Whitney, 1947; Hanley and McNeil, *Radiology*, 1982.
    auc(treated: Expr, propensity: Expr), auc_udaf: Udaf<Auc>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Auc;

impl Function for Auc {
    const SPEC: &'static Spec = &Spec::new("auc", &[Role::Treated, Role::Propensity]).divides(Divides::Neither);

    const EXAMPLE: &'static str = "> SELECT auc(clicked, p) AS auc
  FROM (VALUES (1, 0.5), (1, 0.8), (0, 0.5), (0, 0.2)) AS log (clicked, p);
+-------+
| auc   |
+-------+
| 0.875 |
+-------+";

    const RELATED: &'static [&'static str] = &["nll", "ece"];

    type State = Samples;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Vec<Sample> {
        propensity_samples(rows)
    }

    fn values(state: &Samples, _call: &Call) -> Result<ArrayRef> {
        Ok(numbers((0..state.groups()).map(|group| area(&state.sorted(group)))))
    }
}

fn area(sorted: &[Sample]) -> Option<f64> {
    let [untreated, treated] = arms(sorted);
    let (mut below, mut pairs) = (0.0, 0.0);
    for tie in ties(sorted) {
        let [untreated, treated] = arms(tie).map(|count| count as f64);
        pairs += treated * (below + untreated / 2.0);
        below += untreated;
    }
    (untreated > 0 && treated > 0).then(|| pairs / untreated as f64 / treated as f64)
}
