//! How well the propensities predict the treatment.

use super::Check;
use crate::audit::figures::figures;
use crate::audit::text::percent;
use crate::audit::verdict::Verdict;

figures! {
    /// How well the propensities of the whole table predict the treatment.
    struct PropensityFit {
        n: i64,
        explained: Option<f64>,
        p_value: Option<f64>,
        level: f64,
    }
}

impl Check for PropensityFit {
    const NAME: &'static str = "propensity_fit";
    const SQL: &'static str = include_str!("../../../sql/propensity_fit.sql");
    const HIDDEN: &'static [&'static str] = &["level"];

    fn verdict(rows: &[Self]) -> Option<Verdict> {
        let row = rows.first()?;
        let explained = row.explained?;
        Some(match row.p_value? <= row.level {
            true => Verdict::alarm("the propensities predict the treatment worse than one constant would"),
            false => Verdict::calm(format!("the propensities save {} of a constant's log loss", percent(explained))),
        })
    }
}
