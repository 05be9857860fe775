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
use crate::{args, weights};

/// Self-normalised inverse propensity score estimate: `Σ(o·e/p) / Σ(o/p)`.
///
/// `snips(treated, propensity, error)`: a weighted mean of the observed errors, in their unit and
/// within their range. NULL if no row is treated.
///
/// Source: Swaminathan and Joachims, NeurIPS 2015.
pub fn snips_udaf() -> Arc<AggregateUDF> {
    udaf::<Snips>()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Snips;

impl Function for Snips {
    const SPEC: &'static Spec = &Spec::new("snips", &[Role::Treated, Role::Propensity, Role::Error]);

    type State = Sums;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Terms {
        Terms {
            numerators: ips_terms(rows),
            denominators: Some(args::map2(rows.treated(), rows.propensity(), weights::inverse_propensity)),
        }
    }

    fn values(state: &Sums, _call: &Call) -> Result<ArrayRef> {
        Ok(numbers((0..state.groups()).map(|group| state.ratio(group))))
    }

    fn documentation() -> Documentation {
        docs::aggregate(
            Self::SPEC,
            docs::ESTIMATORS,
            "Self-normalised inverse propensity score estimate of the mean error: the mean of the observed \
             errors, weighted by `1/p`. It stays within the range of the errors, for a bias that vanishes with \
             more rows. NULL if no treated row counts.",
            "> SELECT snips(clicked, p, e) AS snips
  FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
    AS log (clicked, p, e, imputed);
+---------------------+
| snips               |
+---------------------+
| 0.34615384615384615 |
+---------------------+",
            &["ips", "ess"],
        )
    }
}
