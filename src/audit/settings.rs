//! What an audit puts into the SQL of its checks.
//!
//! A comment `/*name*/` marks the token after it as a setting: an audit puts the job's value there, or a threshold of
//! verdicts, and a person who runs the file by hand edits it.

use super::thresholds::{BIAS_ELEMENTS, CHANGE_ELEMENTS, LAMBDA_ELEMENTS};

/// What an audit puts in place of the marked tokens.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// `/*phi*/`: the columns of `audited` that make φ.
    pub(super) phi: Vec<String>,
    /// `/*phi_columns*/`: what the columns of φ are called in the job.
    pub(super) phi_columns: Vec<String>,
    /// `/*treatment*/` and `/*few_groups*/`: the columns of `audited` that tell which rows belong together.
    pub(super) clusters: Vec<&'static str>,
    /// `/*tolerance*/`
    pub(super) tolerance: f64,
    /// `/*bias_tolerance*/`
    pub(super) bias_tolerance: f64,
    /// `/*confidence*/`, and what it leaves: `/*level*/`
    pub(super) confidence: f64,
    /// `/*min_effective_share*/`
    pub(super) min_effective_share: f64,
    /// `/*lower*/` and `/*upper*/`: beyond them a propensity is too close to 0 or 1.
    pub(super) bounds: [f64; 2],
    /// `/*lambda*/`
    pub(super) lambda: f64,
    /// `/*bins*/`
    pub(super) bins: usize,
    /// `/*worst*/`
    pub(super) worst: usize,
    /// `/*days*/`
    pub(super) days: usize,
    /// `/*segment_column*/`: what the column that `audited` calls `segment` is called in the job.
    pub(super) segment_column: String,
}

impl Settings {
    /// The SQL of a check with the tokens that these settings name replaced.
    pub(super) fn apply(&self, sql: &str) -> String {
        let mut result = String::with_capacity(sql.len());
        let mut rest = sql;
        while let Some((before, after)) = rest.split_once("/*") {
            result.push_str(before);
            let (name, after) = after.split_once("*/").unwrap_or((after, ""));
            let token = after.trim_start();
            let end = token.find([',', ')', '\n', ' ']).unwrap_or(token.len());
            result.push_str(&self.value(name).unwrap_or_else(|| token[..end].to_owned()));
            rest = &token[end..];
        }
        result.push_str(rest);
        result
    }

    fn value(&self, name: &str) -> Option<String> {
        Some(match name {
            "treatment" => self.treatment(None),
            "few_groups" => self.treatment(Some(FEW_GROUPS)),
            "tolerance" => format!("{:?}", self.tolerance),
            "bias_tolerance" => format!("{:?}", self.bias_tolerance),
            "confidence" => format!("{:?}", self.confidence),
            // Without the digits that the subtraction leaves.
            "level" => format!("{:?}", ((1.0 - self.confidence) * 1e12).round() / 1e12),
            "min_effective_share" => format!("{:?}", self.min_effective_share),
            "bias_elements" => BIAS_ELEMENTS.to_string(),
            "lambda_elements" => LAMBDA_ELEMENTS.to_string(),
            "change_elements" => CHANGE_ELEMENTS.to_string(),
            "phi" => self.phi.join(", "),
            "phi_columns" => {
                let columns: Vec<_> = self.phi_columns.iter().map(|column| literal(column)).collect();
                format!("[{}]", columns.join(", "))
            }
            "lower" => format!("{:?}", self.bounds[0]),
            "upper" => format!("{:?}", self.bounds[1]),
            "lambda" => format!("{:?}", self.lambda),
            "bins" => self.bins.to_string(),
            "worst" => self.worst.to_string(),
            "days" => self.days.to_string(),
            "segment_column" => literal(&self.segment_column),
            _ => return None,
        })
    }
}

/// Into how many groups the clusters of each of many parts of a table are put.
const FEW_GROUPS: usize = 32;

