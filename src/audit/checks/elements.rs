//! Which elements of φ do not balance.

use super::Check;
use crate::audit::figures::figures;
use crate::audit::gauges::{AUDIT, Gauges, family};
use crate::audit::text::short;
use crate::audit::verdict::Verdict;
use crate::metrics::Family;

const ELEMENTS: Family = family("counterweight_phi_elements", "Elements of phi.", AUDIT);
const OUT_OF_BALANCE: Family =
    family("counterweight_phi_elements_out_of_balance", "Elements of phi out of balance beyond sampling noise.", AUDIT);

figures! {
    /// The imbalance of one element of φ.
    struct Element {
        name: String,
        n: i64,
        z: Option<f64>,
        p_corrected: Option<f64>,
        elements: i64,
        out_of_balance: i64,
    }
}

impl Check for Element {
    const NAME: &'static str = "elements";
    const SQL: &'static str = include_str!("../../../sql/elements.sql");
    const HIDDEN: &'static [&'static str] =
        &["elements", "out_of_balance", "untested", "rows_skipped", "null_treated", "null_propensity", "null_phi"];

    fn verdict(rows: &[Self]) -> Option<Verdict> {
        let worst = rows.first()?;
        let (name, z) = (&worst.name, worst.z?);
        let (size, side) = (short(z.abs()), if z < 0.0 { "below" } else { "above" });
        let far = format!("{name:?}, is {size} standard errors {side} 0");
        let (all, out) = (short(worst.elements as f64), short(worst.out_of_balance as f64));
        if worst.out_of_balance == 0 {
            let text =
                format!("none of {all} elements of phi is out of balance beyond sampling noise; the furthest, {far}");
            return worst.p_corrected.map(|_| Verdict::calm(text));
        }
        let side = if z < 0.0 { "high" } else { "low" };
        let share = format!("{out} of {all} elements of phi are out of balance beyond sampling noise");
        let text = format!("{share}; the worst, {far}: the propensities are too {side} where it is large");
        Some(Verdict::alarm(text))
    }

    fn gauges(rows: &[Self], gauges: &mut Gauges) {
        for row in rows.iter().take(1) {
            gauges.set(ELEMENTS, Some(row.elements as f64));
            gauges.set(OUT_OF_BALANCE, Some(row.out_of_balance as f64));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::judged;
    use super::*;

    #[test]
    fn elements_say_which_way_they_are_off() {
        let row = |z: f64, p_corrected: Option<f64>, out_of_balance: i64| {
            [Element { n: 9, name: "x[3]".to_owned(), z: Some(z), p_corrected, elements: 4, out_of_balance }]
        };
        let (alarm, text) = judged(&row(-12.0, Some(1e-9), 2));
        let worst =
            "the worst, \"x[3]\", is 12 standard errors below 0: the propensities are too high where it is large";
        assert!(alarm);
        assert_eq!(text, format!("2 of 4 elements of phi are out of balance beyond sampling noise; {worst}"));
        let (alarm, text) = judged(&row(1.5, Some(0.5), 0));
        let furthest = "the furthest, \"x[3]\", is 1.5 standard errors above 0";
        assert!(!alarm);
        assert_eq!(text, format!("none of 4 elements of phi is out of balance beyond sampling noise; {furthest}"));
        assert_eq!(judged(&row(1.5, None, 0)), (false, "there are too few rows to judge by".to_owned()));
    }
}
