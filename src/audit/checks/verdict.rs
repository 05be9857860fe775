//! Whether the whole table balances, as far as it matters.

use super::Check;
use crate::audit::figures::figures;
use crate::audit::gauges::{Gauges, family};
use crate::audit::text::{short, signed};
use crate::audit::verdict::{Conclusion, Verdict};
use crate::metrics::Family;

const VERDICT: Family = family(
    "counterweight_verdict",
    "1 for the verdict on the whole table: balanced, unbalanced or undecided; 0 for the others.",
    &["table", "audit", "verdict"],
);
const EFFECTS: &[&str] = &["table", "audit", "effect"];
const EFFECT: Family = family(
    "counterweight_imbalance",
    "Standardised imbalance, of the element furthest off, and how far it moves an estimate, in mean errors.",
    EFFECTS,
);
const LOWER: Family = family("counterweight_imbalance_lower", "Lower bound of the interval of 95 % of it.", EFFECTS);
const UPPER: Family = family("counterweight_imbalance_upper", "Upper bound of the interval of 95 % of it.", EFFECTS);

figures! {
    /// One effect of the imbalance of the whole table.
    struct Effect {
        effect: String,
        name: Option<String>,
        n: i64,
        estimate: Option<f64>,
        lower: Option<f64>,
        upper: Option<f64>,
        verdict: Option<String>,
        decides: Option<String>,
        rows_to_decide: Option<i64>,
    }
}

impl Effect {
    /// ` (-0.3 to 0.5)`; nothing where there is no interval.
    fn interval(&self, write: fn(f64) -> String) -> String {
        match (self.lower, self.upper) {
            (Some(lower), Some(upper)) => format!(" ({} to {})", write(lower), write(upper)),
            _ => String::new(),
        }
    }

    /// `IPS estimate by +4.1 % of the mean error (3.2 to 5.0)`
    fn bias(&self, estimate: &str) -> Option<String> {
        let percent = 100.0 * self.estimate?;
        let interval = self.interval(|bound| format!("{:.1}", 100.0 * bound));
        Some(format!("{estimate} estimate by {percent:+.1} % of the mean error{interval}"))
    }

    /// `the imbalance of "age" is +0.12 (0.1 to 0.14)`
    fn imbalance(&self) -> Option<String> {
        let element = match self.name.as_deref()? {
            "constant" => "the constant".to_owned(),
            name => format!("{name:?}"),
        };
        Some(format!("the imbalance of {element} is {}{}", signed(self.estimate?), self.interval(short)))
    }
}

impl Check for Effect {
    const NAME: &'static str = "verdict";
    const SQL: &'static str = include_str!("../../../sql/verdict.sql");
    const HIDDEN: &'static [&'static str] = &["n", "clusters", "verdict", "decides", "p_value", "rows_to_decide"];

    fn verdict(rows: &[Self]) -> Option<Verdict> {
        let first = rows.first()?;
        let value = Conclusion::named(first.verdict.as_deref()?)?;
        let find = |name: &str| rows.iter().find(|row| row.effect == name);
        let decides = first.decides.as_deref().unwrap_or_default();
        let ips = find("bias_ips").and_then(|row| row.bias("IPS"));
        let dr = find("bias_dr").and_then(|row| row.bias("DR"));
        let moves = [ips.clone(), dr].into_iter().flatten().collect::<Vec<_>>().join(", the ");
        let imbalance = find("imbalance").and_then(Self::imbalance)?;
        let figures = match (moves.is_empty(), decides == "bias_ips" && ips.is_some()) {
            (true, _) => imbalance,
            (false, true) => format!("the imbalance moves the {moves}"),
            (false, false) => format!("{imbalance}, and moves the {moves}"),
        };
        let why = match (value, decides, first.rows_to_decide) {
            (Conclusion::Undecided, _, Some(rows)) => format!(", about {} rows would decide", short(rows as f64)),
            (Conclusion::Undecided, "cluster", _) => {
                ", a group of clusters has more than a tenth of the variance".into()
            }
            (Conclusion::Undecided, "bias_ips", _) if ips.is_none() => {
                ", too few treated rows have an error to tell what it does to IPS".into()
            }
            _ => String::new(),
        };
        Some(Verdict::of(value, format!("{figures}: {}{why}", value.name())))
    }

    fn gauges(rows: &[Self], gauges: &mut Gauges) {
        for row in rows {
            gauges.set_labelled(EFFECT, &[&row.effect], row.estimate);
            gauges.set_labelled(LOWER, &[&row.effect], row.lower);
            gauges.set_labelled(UPPER, &[&row.effect], row.upper);
        }
        if let Some(found) = rows.first().and_then(|row| row.verdict.as_deref()) {
            for value in Conclusion::ALL {
                gauges.set_labelled(VERDICT, &[value.name()], Some(f64::from(u8::from(value.name() == found))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::judged;
    use super::*;

    fn row(effect: &str, estimate: f64, verdict: &str, decides: &str, rows_to_decide: Option<i64>) -> Effect {
        Effect {
            n: 9,
            effect: effect.to_owned(),
            name: (!effect.starts_with("bias")).then(|| "age".to_owned()),
            estimate: Some(estimate),
            lower: Some(estimate - 0.009),
            upper: Some(estimate + 0.009),
            verdict: Some(verdict.to_owned()),
            decides: Some(decides.to_owned()),
            rows_to_decide,
        }
    }

    #[test]
    fn the_verdict_tells_the_effect_that_decides() {
        let rows = |verdict, decides, rows| {
            [row("imbalance", 0.08, verdict, decides, rows), row("bias_ips", 0.041, verdict, decides, rows)]
        };
        let text = "the imbalance moves the IPS estimate by +4.1 % of the mean error (3.2 to 5.0): unbalanced";
        assert_eq!(judged(&rows("unbalanced", "bias_ips", None)), (true, text.to_owned()));
        let text = "the imbalance of \"age\" is +0.08 (0.071 to 0.089), and moves the IPS estimate by +4.1 % of the mean \
                    error (3.2 to 5.0): balanced";
        assert_eq!(judged(&rows("balanced", "imbalance", None)), (false, text.to_owned()));
        let (alarm, text) = judged(&rows("undecided", "bias_ips", Some(12_345)));
        assert!(!alarm && text.ends_with(": undecided, about 12,345 rows would decide"), "{text}");
        let (alarm, text) = judged(&rows("undecided", "cluster", None));
        assert!(!alarm && text.ends_with("has more than a tenth of the variance"), "{text}");
        let (alarm, text) = judged(&[row("imbalance", -0.2, "undecided", "bias_ips", None)]);
        assert!(!alarm && text.starts_with("the imbalance of \"age\" is -0.2 "), "{text}");
        assert!(text.ends_with("too few treated rows have an error to tell what it does to IPS"), "{text}");
    }
}
