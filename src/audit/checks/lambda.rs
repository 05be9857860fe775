//! The λ at which IPS-V2 and DR-V2 vary least.

use super::Check;
use crate::audit::figures::figures;
use crate::audit::text::{percent, short};
use crate::audit::thresholds::LAMBDA_ELEMENTS;
use crate::audit::verdict::Verdict;

figures! {
    /// The λ at which one estimator varies least.
    struct Optimum {
        estimator: String,
        n: i64,
        elements: Option<i64>,
        lambda: Option<f64>,
        saved: Option<f64>,
    }
}

impl Check for Optimum {
    const NAME: &'static str = "lambda";
    const SQL: &'static str = include_str!("../../../sql/lambda.sql");
    const HIDDEN: &'static [&'static str] =
        &["elements", "null_treated", "null_propensity", "null_phi", "null_error", "null_imputed_error"];

    fn verdict(rows: &[Self]) -> Option<Verdict> {
        let elements = rows.first()?.elements?;
        if elements > LAMBDA_ELEMENTS {
            let elements = short(elements as f64);
            let text =
                format!("phi has {elements} elements, more than the {LAMBDA_ELEMENTS} whose covariances are kept");
            return Some(Verdict::calm(text));
        }
        let optimum = |row: &Self| {
            let (name, plain) = match row.estimator.as_str() {
                "ips_v2" => ("IPS-V2", "IPS"),
                _ => ("DR-V2", "DR"),
            };
            let (lambda, saved) = (short(row.lambda?), percent(row.saved?));
            Some(format!("{name} varies least at λ = {lambda}, by {saved} less than {plain}"))
        };
        let found: Vec<_> = rows.iter().filter_map(optimum).collect();
        (!found.is_empty()).then(|| Verdict::calm(found.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::judged;
    use super::*;

    #[test]
    fn the_best_lambda_is_told_and_phi_may_be_too_wide_for_it() {
        let row = |name: &str, elements: i64, lambda: Option<f64>| Optimum {
            n: 9,
            estimator: name.to_owned(),
            elements: Some(elements),
            lambda,
            saved: lambda.map(|_| 0.25),
        };
        let text = "IPS-V2 varies least at λ = -0.5, by 25.0 % less than IPS; DR-V2 varies least at λ = 2, by 25.0 % \
                    less than DR";
        let both = [row("ips_v2", 3, Some(-0.5)), row("dr_v2", 3, Some(2.0))];
        assert_eq!(judged(&both), (false, text.to_owned()));
        let text = "phi has 70 elements, more than the 62 whose covariances are kept";
        assert_eq!(judged(&[row("ips_v2", 70, None)]), (false, text.to_owned()));
        assert_eq!(judged(&[row("ips_v2", 3, None)]).1, "there are too few rows to judge by");
    }
}
