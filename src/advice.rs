//! SQL that messages advise: it runs when it is pasted.

/// The name of a column or table as SQL writes it, whatever its letters.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// What to do about an outcome that is not from 0 to 1 in a treated row: `outcome` and `treated` are columns of the query.
pub fn outcome_cure(outcome: &str, treated: Option<&str>, value: f64) -> String {
    let outcome = quoted(outcome);
    if value > 1.0 {
        return format!(
            "make ratings and counts binary, such as with CASE WHEN {outcome} >= 4 THEN 1 ELSE 0 END AS {outcome}"
        );
    }
    let untreated = treated.map_or(String::new(), |treated| format!("CAST({} AS INT) = 0 OR ", quoted(treated)));
    format!(
        "a treated row whose outcome is not known says nothing: leave such rows out with \
         WHERE {untreated}{outcome} BETWEEN 0 AND 1"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_whatever_their_letters() {
        assert_eq!(quoted("UserId"), "\"UserId\"");
        assert_eq!(quoted("a \"b\""), "\"a \"\"b\"\"\"");
    }

    #[test]
    fn the_cure_of_an_outcome_fits_its_value() {
        assert!(outcome_cure("R", None, 5.0).contains("CASE WHEN \"R\" >= 4 THEN 1 ELSE 0 END AS \"R\""));
        let unknown = outcome_cure("R", Some("O"), -1.0);
        assert!(unknown.ends_with("WHERE CAST(\"O\" AS INT) = 0 OR \"R\" BETWEEN 0 AND 1"), "{unknown}");
        assert!(outcome_cure("R", None, f64::NAN).ends_with("WHERE \"R\" BETWEEN 0 AND 1"));
    }
}
