//! The error of the predictions over everyone.

use super::Check;
use crate::audit::figures::figures;
use crate::audit::gauges::{AUDIT, Gauges, family};
use crate::audit::text::short;
use crate::audit::verdict::Verdict;
use crate::metrics::Family;

const ESTIMATE: &[&str] = &["table", "audit", "estimator"];
const ESTIMATED: Family =
    family("counterweight_estimate", "Estimate of the mean prediction error over all rows.", ESTIMATE);
const STD_ERROR: Family =
    family("counterweight_estimate_std_error", "Standard error of an estimate, where it has one.", ESTIMATE);
const TRUE_ERROR: Family =
    family("counterweight_true_error", "True mean prediction error, known in simulations.", AUDIT);

figures! {
    /// One estimate of the error over everyone.
    struct Estimate {
        estimator: String,
        n: i64,
        estimate: Option<f64>,
        std_error: Option<f64>,
        lower: Option<f64>,
        upper: Option<f64>,
        true_error: Option<f64>,
        gap: Option<f64>,
    }
}

impl Check for Estimate {
    const NAME: &'static str = "estimates";
    const SQL: &'static str = include_str!("../../../sql/estimates.sql");
    const HIDDEN: &'static [&'static str] =
        &["true_error", "null_treated", "null_error", "null_propensity", "null_phi", "null_imputed_error"];

    fn verdict(rows: &[Self]) -> Option<Verdict> {
        let find = |name: &str| rows.iter().find(|row| row.estimator == name);
        let naive = find("naive_treated")?;
        let treated = naive.estimate?;
        // The V2 forms carry a penalty: they are losses, not estimates to compare with the truth.
        let candidates = rows.iter().filter(|row| !row.estimator.ends_with("_v2"));
        let gaps = candidates.filter_map(|row| Some((row.gap?.abs(), row)));
        if let Some((gap, row)) = gaps.min_by(|one, other| one.0.total_cmp(&other.0)) {
            return Some(Verdict::calm(format!(
                "the true error is {}; {} comes closest ({} off{}), the mean over the treated is {} off",
                short(row.true_error?),
                row.estimator,
                short(gap),
                row.interval().map_or(String::new(), |interval| format!(", interval {interval}")),
                short(naive.gap?.abs())
            )));
        }
        let (row, value) =
            ["dr", "snips"].into_iter().find_map(|name| find(name).and_then(|row| Some((row, row.estimate?))))?;
        let interval = row.interval().map_or(String::new(), |interval| format!(" ({interval})"));
        let (name, value, treated) = (&row.estimator, short(value), short(treated));
        let text = format!("{name} puts the error at {value}{interval}, the mean over the treated at {treated}");
        Some(Verdict::calm(text))
    }

    fn gauges(rows: &[Self], gauges: &mut Gauges) {
        for row in rows {
            gauges.set_labelled(ESTIMATED, &[&row.estimator], row.estimate);
            gauges.set_labelled(STD_ERROR, &[&row.estimator], row.std_error);
        }
        for row in rows.iter().take(1) {
            gauges.set(TRUE_ERROR, row.true_error);
        }
    }
}

impl Estimate {
    fn interval(&self) -> Option<String> {
        Some(format!("{} to {}", short(self.lower?), short(self.upper?)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::judged;
    use super::*;

    #[test]
    fn estimates_are_compared_with_the_truth_where_it_is_known() {
        let row = |name: &str, estimate: f64, truth: Option<f64>| Estimate {
            n: 5,
            estimator: name.to_owned(),
            estimate: Some(estimate),
            true_error: truth,
            gap: truth.map(|truth| estimate - truth),
            ..Estimate::default()
        };
        let known =
            [row("naive_treated", 0.5, Some(0.25)), row("snips", 0.26, Some(0.25)), row("dr_v2", 0.25, Some(0.25))];
        let text = "the true error is 0.25; snips comes closest (0.01 off), the mean over the treated is 0.25 off";
        assert_eq!(judged(&known), (false, text.to_owned()));
        let unknown = [row("naive_treated", 0.5, None), row("snips", 0.26, None)];
        let text = "snips puts the error at 0.26, the mean over the treated at 0.5";
        assert_eq!(judged(&unknown), (false, text.to_owned()));
        let [naive, snips] = unknown;
        let snips = Estimate { lower: Some(0.24), upper: Some(0.28), ..snips };
        let text = "snips puts the error at 0.26 (0.24 to 0.28), the mean over the treated at 0.5";
        assert_eq!(judged(&[naive, snips]), (false, text.to_owned()));
    }
}
