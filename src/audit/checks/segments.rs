//! Which segments do not balance.

use super::Check;
use super::balance::set_balance;
use crate::audit::figures::figures;
use crate::audit::gauges::{Gauges, family};
use crate::audit::text::{segment_name, short};
use crate::audit::verdict::Verdict;
use crate::metrics::Family;

const SEGMENTS: &[&str] = &["table", "audit", "segment_column"];
const LOOKED_AT: Family = family("counterweight_segments", "Segments looked at.", SEGMENTS);
const OUT_OF_BALANCE: Family =
    family("counterweight_segments_out_of_balance", "Segments out of balance beyond sampling noise.", SEGMENTS);

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
        segments: i64,
        out_of_balance: i64,
    }
}

impl Check for Segment {
    const NAME: &'static str = "segments";
    const SQL: &'static str = include_str!("../../../sql/segments.sql");
    const HIDDEN: &'static [&'static str] =
        &["segment_column", "segments", "out_of_balance", "null_treated", "null_propensity", "null_phi"];

    fn verdict(rows: &[Self]) -> Option<Verdict> {
        let worst = rows.first()?;
        let all = short(worst.segments as f64);
        if worst.out_of_balance == 0 {
            return Some(Verdict::calm(format!("none of {all} segments is out of balance beyond sampling noise")));
        }
        let out = short(worst.out_of_balance as f64);
        let share = format!("{out} of {all} segments are out of balance beyond sampling noise");
        let name = worst.segment.as_ref().map_or("NULL".to_owned(), |name| format!("{name:?}"));
        let times = short(worst.times_noise?);
        Some(Verdict::alarm(format!("{share}; the worst, {name}, has {times} × its noise floor")))
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

#[cfg(test)]
mod tests {
    use super::super::tests::judged;
    use super::*;

    #[test]
    fn without_segments_there_is_nothing_to_judge() {
        assert_eq!(judged::<Segment>(&[]), (false, "there are no rows to judge by".to_owned()));
    }
}
