//! Where the propensities are too close to 0 or 1.

use super::Check;
use crate::audit::figures::figures;
use crate::audit::gauges::{AUDIT, Gauges, family};
use crate::audit::text::{percent, short};
use crate::audit::verdict::Verdict;
use crate::metrics::Family;

const BELOW: Family =
    family("counterweight_propensity_below_ratio", "Share of rows with a propensity below the bound.", AUDIT);
const ABOVE: Family =
    family("counterweight_propensity_above_ratio", "Share of rows with a propensity above the bound.", AUDIT);

figures! {
    /// What the propensities of the whole table look like.
    struct Positivity {
        n: i64,
        n_invalid: Option<i64>,
        n_certain: i64,
        min_propensity: Option<f64>,
        max_propensity: Option<f64>,
        lower_bound: f64,
        share_below: Option<f64>,
        weight_below: Option<f64>,
        upper_bound: f64,
        share_above: Option<f64>,
        weight_above: Option<f64>,
    }
}

impl Check for Positivity {
    const NAME: &'static str = "positivity";
    const SQL: &'static str = include_str!("../../../sql/positivity.sql");
    const EVERY_ROW: bool = true;

    fn verdict(rows: &[Self]) -> Option<Verdict> {
        let row = rows.first()?;
        let invalid = row.n_invalid?;
        if invalid > 0 {
            let text = format!("{} rows hold no propensity and treatment that can be", short(invalid as f64));
            return Some(Verdict::alarm(text));
        }
        if row.n_certain > 0 {
            let certain = short(row.n_certain as f64);
            let text = format!("{certain} rows have a propensity of exactly 0 or 1: no weight makes up for them");
            return Some(Verdict::alarm(text));
        }
        let beyond = |side: &str, bound: f64, share: f64, weight: Option<f64>, arm: &str| {
            let weight = weight.map(|weight| format!(" ({} of the weight of the {arm})", percent(weight)));
            format!("{} of the rows are {side} {}{}", percent(share), short(bound), weight.unwrap_or_default())
        };
        let below = beyond("below", row.lower_bound, row.share_below?, row.weight_below, "treated");
        let above = beyond("above", row.upper_bound, row.share_above?, row.weight_above, "untreated");
        let (min, max) = (short(row.min_propensity?), short(row.max_propensity?));
        Some(Verdict::calm(format!("the propensities run from {min} to {max}; {below}, {above}")))
    }

    fn gauges(rows: &[Self], gauges: &mut Gauges) {
        for row in rows {
            gauges.set(BELOW, row.share_below);
            gauges.set(ABOVE, row.share_above);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::judged;
    use super::*;

    #[test]
    fn propensities_that_cannot_be_or_leave_no_choice_are_alarming_and_small_ones_are_not() {
        let row = |n_invalid: i64, n_certain: i64| {
            [Positivity {
                n: 9,
                n_invalid: Some(n_invalid),
                n_certain,
                min_propensity: Some(0.002),
                max_propensity: Some(0.5),
                lower_bound: 0.01,
                share_below: Some(0.25),
                weight_below: Some(0.5),
                upper_bound: 0.99,
                share_above: Some(0.0),
                weight_above: None,
            }]
        };
        let text = "the propensities run from 0.002 to 0.5; 25.0 % of the rows are below 0.01 (50.0 % of the weight of \
                    the treated), 0.0 % of the rows are above 0.99";
        assert_eq!(judged(&row(0, 0)), (false, text.to_owned()));
        let text = "7 rows have a propensity of exactly 0 or 1: no weight makes up for them";
        assert_eq!(judged(&row(0, 7)), (true, text.to_owned()));
        assert!(judged(&row(3, 0)).0);
    }
}
