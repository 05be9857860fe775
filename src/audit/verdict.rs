//! What the figures of an answer say, in one line.

use serde::Serialize;

use super::figures::{Row, number, percent, short};

/// Below this a p-value is not taken for chance. The audit's SQL corrects for the number of segments and uses the same.
const SIGNIFICANT: f64 = 0.01;
/// An effective sample below this share of the treated rows is dominated by few of them.
const POOR_SAMPLE: f64 = 0.1;

/// What an answer says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Verdict {
    /// One line, for a person.
    pub(super) text: String,
    /// Whether it is a reason to distrust the propensities.
    pub(super) alarm: bool,
}

fn verdict(alarm: bool, text: impl Into<String>) -> Verdict {
    Verdict { text: text.into(), alarm }
}

/// The verdict on the rows that answer the question of that name.
pub(super) fn judge(question: &str, rows: &[Row]) -> Verdict {
    let Some(first) = rows.first().filter(|row| number(row, "n") != Some(0.0)) else {
        return verdict(false, "there are no rows to judge by");
    };
    let found = match question {
        "balance" => balance(first),
        "segments" => segments(first),
        "weights" => weights(first),
        "calibration" => calibration(rows),
        "propensity_fit" => propensity_fit(first),
        "estimates" => estimates(rows),
        _ => None,
    };
    found.unwrap_or_else(|| verdict(false, "there are too few rows to judge by"))
}

fn balance(row: &Row) -> Option<Verdict> {
    let (bmse, times, p) = (number(row, "bmse")?, number(row, "times_noise")?, number(row, "p_value")?);
    let figure = format!("BMSE {} is {} × its noise floor", short(bmse), short(times));
    Some(match p < SIGNIFICANT {
        true => verdict(true, format!("{figure}: the propensities do not balance")),
        false => verdict(false, format!("{figure}: within sampling noise, the propensities balance")),
    })
}

fn segments(worst: &Row) -> Option<Verdict> {
    let (all, out) = (number(worst, "segments")?, number(worst, "out_of_balance")?);
    if out == 0.0 {
        return Some(verdict(
            false,
            format!("none of {} segments is out of balance beyond sampling noise", short(all)),
        ));
    }
    let name = worst["segment"].as_str().unwrap_or_default();
    let times = number(worst, "times_noise")?;
    let share = format!("{} of {} segments are out of balance beyond sampling noise", short(out), short(all));
    Some(verdict(true, format!("{share}; the worst, {name:?}, has {} × its noise floor", short(times))))
}

fn weights(row: &Row) -> Option<Verdict> {
    let (ess, share) = (number(row, "effective_sample_size")?, number(row, "effective_share")?);
    let (treated, heaviest) = (number(row, "treated_rows")?, number(row, "largest_share")?);
    let text = format!(
        "{} treated rows are worth {} equally weighted ones ({}); the heaviest has {} of all weight",
        short(treated),
        short(ess),
        percent(share),
        percent(heaviest)
    );
    Some(verdict(share < POOR_SAMPLE, text))
}

fn calibration(rows: &[Row]) -> Option<Verdict> {
    let error = number(rows.first()?, "calibration_error")?;
    let deviations = rows.iter().filter_map(|row| number(row, "gap_sd")).map(f64::abs);
    let worst = deviations.fold(0.0, f64::max);
    // At most this chance that one of the bins is so far off: the tail of the normal distribution is below exp(-z²/2).
    let p = rows.len() as f64 * (-worst * worst / 2.0).exp();
    let figure = format!(
        "the calibration error is {}, and the worst bin is {} standard deviations off",
        short(error),
        short(worst)
    );
    Some(match p < SIGNIFICANT {
        true => verdict(true, format!("{figure}: the propensities are miscalibrated")),
        false => verdict(false, format!("{figure}: within sampling noise")),
    })
}

fn propensity_fit(row: &Row) -> Option<Verdict> {
    let explained = number(row, "explained")?;
    Some(match explained < 0.0 {
        true => verdict(true, "the propensities predict the treatment worse than one constant would"),
        false => verdict(false, format!("the propensities save {} of a constant's log loss", percent(explained))),
    })
}

