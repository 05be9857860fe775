//! How much a few rows weigh.

use super::Check;
use crate::audit::figures::figures;
use crate::audit::gauges::{AUDIT, Gauges, family};
use crate::audit::text::{percent, short};
use crate::audit::verdict::Verdict;
use crate::metrics::Family;

const SAMPLE_SIZE: Family =
    family("counterweight_effective_sample_size", "Equally weighted rows worth the weighted treated ones.", AUDIT);
const SAMPLE_RATIO: Family =
    family("counterweight_effective_sample_ratio", "Effective sample size over treated rows.", AUDIT);
const MAX_WEIGHT: Family = family("counterweight_max_weight", "Largest inverse propensity weight.", AUDIT);
const MAX_WEIGHT_RATIO: Family =
    family("counterweight_max_weight_ratio", "Share of all weight that the heaviest row has.", AUDIT);

figures! {
    /// The inverse propensity weights of the whole table.
    struct Weights {
        n: i64,
        treated_rows: Option<f64>,
        max_weight: Option<f64>,
        largest_share: Option<f64>,
        effective_sample_size: Option<f64>,
        effective_share: Option<f64>,
        least_share: f64,
    }
}

impl Check for Weights {
    const NAME: &'static str = "weights";
    const SQL: &'static str = include_str!("../../../sql/weights.sql");
    const HIDDEN: &'static [&'static str] = &["least_share"];

    fn verdict(rows: &[Self]) -> Option<Verdict> {
        let row = rows.first()?;
        let share = row.effective_share?;
        let text = format!(
            "{} treated rows are worth {} equally weighted ones ({}); the heaviest has {} of all weight",
            short(row.treated_rows?),
            short(row.effective_sample_size?),
            percent(share),
            percent(row.largest_share?)
        );
        Some(if share < row.least_share { Verdict::alarm(text) } else { Verdict::calm(text) })
    }

    fn gauges(rows: &[Self], gauges: &mut Gauges) {
        for row in rows {
            gauges.set(SAMPLE_SIZE, row.effective_sample_size);
            gauges.set(SAMPLE_RATIO, row.effective_share);
            gauges.set(MAX_WEIGHT, row.max_weight);
            gauges.set(MAX_WEIGHT_RATIO, row.largest_share);
        }
    }
}
