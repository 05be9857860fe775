use arrow::array::ArrayRef;
use datafusion_common::Result;
use datafusion_expr::Expr;

use super::surprises;
use crate::args::{Call, Divides, Role, Rows, Spec};
use crate::results::numbers;
use crate::state::{State, Sums, Terms};
use crate::udaf::{Function, Udaf};

aggregate! {
    /// Perplexity of the propensities: 2 to the power of the mean cross-entropy in bits.
    ///
    /// It is 1 where they are certain and right, 2 where they are 0.5 throughout, more where they are worse than that.
    /// NULL if no row counts.
    ///
    /// # Details
    /// `2^mean(−o·log₂ p − (1−o)·log₂(1−p))`, which is `exp` of [`nll`](crate::expr_fn::nll): among how many equally
    /// likely outcomes the propensities leave one as uncertain. A row that is certain and wrong is an error: it would
    /// make the result infinite.
    ///
    /// Source: Jelinek, Mercer, Bahl and Baker, *Perplexity, a measure of the difficulty of speech recognition tasks*,
    /// 1977.
    ppl(treated: Expr, propensity: Expr), ppl_udaf: Udaf<Ppl>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Ppl;

impl Function for Ppl {
    const SPEC: &'static Spec = &Spec::new("ppl", &[Role::Treated, Role::Propensity]).divides(Divides::Both);

    const EXAMPLE: &'static str = "> SELECT ppl(clicked, p) AS ppl
  FROM (VALUES (1, 0.5), (1, 0.8), (0, 0.5), (0, 0.2)) AS log (clicked, p);
+--------------------+
| ppl                |
+--------------------+
| 1.5811388300841895 |
+--------------------+";

    const RELATED: &'static [&'static str] = &["nll"];

    type State = Sums;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Terms {
        Terms::mean(surprises(rows))
    }

    fn values(state: &Sums, _call: &Call) -> Result<ArrayRef> {
        Ok(numbers((0..state.groups()).map(|group| state.ratio(group).map(f64::exp))))
    }
}