impl Settings {
    /// The treatment, with the clusters of its row where there are any.
    fn treatment(&self, groups: Option<usize>) -> String {
        match (self.clusters.as_slice(), groups) {
            ([], _) => "treated".to_owned(),
            (clusters, None) => format!("treatment(treated, {})", clusters.join(", ")),
            ([only], Some(groups)) => format!("treatment(treated, {only}, NULL, {groups})"),
            (clusters, Some(groups)) => format!("treatment(treated, {}, {groups})", clusters.join(", ")),
        }
    }
}

/// Text as SQL writes it.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::super::checks::CHECKS;
    use super::*;

    fn settings() -> Settings {
        Settings {
            phi: vec!["phi_1".into(), "phi_2".into()],
            phi_columns: vec!["the user's age".into(), "K".into()],
            clusters: vec!["cluster"],
            tolerance: 0.1,
            bias_tolerance: 0.05,
            confidence: 0.99,
            min_effective_share: 0.1,
            bounds: [1e-5, 0.75],
            lambda: 0.5,
            bins: 7,
            worst: 3,
            days: 14,
            segment_column: "the 'best' country".into(),
        }
    }

    #[test]
    fn marked_tokens_are_replaced_and_nothing_else() {
        for check in CHECKS {
            let sql = settings().apply(check.sql);
            assert!(!sql.contains("/*"), "{}: a marker is left: {sql}", check.name);
            assert_eq!(sql.lines().count(), check.sql.lines().count());
        }
        let expected = [
            ("balance", "bmse(treated, propensity, phi_1, phi_2) AS bmse"),
            ("segments", "'the ''best'' country' AS segment_column"),
            ("segments", "LIMIT 3\n"),
            ("elements", "array_element(['the user''s age', 'K'], element)"),
            ("positivity", "propensity_profile(treated, propensity, 1e-5, 0.75) AS profile"),
            ("calibration", "floor(rank * 7)"),
            ("estimates", "error, 0.5, phi_1, phi_2) AS ips_v2"),
            ("trend", "imbalance(treatment(treated, cluster, NULL, 32), propensity, phi_1, phi_2) AS arm"),
            ("verdict", "imbalance(treatment(treated, cluster), propensity, phi_1, phi_2) AS arm"),
            ("verdict", "balance_verdict(arm, ips, 0.1, 0.05, 0.99)"),
            ("segments", "WHEN q_value <= 0.01 THEN"),
        ];
        for (name, part) in expected {
            let check = CHECKS.iter().find(|check| check.name == name).unwrap();
            let sql = settings().apply(check.sql);
            assert!(sql.contains(part), "{part} is not in {sql}");
        }
    }

    #[test]
    fn the_treatment_tells_the_clusters_of_a_row() {
        let treatment = |clusters: &[&'static str], groups| {
            Settings { clusters: clusters.to_vec(), ..settings() }.treatment(groups)
        };
        assert_eq!(treatment(&[], None), "treated");
        assert_eq!(treatment(&[], Some(32)), "treated");
        assert_eq!(treatment(&["cluster"], Some(32)), "treatment(treated, cluster, NULL, 32)");
        assert_eq!(treatment(&["cluster", "cluster_2"], None), "treatment(treated, cluster, cluster_2)");
        assert_eq!(treatment(&["cluster", "cluster_2"], Some(32)), "treatment(treated, cluster, cluster_2, 32)");
    }

    #[test]
    fn every_marker_has_a_value() {
        for check in CHECKS {
            for name in check.sql.split("/*").skip(1).filter_map(|text| text.split_once("*/")) {
                assert!(settings().value(name.0).is_some(), "{}: /*{}*/", check.name, name.0);
            }
        }
    }

    #[test]
    fn run_by_hand_a_check_has_the_thresholds_of_an_audit() {
        for check in CHECKS {
            for (name, after) in check.sql.split("/*").skip(1).filter_map(|text| text.split_once("*/ ")) {
                let of_spec = ["tolerance", "bias_tolerance", "confidence", "level", "min_effective_share"];
                let of_functions = ["bias_elements", "lambda_elements", "change_elements"];
                if of_spec.contains(&name) || of_functions.contains(&name) {
                    let value = settings().value(name).unwrap();
                    let by_hand = after.split([',', ')', '\n', ' ']).next();
                    assert_eq!(by_hand, Some(value.as_str()), "{}: /*{name}*/", check.name);
                }
            }
        }
    }
}
