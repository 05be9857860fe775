//! Whether the balance has changed from one week to the next.

use super::Check;
use crate::audit::figures::figures;
use crate::audit::gauges::{AUDIT, Gauges, family};
use crate::audit::text::short;
use crate::audit::verdict::Verdict;
use crate::metrics::Family;

const CHANGED: Family = family(
    "counterweight_phi_elements_drifted",
    "Elements of phi whose imbalance changed from one week to the next beyond sampling noise.",
    AUDIT,
);

figures! {
    /// The change of one element of φ.
    struct Drift {
        name: String,
        n: i64,
        before: Option<f64>,
        recent: Option<f64>,
        z: Option<f64>,
        p_corrected: Option<f64>,
        elements: i64,
        changed: i64,
    }
}

impl Check for Drift {
    const NAME: &'static str = "drift";
    const SQL: &'static str = include_str!("../../../sql/drift.sql");
    const HIDDEN: &'static [&'static str] =
        &["elements", "changed", "rows_skipped", "null_treated", "null_propensity", "null_phi"];

    fn verdict(rows: &[Self]) -> Option<Verdict> {
        let most = rows.first()?;
        most.p_corrected?;
        let (all, count, errors) = (short(most.elements as f64), short(most.changed as f64), short(most.z?.abs()));
        let (name, before, recent) = (&most.name, short(most.before?), short(most.recent?));
        Some(match most.changed > 0 {
            true => Verdict::alarm(format!(
                "{count} of {all} elements of phi have changed beyond sampling noise; the most, {name:?}, went from \
                 {before} to {recent}, {errors} standard errors"
            )),
            false => Verdict::calm(format!("none of {all} elements of phi has changed beyond sampling noise")),
        })
    }

    fn gauges(rows: &[Self], gauges: &mut Gauges) {
        for most in rows.iter().take(1) {
            gauges.set(CHANGED, Some(most.changed as f64));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::judged;
    use super::*;

    #[test]
    fn drift_tells_the_largest_change() {
        let row = |changed: i64| {
            [Drift {
                n: 9,
                name: "age".to_owned(),
                before: Some(0.5),
                recent: Some(-0.25),
                z: Some(-6.0),
                p_corrected: Some(0.001),
                elements: 2,
                changed,
            }]
        };
        let text = "1 of 2 elements of phi have changed beyond sampling noise; the most, \"age\", went from 0.5 to \
                    -0.25, 6 standard errors";
        assert_eq!(judged(&row(1)), (true, text.to_owned()));
        let text = "none of 2 elements of phi has changed beyond sampling noise";
        assert_eq!(judged(&row(0)), (false, text.to_owned()));
    }
}
