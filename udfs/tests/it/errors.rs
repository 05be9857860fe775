//! Every error says which function, which argument, which value, and what to do.

use crate::sql::failure;

async fn expect(call: &str, rows: &str, parts: &[&str]) {
    for sql in [
        format!("SELECT {call} FROM (VALUES {rows}) AS log (o, p, e, i, f)"),
        format!("SELECT {call} FROM (VALUES {rows}) AS log (o, p, e, i, f) GROUP BY o IS NULL"),
        format!("SELECT {call} OVER (ORDER BY f) FROM (VALUES {rows}) AS log (o, p, e, i, f)"),
    ] {
        let message = failure(&sql).await;
        for part in parts {
            assert!(message.contains(part), "{sql}\n  says: {message}\n  not: {part}");
        }
    }
}

const GOOD: &str = "(1, 0.5, 0.2, 0.3, 1.0), (0, 0.25, 0.7, 0.6, 2.0)";

#[tokio::test]
async fn treated() {
    for (value, shown) in [("2", "2"), ("-1", "-1"), ("0.5", "0.5"), ("'NaN'::DOUBLE", "NaN")] {
        let rows = format!("{GOOD}, ({value}, 0.5, 0.2, 0.3, 1.0)");
        for (call, name) in [("bmse(o, p, f)", "bmse"), ("naive(o, e)", "naive"), ("ess(o, p)", "ess")] {
            let says = format!("{name}: argument 1 (treated) is {shown}: it must be 0 or 1");
            expect(call, &rows, &[&says, "`clicks > 0`"]).await;
        }
    }
}

#[tokio::test]
async fn propensity() {
    for (value, shown) in [("-0.1", "-0.1"), ("1.5", "1.5"), ("'NaN'::DOUBLE", "NaN"), ("'Infinity'::DOUBLE", "inf")] {
        for treated in ["0", "1"] {
            let rows = format!("{GOOD}, ({treated}, {value}, 0.2, 0.3, 1.0)");
            for call in ["bmse(o, p)", "snips(o, p, e)", "dr_v2(o, p, e, i, 1)"] {
                let says = format!("argument 2 (propensity) is {shown}: it must be a probability");
                expect(call, &rows, &[&says]).await;
            }
        }
    }
}

#[tokio::test]
async fn division_by_zero() {
    let treated = format!("{GOOD}, (1, 0.0, 0.2, 0.3, 1.0)");
    for call in [
        "bmse(o, p)",
        "bmse_unbiased(o, p)",
        "bmse_noise_floor(o, p)",
        "ips(o, p, e)",
        "snips(o, p, e)",
        "dr(o, p, e, i)",
        "snips_dr(o, p, e, i)",
        "ips_clipped(o, p, e, 3)",
        "switch_dr(o, p, e, i, 3)",
        "dr_os(o, p, e, i, 3)",
        "ips_variance(o, p, e)",
        "dr_variance(o, p, e, i)",
        "ips_interval(o, p, e)",
        "snips_dr_interval(o, p, e, i)",
        "ips_v2(o, p, e, 1)",
        "dr_v2(o, p, e, i, 1)",
        "ess(o, p)",
    ] {
        let says = "argument 2 (propensity) is 0: a treated row cannot have propensity 0";
        expect(call, &treated, &[says, "clip_propensity(propensity, 0.01, 1)"]).await;
    }
    let untreated = format!("{GOOD}, (0, 1.0, 0.2, 0.3, 1.0)");
    for call in ["bmse(o, p)", "bmse_unbiased(o, p)", "ips_v2(o, p, e, 0)", "dr_v2(o, p, e, i, 1)"] {
        let says = "argument 2 (propensity) is 1: an untreated row cannot have propensity 1";
        expect(call, &untreated, &[says, "clip_propensity(propensity, 0, 0.99)"]).await;
    }
}

