//! Whether the propensities are calibrated.

use super::Check;
use crate::audit::figures::figures;
use crate::audit::gauges::{AUDIT, Gauges, family};
use crate::audit::text::short;
use crate::audit::thresholds::SIGNIFICANCE;
use crate::audit::verdict::Verdict;
use crate::metrics::Family;

const ERROR: Family =
    family("counterweight_calibration_error", "Mean distance of treated rate and propensity over bins.", AUDIT);

figures! {
    /// One bin of rows by propensity.
    struct Bin {
        n: i64,
        gap_sd: Option<f64>,
        calibration_error: Option<f64>,
    }
}

impl Check for Bin {
    const NAME: &'static str = "calibration";
    const SQL: &'static str = include_str!("../../../sql/calibration.sql");
    const HIDDEN: &'static [&'static str] = &["calibration_error"];

    fn verdict(rows: &[Self]) -> Option<Verdict> {
        let error = rows.first()?.calibration_error?;
        let worst = rows.iter().filter_map(|row| row.gap_sd).map(f64::abs).fold(0.0, f64::max);
        // At most this chance that one of the bins is so far off: the tail of the normal distribution is below
        // exp(-z²/2).
        let p = rows.len() as f64 * (-worst * worst / 2.0).exp();
        let figure = format!(
            "the calibration error is {}, and the worst bin is {} standard deviations off",
            short(error),
            short(worst)
        );
        Some(match p < SIGNIFICANCE {
            true => Verdict::alarm(format!("{figure}: the propensities are miscalibrated")),
            false => Verdict::calm(format!("{figure}: within sampling noise")),
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
    fn the_worst_of_many_bins_may_be_far_off_by_chance() {
        let bins = |z: f64| [z, 0.1].map(|z| Bin { n: 5, gap_sd: Some(z), calibration_error: Some(0.01) });
        assert!(!judged(&bins(-3.0)).0);
        assert!(judged(&bins(-5.0)).0);
    }
}
