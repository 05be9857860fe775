//! The balance day by day.

use super::Check;
use crate::audit::figures::figures;
use crate::audit::gauges::{AUDIT, Gauges, family};
use crate::audit::text::short;
use crate::audit::verdict::Verdict;
use crate::metrics::Family;

const DAYS_OUT: Family =
    family("counterweight_days_out_of_balance", "Days out of balance beyond sampling noise.", AUDIT);
const WEEKS_OUT: Family =
    family("counterweight_weeks_out_of_balance", "Days that end a week out of balance beyond sampling noise.", AUDIT);

figures! {
    /// The balance of one day, and of the week that ends on it.
    struct Day {
        n: i64,
        days: i64,
        out_of_balance: i64,
        weeks_out_of_balance: i64,
    }
}

impl Check for Day {
    const NAME: &'static str = "trend";
    const SQL: &'static str = include_str!("../../../sql/trend.sql");
    const HIDDEN: &'static [&'static str] =
        &["days", "out_of_balance", "weeks_out_of_balance", "null_treated", "null_propensity", "null_phi", "null_day"];

    fn verdict(rows: &[Self]) -> Option<Verdict> {
        let day = rows.first()?;
        let all = short(day.days as f64);
        if day.out_of_balance == 0 && day.weeks_out_of_balance == 0 {
            return Some(Verdict::calm(format!("none of {all} days is out of balance beyond sampling noise")));
        }
        let (out, weeks) = (short(day.out_of_balance as f64), short(day.weeks_out_of_balance as f64));
        let days = format!("{out} of {all} days are out of balance beyond sampling noise");
        Some(Verdict::alarm(format!("{days}, and so are {weeks} of the weeks that end on them")))
    }

    fn gauges(rows: &[Self], gauges: &mut Gauges) {
        for day in rows.iter().take(1) {
            gauges.set(DAYS_OUT, Some(day.out_of_balance as f64));
            gauges.set(WEEKS_OUT, Some(day.weeks_out_of_balance as f64));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::judged;
    use super::*;

    #[test]
    fn days_and_weeks_alarm_each_on_its_own() {
        let row = |out_of_balance, weeks_out_of_balance| [Day { n: 9, days: 20, out_of_balance, weeks_out_of_balance }];
        let text = "none of 20 days is out of balance beyond sampling noise";
        assert_eq!(judged(&row(0, 0)), (false, text.to_owned()));
        let text = "0 of 20 days are out of balance beyond sampling noise, and so are 2 of the weeks that end on them";
        assert_eq!(judged(&row(0, 2)), (true, text.to_owned()));
        assert!(judged(&row(1, 0)).0);
    }
}