fn estimates(rows: &[Row]) -> Option<Verdict> {
    let find = |name: &str| rows.iter().find(|row| row["estimator"] == name);
    let estimate = |name: &str| find(name).and_then(|row| number(row, "estimate"));
    let treated = estimate("naive_treated")?;
    let gap = |row: &Row| number(row, "gap").map(f64::abs);
    // The V2 forms carry a penalty: they are losses, not estimates to compare with the truth.
    let candidates = rows.iter().filter(|row| !row["estimator"].as_str().is_some_and(|name| name.ends_with("_v2")));
    let closest = candidates.filter_map(|row| Some((gap(row)?, row))).min_by(|one, other| one.0.total_cmp(&other.0));
    if let Some((gap, row)) = closest {
        let name = row["estimator"].as_str().unwrap_or_default();
        let naive = find("naive_treated").and_then(|row| number(row, "gap"))?;
        let truth = short(number(row, "true_error")?);
        return Some(verdict(
            false,
            format!(
                "the true error is {truth}; {name} comes closest ({} off), the mean over the treated is {} off",
                short(gap),
                short(naive.abs())
            ),
        ));
    }
    let (name, value) = ["dr", "snips"].into_iter().find_map(|name| Some((name, estimate(name)?)))?;
    Some(verdict(
        false,
        format!("{name} puts the error at {}, the mean over the treated at {}", short(value), short(treated)),
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn judged(question: &str, rows: Value) -> (bool, String) {
        let rows: Vec<Row> = serde_json::from_value(rows).unwrap();
        let Verdict { text, alarm } = judge(question, &rows);
        (alarm, text)
    }

    #[test]
    fn balance_is_judged_against_noise() {
        let row = |bmse: f64, times: f64, p: f64| json!([{"n": 9, "bmse": bmse, "times_noise": times, "p_value": p}]);
        let (alarm, text) = judged("balance", row(3.1e-3, 41.0, 1e-9));
        assert!(alarm);
        assert_eq!(text, "BMSE 0.0031 is 41 × its noise floor: the propensities do not balance");
        let (alarm, text) = judged("balance", row(3.1e-3, 0.9, 0.6));
        assert!(!alarm && text.contains("within sampling noise"), "{text}");
        let none = json!([{"n": 1, "bmse": 1.0, "times_noise": null, "p_value": null}]);
        assert_eq!(judged("balance", none), (false, "there are too few rows to judge by".to_owned()));
        let empty = json!([{"n": 0, "bmse": null}]);
        assert_eq!(judged("balance", empty), (false, "there are no rows to judge by".to_owned()));
        assert_eq!(judged("segments", json!([])).1, "there are no rows to judge by");
    }

    #[test]
    fn the_worst_of_many_bins_may_be_far_off_by_chance() {
        let bins = |z: f64| json!([{"n": 5, "calibration_error": 0.01, "gap_sd": z}, {"n": 5, "gap_sd": 0.1}]);
        assert!(!judged("calibration", bins(-3.0)).0);
        assert!(judged("calibration", bins(-5.0)).0);
    }

    #[test]
    fn estimates_are_compared_with_the_truth_where_it_is_known() {
        let row = |name: &str, estimate: f64, truth: Option<f64>| {
            let gap = truth.map(|truth| estimate - truth);
            json!({"n": 5, "estimator": name, "estimate": estimate, "true_error": truth, "gap": gap})
        };
        let known = json!([
            row("naive_treated", 0.5, Some(0.25)),
            row("snips", 0.26, Some(0.25)),
            row("dr_v2", 0.25, Some(0.25))
        ]);
        let text = "the true error is 0.25; snips comes closest (0.01 off), the mean over the treated is 0.25 off";
        assert_eq!(judged("estimates", known), (false, text.to_owned()));
        let unknown = json!([row("naive_treated", 0.5, None), row("snips", 0.26, None)]);
        let text = "snips puts the error at 0.26, the mean over the treated at 0.5";
        assert_eq!(judged("estimates", unknown), (false, text.to_owned()));
    }
}
