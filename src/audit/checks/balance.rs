//! The imbalance of the whole table, against its sampling noise.

use super::Check;
use crate::audit::figures::figures;
use crate::audit::gauges::{AUDIT, Gauges, family};
use crate::audit::text::short;
use crate::audit::verdict::Verdict;
use crate::metrics::Family;

const ROWS: Family = family("counterweight_rows", "Rows audited.", AUDIT);
const ROWS_SKIPPED: Family =
    family("counterweight_rows_skipped", "Rows left out for a NULL treatment, propensity or phi.", AUDIT);
const ROWS_NULL: Family = family(
    "counterweight_rows_null",
    "Rows left out for a NULL in the role, and in none before it.",
    &["table", "audit", "role"],
);
const TREATED: Family = family("counterweight_treated_ratio", "Share of rows that are treated.", AUDIT);
const MEAN_PROPENSITY: Family = family("counterweight_propensity_mean", "Mean propensity.", AUDIT);

const BALANCE: &[&str] = &["table", "audit", "phi", "segment_column", "segment"];
const BMSE: Family = family("counterweight_bmse", "Squared length of the mean of balance weight times phi.", BALANCE);
const UNBIASED: Family =
    family("counterweight_bmse_unbiased", "BMSE with its sampling noise taken off; may be negative.", BALANCE);
const NOISE_FLOOR: Family =
    family("counterweight_bmse_noise_floor", "BMSE that true propensities would leave on average.", BALANCE);
const NOISE_RATIO: Family =
    family("counterweight_bmse_noise_ratio", "BMSE over its sampling noise; about 1 for true propensities.", BALANCE);

figures! {
    /// The balance of the whole table.
    struct Balance {
        n: i64,
        rows_skipped: i64,
        null_treated: i64,
        null_propensity: i64,
        null_phi: i64,
        treated_rate: Option<f64>,
        mean_propensity: Option<f64>,
        bmse: Option<f64>,
        bmse_unbiased: Option<f64>,
        noise_floor: Option<f64>,
        times_noise: Option<f64>,
    }
}

impl Check for Balance {
    const NAME: &'static str = "balance";
    const SQL: &'static str = include_str!("../../../sql/balance.sql");

    fn verdict(rows: &[Self]) -> Option<Verdict> {
        let row = rows.first()?;
        let (bmse, times) = (short(row.bmse?), short(row.times_noise?));
        Some(Verdict::calm(format!("BMSE {bmse} is {times} × its noise floor")))
    }

    fn gauges(rows: &[Self], gauges: &mut Gauges) {
        for row in rows {
            gauges.set(ROWS, Some(row.n as f64));
            gauges.set(ROWS_SKIPPED, Some(row.rows_skipped as f64));
            let by_role = [("treated", row.null_treated), ("propensity", row.null_propensity), ("phi", row.null_phi)];
            for (role, rows) in by_role {
                gauges.set_labelled(ROWS_NULL, &[role], Some(rows as f64));
            }
            gauges.set(TREATED, row.treated_rate);
            gauges.set(MEAN_PROPENSITY, row.mean_propensity);
            set_balance(gauges, ["", ""], [row.bmse, row.bmse_unbiased, row.noise_floor, row.times_noise]);
        }
    }
}

/// Sets the families of balance, of which a segment has a series, too: BMSE, its unbiased form, its noise floor and its
/// ratio to the noise.
pub(super) fn set_balance(gauges: &mut Gauges, segment: [&str; 2], figures: [Option<f64>; 4]) {
    for (family, figure) in [BMSE, UNBIASED, NOISE_FLOOR, NOISE_RATIO].into_iter().zip(figures) {
        gauges.set_labelled(family, &segment, figure);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::judged;
    use super::*;

    #[test]
    fn balance_is_told_against_noise() {
        let row = Balance { n: 9, bmse: Some(3.1e-3), times_noise: Some(41.0), ..Balance::default() };
        assert_eq!(judged(&[row]), (false, "BMSE 0.0031 is 41 × its noise floor".to_owned()));
        let none = Balance { n: 1, bmse: Some(1.0), ..Balance::default() };
        assert_eq!(judged(&[none]), (false, "there are too few rows to judge by".to_owned()));
        assert_eq!(judged(&[Balance::default()]), (false, "there are no rows to judge by".to_owned()));
    }
}
