//! Whether the propensities balance better than those before.

use super::Check;
use crate::audit::figures::figures;
use crate::audit::gauges::{AUDIT, Gauges, family};
use crate::audit::text::short;
use crate::audit::thresholds::CHANGE_ELEMENTS;
use crate::audit::verdict::Verdict;
use crate::metrics::Family;

const CHANGE: Family = family(
    "counterweight_bmse_change",
    "What the last change of propensities added to the BMSE, chance taken off.",
    AUDIT,
);

figures! {
    /// The balance of the whole table with the propensities of one model and of another.
    struct ModelChange {
        n: i64,
        elements: Option<i64>,
        bmse_before: Option<f64>,
        bmse: Option<f64>,
        change: Option<f64>,
        p_value: Option<f64>,
        level: f64,
    }
}

impl Check for ModelChange {
    const NAME: &'static str = "model_change";
    const SQL: &'static str = include_str!("../../../sql/model_change.sql");
    const HIDDEN: &'static [&'static str] = &["elements", "level"];

    fn verdict(rows: &[Self]) -> Option<Verdict> {
        let row = rows.first()?;
        let elements = row.elements?;
        if elements > CHANGE_ELEMENTS {
            let elements = short(elements as f64);
            let text =
                format!("phi has {elements} elements, more than the {CHANGE_ELEMENTS} whose covariances are kept");
            return Some(Verdict::calm(text));
        }
        let figure = format!("BMSE went from {} to {}", short(row.bmse_before?), short(row.bmse?));
        Some(match (row.p_value? < row.level, row.change? > 0.0) {
            (true, true) => Verdict::alarm(format!("{figure}: the propensities balance worse than before")),
            (true, false) => Verdict::calm(format!("{figure}: the propensities balance better than before")),
            (false, _) => Verdict::calm(format!("{figure}: no change beyond sampling noise")),
        })
    }

    fn gauges(rows: &[Self], gauges: &mut Gauges) {
        for row in rows {
            gauges.set(CHANGE, row.change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::judged;
    use super::*;

    #[test]
    fn a_model_change_alarms_where_the_balance_got_worse() {
        let row = |change: f64, p: f64| {
            [ModelChange {
                n: 9,
                elements: Some(2),
                bmse_before: Some(0.5),
                bmse: Some(0.25),
                change: Some(change),
                p_value: Some(p),
                level: 0.01,
            }]
        };
        let better = "BMSE went from 0.5 to 0.25: the propensities balance better than before";
        assert_eq!(judged(&row(-0.2, 0.001)), (false, better.to_owned()));
        assert!(!judged(&row(0.2, 0.02)).0);
        assert!(judged(&row(0.2, 0.001)).0);
        let wide = [ModelChange { n: 9, elements: Some(40), ..ModelChange::default() }];
        assert!(!judged(&wide).0 && judged(&wide).1.contains("more than the 32"));
    }
}
