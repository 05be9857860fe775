//! Which elements of φ do not balance.

use super::Check;
use super::segments::shares;
use crate::audit::figures::figures;
use crate::audit::gauges::{AUDIT, Gauges, family};
use crate::audit::text::{short, signed};
use crate::audit::verdict::{Conclusion, Verdict};
use crate::metrics::Family;

const ELEMENTS: Family =
    family("counterweight_phi_elements", "Elements of phi that vary, and the constant, which is one.", AUDIT);
const OUT_OF_BALANCE: Family =
    family("counterweight_phi_elements_out_of_balance", "Elements of phi out of balance beyond the tolerance.", AUDIT);

figures! {
    /// The imbalance of one element of φ.
    struct Element {
        name: String,
        n: i64,
        imbalance: Option<f64>,
        lower: Option<f64>,
        upper: Option<f64>,
        elements: i64,
        out_of_balance: i64,
        balanced: i64,
        undecided: i64,
    }
}

impl Check for Element {
    const NAME: &'static str = "elements";
    const SQL: &'static str = include_str!("../../../sql/elements.sql");
    const HIDDEN: &'static [&'static str] = &[
        "elements",
        "out_of_balance",
        "balanced",
        "undecided",
        "untested",
        "rows_skipped",
        "null_treated",
        "null_propensity",
        "null_phi",
    ];

    fn verdict(rows: &[Self]) -> Option<Verdict> {
        let worst = rows.first()?;
        let (name, imbalance) = (&worst.name, worst.imbalance?);
        let (far, between) = (signed(imbalance), [short(worst.lower?), short(worst.upper?)].join(" to "));
        let value = Conclusion::of_counts(worst.out_of_balance, worst.undecided);
        let shares = shares(worst.elements, "elements of phi", worst.out_of_balance, worst.balanced, worst.undecided);
        if worst.out_of_balance == 0 {
            return Some(Verdict::of(value, format!("{shares}; the furthest off, {name:?}, is {far} ({between})")));
        }
        let side = if imbalance < 0.0 { "high" } else { "low" };
        let whose = if name == "constant" { "on average" } else { "where it is large" };
        let text =
            format!("{shares}; the worst, {name:?}, is {far} ({between}): the propensities are too {side} {whose}");
        Some(Verdict::of(value, text))
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
        let row = |imbalance: f64, upper: Option<f64>, out_of_balance: i64, undecided: i64| {
            [Element {
                n: 9,
                name: "x[3]".to_owned(),
                imbalance: Some(imbalance),
                lower: Some(-0.5),
                upper,
                elements: 4,
                out_of_balance,
                balanced: 1,
                undecided,
            }]
        };
        let text = "2 of 4 elements of phi are unbalanced, 1 balanced and 1 undecided; the worst, \"x[3]\", is -0.3 (-0.5 to \
                    -0.1): the propensities are too high where it is large";
        assert_eq!(judged(&row(-0.3, Some(-0.1), 2, 1)), (true, text.to_owned()));
        let text = "0 of 4 elements of phi are unbalanced, 1 balanced and 3 undecided; the furthest off, \"x[3]\", is +0.1 \
                    (-0.5 to 0.7)";
        assert_eq!(judged(&row(0.1, Some(0.7), 0, 3)), (false, text.to_owned()));
        assert_eq!(judged(&row(0.1, None, 0, 3)), (false, "there are too few rows to judge by".to_owned()));
    }
}