#[tokio::test]
async fn values_that_are_not_finite() {
    for (value, shown) in [("'NaN'::DOUBLE", "NaN"), ("'-Infinity'::DOUBLE", "-inf")] {
        let error = format!("{GOOD}, (1, 0.5, {value}, 0.3, 1.0)");
        for (call, place) in [
            ("naive(o, e)", 2),
            ("naive_treated(o, e)", 2),
            ("eib(o, e, i)", 2),
            ("ips(o, p, e)", 3),
            ("snips(o, p, e)", 3),
            ("dr(o, p, e, i)", 3),
            ("snips_dr(o, p, e, i)", 3),
            ("ips_clipped(o, p, e, 3)", 3),
            ("switch_dr(o, p, e, i, 1)", 3),
            ("dr_os(o, p, e, i, 0)", 3),
            ("dr_variance(o, p, e, i)", 3),
            ("naive_interval(o, e)", 2),
            ("snips_interval(o, p, e)", 3),
            ("ips_v2(o, p, e, 1)", 3),
            ("dr_v2(o, p, e, i, 1)", 3),
        ] {
            let says = format!("argument {place} (error) is {shown}: it must be finite");
            expect(call, &error, &[&says, "FILTER (WHERE ...)"]).await;
        }
        let imputed = format!("{GOOD}, (0, 0.5, 0.2, {value}, 1.0)");
        for (call, place) in [
            ("eib(o, e, i)", 3),
            ("dr(o, p, e, i)", 4),
            ("snips_dr_interval(o, p, e, i)", 4),
            ("dr_v2(o, p, e, i, 1)", 4),
        ] {
            let says = format!("argument {place} (imputed_error) is {shown}: it must be finite");
            expect(call, &imputed, &[&says]).await;
        }
        let phi = format!("{GOOD}, (0, 0.5, 0.2, 0.3, {value})");
        for (call, place) in [
            ("bmse(o, p, f)", 3),
            ("bmse(o, p, [1.0, f])", 3),
            ("bmse_unbiased(o, p, 1, f)", 3),
            ("ips_v2(o, p, e, 1, f)", 5),
            ("dr_v2(o, p, e, i, 1, f)", 6),
        ] {
            let says = format!("argument {place} (phi) holds {shown}: it must be finite");
            expect(call, &phi, &[&says]).await;
        }
    }
}

#[tokio::test]
async fn overflow() {
    for (call, row) in [
        ("bmse(o, p, f)", "(1, 0.5, 0.0, 0.0, 1e200), (0, 0.5, 0.0, 0.0, 1e200)"),
        ("bmse(o, p)", "(1, 1e-320, 0.0, 0.0, 0.0)"),
        ("ips(o, p, e)", "(1, 1e-300, 1e300, 0.0, 0.0)"),
        ("ess(o, p)", "(1, 1e-200, 0.0, 0.0, 0.0)"),
        ("ips_interval(o, p, e)", "(1, 1e-100, 1e100, 0.0, 0.0)"),
    ] {
        expect(call, row, &["the sums leave the range of a 64-bit float"]).await;
    }
}

#[tokio::test]
async fn phi_of_two_lengths() {
    let says = "bmse: argument 3 (phi) has lists of";
    for sql in [
        "SELECT bmse(o, p, f) FROM (VALUES (1, 0.5, [1.0]), (0, 0.5, [1.0, 2.0])) AS t (o, p, f)",
        "SELECT bmse(o, p, f) FROM (VALUES (1, 0.5, [1.0]), (0, 0.5, [1.0, 2.0])) AS t (o, p, f) GROUP BY o",
        "SELECT bmse(o, p, f) FROM (SELECT 1 AS o, 0.5 AS p, [1.0] AS f UNION ALL SELECT 1, 0.5, [1.0, 2.0])",
        "SELECT bmse(o, p, f) FROM (VALUES (NULL, 0.5, [1.0]), (0, 0.5, [2.0]), (0, 0.5, [1.0, 2.0])) AS t (o, p, f)",
    ] {
        let message = failure(sql).await;
        assert!(message.contains(says), "{sql}: {message}");
        assert!(message.contains("all must be of one length"), "{message}");
    }
    let message = failure(
        "SELECT ips_v2(o, p, 1, 1, f) FROM \
         (SELECT 1 AS o, 0.5 AS p, [1.0] AS f UNION ALL SELECT 1, 0.5, [1.0, 2.0, 3.0])",
    )
    .await;
    let (one, three) = ("of 1 and of 3 elements", "of 3 and of 1 elements");
    assert!(message.contains(one) || message.contains(three), "{message}");
    let message = failure("SELECT bmse(true, 0.5, arrow_cast([], 'List(Float64)'))").await;
    assert!(message.contains("is an empty list: leave phi out"), "{message}");
}

#[tokio::test]
async fn lambda() {
    for (lambda, shown) in [
        ("-0.5", "-0.5"),
        ("'NaN'::DOUBLE", "NaN"),
        ("'Infinity'::DOUBLE", "inf"),
        ("NULL", "NULL"),
        ("f", "f@"),
        ("f + 1", "f@"),
    ] {
        let call = format!("ips_v2(o, p, e, {lambda})");
        let says = format!("ips_v2: argument 4 (lambda) is {shown}");
        expect(&call, GOOD, &[&says, "it must be a literal number, 0 or more"]).await;
        let call = format!("dr_v2(o, p, e, i, {lambda}, f)");
        expect(&call, GOOD, &["dr_v2: argument 5 (lambda) is"]).await;
    }
}

