use std::sync::Arc;

use arrow::array::ArrayRef;
use datafusion_common::Result;
use datafusion_expr::{AggregateUDF, Documentation};

use super::surprises;
use crate::args::{Call, Divides, Role, Rows, Spec};
use crate::docs;
use crate::results::numbers;
use crate::state::{State, Sums, Terms};
use crate::udaf::{Function, udaf};

/// Perplexity of the propensities: `2^mean(−o·log₂ p − (1−o)·log₂(1−p))`, which is `exp` of [`nll`](crate::nll_udaf).
///
/// `ppl(treated, propensity)`: among how many equally likely outcomes the propensities leave one as uncertain; 1 for a
/// certain and right propensity, 2 for one of 0.5 throughout. A row that is certain and wrong would make it infinite
/// and is an error. NULL without a row.
///
/// Source: Jelinek, Mercer, Bahl and Baker, *Perplexity, a measure of the difficulty of speech recognition tasks*,
/// 1977.
pub fn ppl_udaf() -> Arc<AggregateUDF> {
    udaf::<Ppl>()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Ppl;

impl Function for Ppl {
    const SPEC: &'static Spec = &Spec::new("ppl", &[Role::Treated, Role::Propensity]).divides(Divides::Both);

    type State = Sums;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Terms {
        Terms::mean(surprises(rows))
    }

    fn values(state: &Sums, _call: &Call) -> Result<ArrayRef> {
        Ok(numbers((0..state.groups()).map(|group| state.ratio(group).map(f64::exp))))
    }

    fn documentation() -> Documentation {
        docs::aggregate(
            Self::SPEC,
            docs::DIAGNOSTICS,
            "Perplexity of the propensities: 2 to the power of the mean cross-entropy in bits. It is 1 where they are \
             certain and right, 2 where they are 0.5 throughout, more where they are worse than that. NULL if no row \
             counts.",
            "> SELECT ppl(clicked, p) AS ppl
  FROM (VALUES (1, 0.5), (1, 0.8), (0, 0.5), (0, 0.2)) AS log (clicked, p);
+--------------------+
| ppl                |
+--------------------+
| 1.5811388300841895 |
+--------------------+",
            &["nll"],
        )
    }
}
