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

/// Negative log-likelihood of the propensities: `mean(−o·ln p − (1−o)·ln(1−p))`.
///
/// `nll(treated, propensity)`: the mean cross-entropy, in nats; 0 for a certain and right propensity, ln 2 for one of
/// 0.5 throughout. A row that is certain and wrong would make it infinite and is an error. NULL without a row.
///
/// Source: Good, *Rational decisions*, 1952.
pub fn nll_udaf() -> Arc<AggregateUDF> {
    udaf::<Nll>()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Nll;

impl Function for Nll {
    const SPEC: &'static Spec = &Spec::new("nll", &[Role::Treated, Role::Propensity]).divides(Divides::Both);

    type State = Sums;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Terms {
        Terms::mean(surprises(rows))
    }

    fn values(state: &Sums, _call: &Call) -> Result<ArrayRef> {
        Ok(numbers((0..state.groups()).map(|group| state.ratio(group))))
    }

    fn documentation() -> Documentation {
        docs::aggregate(
            Self::SPEC,
            docs::DIAGNOSTICS,
            "Negative log-likelihood of the propensities: the mean of `-ln(p)` over treated and of `-ln(1-p)` over \
             untreated rows, in nats. Lower is better; propensities of 0.5 throughout have ln 2. NULL if no row \
             counts.",
            "> SELECT nll(clicked, p) AS nll
  FROM (VALUES (1, 0.5), (1, 0.8), (0, 0.5), (0, 0.2)) AS log (clicked, p);
+--------------------+
| nll                |
+--------------------+
| 0.4581453659370775 |
+--------------------+",
            &["ppl", "ece", "log_loss"],
        )
    }
}
