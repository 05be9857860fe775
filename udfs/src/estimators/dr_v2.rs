use std::sync::Arc;

use datafusion_expr::{AggregateUDF, Documentation};

use super::{dr_terms, regularised, regularised_value};
use crate::args::{Role, Rows, Spec};
use crate::docs;
use crate::state::{Moments, Weighted};
use crate::udaf::{Function, udaf};

/// DR-V2: [`dr`](crate::dr_udaf) plus λ times [`bmse`](crate::bmse_udaf).
///
/// `dr_v2(treated, propensity, error, imputed_error, lambda [, phi, ...])`: the loss that trains
/// balanced propensities, both parts over the same rows. λ is a literal, 0 or more; with 0 it is
/// `dr`. NULL without a row.
///
/// Source: Li et al., ICML 2023, section 4.1.
pub fn dr_v2_udaf() -> Arc<AggregateUDF> {
    udaf::<DrV2>()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DrV2;

impl Function for DrV2 {
    const SPEC: &'static Spec = &Spec {
        name: "dr_v2",
        roles: &[Role::Treated, Role::Propensity, Role::Error, Role::ImputedError, Role::Lambda],
        phi: true,
    };

    type State = Moments;

    fn terms(rows: &Rows<'_>) -> Weighted {
        regularised(rows, dr_terms(rows))
    }

    fn value(state: &Moments, group: usize, lambda: f64) -> Option<f64> {
        regularised_value(state, group, lambda)
    }

    fn documentation() -> Documentation {
        docs::aggregate(
            Self::SPEC,
            docs::ESTIMATORS,
            "DR-V2: the doubly robust estimate plus `lambda` times the balancing mean squared error over the same \
             rows. NULL if no row counts.",
            "> SELECT dr_v2(clicked, p, e, imputed, 0.1, age) AS dr_v2
  FROM (VALUES (1, 0.5, 0.25, 0.25, 30.0), (1, 0.8, 0.5, 0.25, 20.0),
               (0, 0.5, NULL, 0.5, 40.0), (0, 0.2, NULL, 0.125, 10.0))
    AS log (clicked, p, e, imputed, age);
+-----------+
| dr_v2     |
+-----------+
| 0.7109375 |
+-----------+",
            &["dr", "bmse", "ips_v2"],
        )
    }
}
