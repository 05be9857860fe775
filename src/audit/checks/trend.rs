//! The balance day by day.

use super::Check;
use super::segments::shares;
use crate::audit::figures::figures;
use crate::audit::gauges::{AUDIT, Gauges, family};
use crate::audit::verdict::{Conclusion, Verdict};
use crate::metrics::Family;

const DAYS_OUT: Family =
    family("counterweight_days_out_of_balance", "Days out of balance beyond the tolerance.", AUDIT);

figures! {
    /// The balance of one day.
    struct Day {
        n: i64,
        days: i64,
        out_of_balance: i64,
        balanced: i64,
        undecided: i64,
    }
}

impl Check for Day {
    const NAME: &'static str = "trend";
    const SQL: &'static str = include_str!("../../../sql/trend.sql");
    const HIDDEN: &'static [&'static str] =
        &["days", "out_of_balance", "balanced", "undecided", "null_treated", "null_propensity", "null_phi", "null_day"];

    fn verdict(rows: &[Self]) -> Option<Verdict> {
        let day = rows.first()?;
        let text = shares(day.days, "days", day.out_of_balance, day.balanced, day.undecided);
        Some(Verdict::of(Conclusion::of_counts(day.out_of_balance, day.undecided), text))
    }

    fn gauges(rows: &[Self], gauges: &mut Gauges) {
        for day in rows.iter().take(1) {
            gauges.set(DAYS_OUT, Some(day.out_of_balance as f64));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::judged;
    use super::*;

    #[test]
    fn an_unbalanced_day_alarms() {
        let row = |out_of_balance, undecided| [Day { n: 9, days: 20, out_of_balance, balanced: 5, undecided }];
        let text = "0 of 20 days are unbalanced, 5 balanced and 15 undecided";
        assert_eq!(judged(&row(0, 15)), (false, text.to_owned()));
        assert!(judged(&row(1, 14)).0);
    }
}
