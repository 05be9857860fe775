//! Which segments do not balance.

use super::Check;
use super::balance::set_balance;
use crate::audit::figures::figures;
use crate::audit::gauges::{Gauges, family};
use crate::audit::text::{segment_name, short, signed};
use crate::audit::verdict::{Conclusion, Verdict};
use crate::metrics::Family;

const SEGMENTS: &[&str] = &["table", "audit", "segment_column"];
const LOOKED_AT: Family = family("counterweight_segments", "Segments looked at.", SEGMENTS);
const OUT_OF_BALANCE: Family =
    family("counterweight_segments_out_of_balance", "Segments out of balance beyond the tolerance.", SEGMENTS);

figures! {
    /// The balance of one segment.
    struct Segment {
        segment_column: String,
        segment: Option<String>,
        n: i64,
        bmse: Option<f64>,
        bmse_unbiased: Option<f64>,
        noise_floor: Option<f64>,
        times_noise: Option<f64>,
        imbalance: Option<f64>,
        segments: i64,
        out_of_balance: i64,
        balanced: i64,
        undecided: i64,
    }
}

impl Check for Segment {
    const NAME: &'static str = "segments";
    const SQL: &'static str = include_str!("../../../sql/segments.sql");
    const HIDDEN: &'static [&'static str] = &[
        "segment_column",
        "segments",
        "out_of_balance",
        "balanced",
        "undecided",
        "null_treated",
        "null_propensity",
        "null_phi",
    ];

    fn verdict(rows: &[Self]) -> Option<Verdict> {
        let worst = rows.first()?;
        let value = Conclusion::of_counts(worst.out_of_balance, worst.undecided);
        let shares = shares(worst.segments, "segments", worst.out_of_balance, worst.balanced, worst.undecided);
        if worst.out_of_balance == 0 {
            return Some(Verdict::of(value, shares));
        }
        let name = worst.segment.as_ref().map_or("NULL".to_owned(), |name| format!("{name:?}"));
        let imbalance = signed(worst.imbalance?);
        Some(Verdict::of(value, format!("{shares}; the worst, {name}, has an imbalance of {imbalance}")))
    }

    fn gauges(rows: &[Self], gauges: &mut Gauges) {
        for row in rows {
            gauges.set_labelled(LOOKED_AT, &[&row.segment_column], Some(row.segments as f64));
            gauges.set_labelled(OUT_OF_BALANCE, &[&row.segment_column], Some(row.out_of_balance as f64));
            let figures = [row.bmse, row.bmse_unbiased, row.noise_floor, row.times_noise];
            set_balance(gauges, [&row.segment_column, &segment_name(row.segment.as_deref())], figures);
        }
    }
}

/// How many of all are unbalanced, balanced and undecided.
pub(super) fn shares(all: i64, of: &str, unbalanced: i64, balanced: i64, undecided: i64) -> String {
    let [all, unbalanced, balanced, undecided] = [all, unbalanced, balanced, undecided].map(|n| short(n as f64));
    format!("{unbalanced} of {all} {of} are unbalanced, {balanced} balanced and {undecided} undecided")
}

#[cfg(test)]
mod tests {
    use super::super::tests::judged;
    use super::*;

    #[test]
    fn without_segments_there_is_nothing_to_judge() {
        assert_eq!(judged::<Segment>(&[]), (false, "there are no rows to judge by".to_owned()));
    }

    #[test]
    fn the_worst_segment_is_named_where_one_is_unbalanced() {
        let row = |out_of_balance, undecided| {
            [Segment {
                n: 9,
                segment: Some("a".to_owned()),
                imbalance: Some(-0.25),
                segments: 20,
                out_of_balance,
                balanced: 3,
                undecided,
                ..Segment::default()
            }]
        };
        let text =
            "2 of 20 segments are unbalanced, 3 balanced and 15 undecided; the worst, \"a\", has an imbalance of -0.25";
        assert_eq!(judged(&row(2, 15)), (true, text.to_owned()));
        let text = "0 of 20 segments are unbalanced, 3 balanced and 17 undecided";
        assert_eq!(judged(&row(0, 17)), (false, text.to_owned()));
    }
}
