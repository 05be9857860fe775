//! Which rows cannot count, and why.

use super::Check;
use crate::audit::figures::figures;
use crate::audit::gauges::{Gauges, family};
use crate::audit::text::{percent, short};
use crate::audit::verdict::Verdict;
use crate::metrics::Family;

const BAD: Family = family(
    "counterweight_rows_bad",
    "Rows left out for a treatment, propensity, phi or cluster that is NULL or cannot be.",
    &["table", "audit", "reason"],
);

figures! {
    /// The rows of the whole table.
    struct Rows {
        n: i64,
        all_rows: i64,
        share: Option<f64>,
        refused: i64,
        invalid_treated: i64,
        invalid_propensity: i64,
        impossible: i64,
        invalid_phi: i64,
        null_treated: i64,
        null_cluster: i64,
        null_propensity: i64,
        null_phi: i64,
    }
}

impl Rows {
    fn by_reason(&self) -> [(&'static str, i64); 8] {
        [
            ("invalid_treated", self.invalid_treated),
            ("invalid_propensity", self.invalid_propensity),
            ("impossible", self.impossible),
            ("invalid_phi", self.invalid_phi),
            ("null_treated", self.null_treated),
            ("null_cluster", self.null_cluster),
            ("null_propensity", self.null_propensity),
            ("null_phi", self.null_phi),
        ]
    }
}

impl Check for Rows {
    const NAME: &'static str = "rows";
    const SQL: &'static str = include_str!("../../../sql/rows.sql");
    const EVERY_ROW: bool = true;

    fn verdict(rows: &[Self]) -> Option<Verdict> {
        let row = rows.first()?;
        let (bad, all) = (row.all_rows - row.n, short(row.all_rows as f64));
        if bad == 0 {
            return Some(Verdict::plain(format!("all {all} rows count")));
        }
        let share = percent(row.share?);
        let text = format!("{} of {all} rows ({share}) cannot count", short(bad as f64));
        Some(match row.refused {
            0 => Verdict::calm(text),
            refused => Verdict::alarm(format!("{text}; of {} the values cannot be", short(refused as f64))),
        })
    }

    fn gauges(rows: &[Self], gauges: &mut Gauges) {
        for row in rows {
            for (reason, rows) in row.by_reason() {
                gauges.set_labelled(BAD, &[reason], Some(rows as f64));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::judged;
    use super::*;

    #[test]
    fn rows_whose_values_cannot_be_alarm_and_missing_ones_do_not() {
        let row = |n: i64, refused: i64| {
            [Rows { n, all_rows: 10, share: Some(1.0 - n as f64 / 10.0), refused, ..Rows::default() }]
        };
        assert_eq!(judged(&row(10, 0)), (false, "all 10 rows count".to_owned()));
        assert_eq!(judged(&row(8, 0)), (false, "2 of 10 rows (20.0 %) cannot count".to_owned()));
        let text = "2 of 10 rows (20.0 %) cannot count; of 1 the values cannot be";
        assert_eq!(judged(&row(8, 1)), (true, text.to_owned()));
    }
}
