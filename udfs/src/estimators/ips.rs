use std::sync::Arc;

use arrow::array::ArrayRef;
use datafusion_common::Result;
use datafusion_expr::{AggregateUDF, Documentation};

use super::ips_terms;
use crate::args::{Call, Role, Rows, Spec};
use crate::docs;
use crate::results::numbers;
use crate::state::{State, Sums, Terms};
use crate::udaf::{Function, udaf};

/// Inverse propensity score estimate: `mean(o·e/p)` over all rows.
///
/// `ips(treated, propensity, error)`: in the unit of the error, right if the propensities are.
/// NULL without a row.
///
/// Source: Li et al., ICML 2023, section 2.
pub fn ips_udaf() -> Arc<AggregateUDF> {
    udaf::<Ips>()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Ips;

impl Function for Ips {
    const SPEC: &'static Spec = &Spec::new("ips", &[Role::Treated, Role::Propensity, Role::Error]);

    type State = Sums;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Terms {
        Terms::mean(ips_terms(rows))
    }

    fn values(state: &Sums, _call: &Call) -> Result<ArrayRef> {
        Ok(numbers((0..state.groups()).map(|group| state.ratio(group))))
    }

    fn documentation() -> Documentation {
        docs::aggregate(
            Self::SPEC,
            docs::ESTIMATORS,
            "Inverse propensity score estimate of the mean error over all rows: the mean of `o*e/p`. It is \
             unbiased if the propensities are right, and noisy if some are small. NULL if no row counts.",
            "> SELECT ips(clicked, p, e) AS ips
  FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
    AS log (clicked, p, e, imputed);
+---------+
| ips     |
+---------+
| 0.28125 |
+---------+",
            &["snips", "dr", "ips_v2"],
        )
    }
}