#[tokio::test]
async fn other_literals() {
    const BAD: [(&str, &str); 3] = [("'NaN'::DOUBLE", "NaN"), ("NULL", "NULL"), ("f", "f@")];
    const NOT_ABOVE_0: [(&str, &str); 2] = [("0", "0"), ("-1", "-1")];
    for (function, name, bad, cure) in [
        ("ips_clipped(o, p, e, {})", "4 (max_weight)", NOT_ABOVE_0, "a literal number above 0"),
        ("ips_clipped_interval(o, p, e, {}, 0.9)", "4 (max_weight)", NOT_ABOVE_0, "a literal number above 0"),
        ("switch_dr(o, p, e, i, {})", "5 (threshold)", NOT_ABOVE_0, "a literal number above 0"),
        ("switch_dr_interval(o, p, e, i, {})", "5 (threshold)", NOT_ABOVE_0, "a literal number above 0"),
        ("dr_os(o, p, e, i, {})", "5 (shrinkage)", [("-1", "-1"), ("-0.5", "-0.5")], "a literal number, 0 or more"),
        (
            "dr_os_interval(o, p, e, i, {})",
            "5 (shrinkage)",
            [("-1", "-1"), ("-9", "-9")],
            "a literal number, 0 or more",
        ),
        ("naive_interval(o, e, {})", "3 (level)", [("0", "0"), ("1", "1")], "between 0 and 1, such as 0.95"),
        ("snips_interval(o, p, e, {})", "4 (level)", [("95", "95"), ("-0.5", "-0.5")], "between 0 and 1, such as 0.95"),
        (
            "dr_os_interval(o, p, e, i, 1, {})",
            "6 (level)",
            [("0", "0"), ("1.5", "1.5")],
            "between 0 and 1, such as 0.95",
        ),
    ] {
        for (value, shown) in bad.into_iter().chain(BAD) {
            let call = function.replace("{}", value);
            let name = format!("{}: argument {name} is {shown}", call.split('(').next().unwrap());
            expect(&call, GOOD, &[&name, cure, "the same for every row"]).await;
        }
    }
}

#[tokio::test]
async fn distinct() {
    for call in ["bmse(DISTINCT o, p)", "ips(DISTINCT o, p, e)", "sv(DISTINCT p)", "mis(DISTINCT p)"] {
        let name = call.split('(').next().unwrap();
        let says = format!("{name}(DISTINCT ...) is not supported");
        expect(call, GOOD, &[&says, "SELECT DISTINCT"]).await;
    }
}

#[tokio::test]
async fn arity() {
    for (call, says, usage) in [
        ("bmse()", "bmse takes at least 2 arguments, not 0", "bmse(treated, propensity [, phi, ...])"),
        ("bmse(o)", "bmse takes at least 2 arguments, not 1", "phi is any count of numeric columns"),
        ("ips(o, p)", "ips takes 3 arguments, not 2", "ips(treated, propensity, error)"),
        ("ips(o, p, e, f)", "ips takes 3 arguments, not 4", "propensity is a number from 0 to 1"),
        ("dr_v2(o, p, e, i)", "dr_v2 takes at least 5 arguments, not 4", "lambda is a literal number"),
        ("dr_interval(o, p, e)", "dr_interval takes 4 to 5 arguments, not 3", "imputed_error [, level])"),
        ("ips_clipped(o, p, e)", "ips_clipped takes 4 arguments, not 3", "max_weight is a literal number above 0"),
        (
            "ess(o)",
            "ess takes 2 arguments, not 1",
            "treated is a boolean, a number that is 0 or 1, or what treatment() gives",
        ),
        ("log_loss(p)", "log_loss takes 2 arguments", "log_loss(prediction, outcome)"),
    ] {
        let sql = format!("SELECT {call} FROM (VALUES {GOOD}) AS log (o, p, e, i, f)");
        let message = failure(&sql).await;
        assert!(message.starts_with("Error during planning"), "{message}");
        assert!(message.contains(says) && message.contains(usage), "{message}");
    }
}

#[tokio::test]
async fn types() {
    for (call, says) in [
        (
            "bmse('yes', p)",
            "argument 1 (treated) of bmse must be a boolean, a number that is 0 or 1, or what treatment() gives, not Utf8",
        ),
        ("bmse(o, true)", "argument 2 (propensity) of bmse must be a number from 0 to 1, not Boolean"),
        ("ips(o, p, now())", "argument 3 (error) of ips must be a number, not Timestamp"),
        ("dr(o, p, e, [1.0])", "argument 4 (imputed_error) of dr must be a number, not List"),
        ("ips_v2(o, p, e, 'x')", "argument 4 (lambda) of ips_v2 must be a literal number"),
        ("bmse(o, p, 'x')", "argument 3 (phi) of bmse must be any count of numeric columns"),
        ("bmse(o, p, ['x'])", "argument 3 (phi) of bmse must be"),
        ("bmse(o, p, f, [f])", "argument 4 (phi) of bmse must be"),
        ("bmse(o, p, [f], [f])", "argument 3 (phi) of bmse must be"),
        ("squared_error('x', 1)", "squared_error takes 2 arguments, numbers or booleans, not (Utf8"),
    ] {
        let sql = format!("SELECT {call} FROM (VALUES {GOOD}) AS log (o, p, e, i, f)");
        let message = failure(&sql).await;
        assert!(message.starts_with("Error during planning"), "{message}");
        assert!(message.contains(says), "{sql}\n  says: {message}\n  not: {says}");
        assert!(message.contains("usage: "), "{message}");
    }
}
