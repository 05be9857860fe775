//! Whether the propensities are calibrated.

use super::Check;
use crate::audit::figures::figures;
use crate::audit::gauges::{AUDIT, Gauges, family};
use crate::audit::text::short;
use crate::audit::verdict::Verdict;
use crate::metrics::Family;

const ERROR: Family =
    family("counterweight_calibration_error", "Mean distance of treated rate and propensity over bins.", AUDIT);

figures! {
    /// One bin of rows by propensity.
    struct Bin {
        n: i64,
        gap_sd: Option<f64>,
        p_value: Option<f64>,
        calibration_error: Option<f64>,
        level: f64,
    }
}

impl Check for Bin {
    const NAME: &'static str = "calibration";
    const SQL: &'static str = include_str!("../../../sql/calibration.sql");
    const HIDDEN: &'static [&'static str] = &["calibration_error", "level"];

    fn verdict(rows: &[Self]) -> Option<Verdict> {
        let first = rows.first()?;
        let (error, level) = (first.calibration_error?, first.level);
        let worst = rows.iter().filter_map(|row| row.gap_sd).map(f64::abs).fold(0.0, f64::max);
        // At most this chance that one of the bins is so far off.
        let p = rows.len() as f64 * rows.iter().filter_map(|row| row.p_value).fold(1.0, f64::min);
        let figure = format!(
            "the calibration error is {}, and the worst bin is {} standard deviations off",
            short(error),
            short(worst)
        );
        Some(match p <= level {
            true => Verdict::alarm(format!("{figure}: the propensities are miscalibrated beyond the tolerance")),
            false => Verdict::calm(format!("{figure}: chance and the tolerance explain it")),
        })
    }

    fn gauges(rows: &[Self], gauges: &mut Gauges) {
        for row in rows.iter().take(1) {
            gauges.set(ERROR, row.calibration_error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::judged;
    use super::*;

    #[test]
    fn the_worst_of_many_bins_may_be_off_by_chance() {
        let bins = |p: f64| {
            [p, 0.9].map(|p| Bin {
                n: 5,
                gap_sd: Some(3.0),
                p_value: Some(p),
                calibration_error: Some(0.01),
                level: 0.01,
            })
        };
        assert!(!judged(&bins(0.006)).0);
        assert!(judged(&bins(0.004)).0);
    }
}
