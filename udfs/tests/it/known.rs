//! Answers worked out by hand.

use crate::sql::{assert_close, number};

/// Two treated and two untreated rows; w = 2, 1.25, −2, −1.25.
const FOUR: &str = "(VALUES (1, 0.5, 0.2, 0.3, 1.0, 30.0), (1, 0.8, 0.4, 0.3, 0.0, 20.0), \
                    (0, 0.5, NULL, 0.5, 1.0, 40.0), (0, 0.2, NULL, 0.1, 0.0, 10.0)) \
                    AS log (o, p, e, i, mobile, age)";

async fn check(rows: &str, answers: &[(&str, Option<f64>)]) {
    for (call, answer) in answers {
        let sql = format!("SELECT {call} FROM {rows}");
        assert_close(number(&sql).await, *answer, 1e-14, &sql);
    }
}

#[tokio::test]
async fn four_rows() {
    // S = (0, −7.5), Q = 8 + 10781.25
    check(
        FOUR,
        &[
            ("bmse(o, p)", Some(0.0)),
            ("bmse(o, p, mobile)", Some(0.0)),
            ("bmse(o, p, age)", Some(3.515625)),
            ("bmse(o, p, mobile, age)", Some(3.515625)),
            ("bmse(o, p, [mobile, age])", Some(3.515625)),
            ("bmse_unbiased(o, p, mobile, age)", Some((56.25 - 10789.25) / 12.0)),
            ("bmse_noise_floor(o, p, mobile, age)", Some((10789.25 / 4.0 - 3.515625) / 4.0)),
            ("naive(o, e)", Some(0.6 / 4.0)),
            ("naive_treated(o, e)", Some(0.3)),
            ("eib(o, e, i)", Some((0.2 + 0.4 + 0.5 + 0.1) / 4.0)),
            ("ips(o, p, e)", Some((0.4 + 0.5) / 4.0)),
            ("snips(o, p, e)", Some(0.9 / 3.25)),
            ("dr(o, p, e, i)", Some((1.2 - 0.2 + 0.125) / 4.0)),
            ("ips_v2(o, p, e, 0.1, age)", Some(0.225 + 0.3515625)),
            ("dr_v2(o, p, e, i, 2, age)", Some(0.28125 + 7.03125)),
            ("snips_dr(o, p, e, i)", Some(0.3 - 0.075 / 3.25)),
            ("ips_clipped(o, p, e, 1.5)", Some((0.3 + 0.5) / 4.0)),
            ("switch_dr(o, p, e, i, 2)", Some((1.2 - 0.2 + 0.125) / 4.0)),
            ("switch_dr(o, p, e, i, 1.99)", Some((1.2 + 0.125) / 4.0)),
            ("switch_dr(o, p, e, i, 1)", Some(0.3)),
            ("dr_os(o, p, e, i, 0)", Some(0.3)),
            ("dr_os(o, p, e, i, 4)", Some((1.2 - 0.1 + 0.5 / 5.5625) / 4.0)),
            ("ips_variance(o, p, e)", Some((0.08 + 0.05) / 16.0)),
            ("dr_variance(o, p, e, i)", Some((0.02 + 0.003125) / 16.0)),
            ("ess(o, p)", Some(3.25 * 3.25 / (4.0 + 1.5625))),
        ],
    )
    .await;
}

#[tokio::test]
async fn one_treated_row() {
    check(
        "(VALUES (1, 0.5, 3.0, 2.0)) AS log (o, p, e, i)",
        &[
            ("bmse(o, p)", Some(4.0)),
            ("bmse_unbiased(o, p)", None),
            ("bmse_noise_floor(o, p)", None),
            ("naive(o, e)", Some(3.0)),
            ("naive_treated(o, e)", Some(3.0)),
            ("eib(o, e, i)", Some(3.0)),
            ("ips(o, p, e)", Some(6.0)),
            ("snips(o, p, e)", Some(3.0)),
            ("dr(o, p, e, i)", Some(4.0)),
            ("ips_v2(o, p, e, 1)", Some(10.0)),
            ("dr_v2(o, p, e, i, 1)", Some(8.0)),
            ("snips_dr(o, p, e, i)", Some(3.0)),
            ("ips_clipped(o, p, e, 0.5)", Some(1.5)),
            ("switch_dr(o, p, e, i, 1)", Some(2.0)),
            ("dr_os(o, p, e, i, 1)", Some(2.4)),
            ("ips_variance(o, p, e)", Some(18.0)),
            ("dr_variance(o, p, e, i)", Some(2.0)),
            ("ess(o, p)", Some(1.0)),
        ],
    )
    .await;
}

#[tokio::test]
async fn all_treated_with_certainty() {
    check(
        "(VALUES (1, 1.0, 3.0, 2.0), (1, 1.0, 5.0, 0.0)) AS log (o, p, e, i)",
        &[
            ("bmse(o, p)", Some(1.0)),
            ("bmse_unbiased(o, p)", Some(1.0)),
            ("bmse_noise_floor(o, p)", Some(0.0)),
            ("naive(o, e)", Some(4.0)),
            ("naive_treated(o, e)", Some(4.0)),
            ("eib(o, e, i)", Some(4.0)),
            ("ips(o, p, e)", Some(4.0)),
            ("snips(o, p, e)", Some(4.0)),
            ("dr(o, p, e, i)", Some(4.0)),
            ("ips_v2(o, p, e, 0.5)", Some(4.5)),
            ("dr_v2(o, p, e, i, 0.5)", Some(4.5)),
            ("snips_dr(o, p, e, i)", Some(4.0)),
            ("ips_clipped(o, p, e, 1)", Some(4.0)),
            ("switch_dr(o, p, e, i, 1)", Some(4.0)),
            ("dr_os(o, p, e, i, 1)", Some(2.5)),
            ("ips_variance(o, p, e)", Some(0.0)),
            ("dr_variance(o, p, e, i)", Some(0.0)),
            ("ess(o, p)", Some(2.0)),
        ],
    )
    .await;
}

#[tokio::test]
async fn none_treated() {
    check(
        "(VALUES (0, 0.5, NULL, 2.0), (0, 0.0, NULL, 4.0)) AS log (o, p, e, i)",
        &[
            ("bmse(o, p)", Some(2.25)),
            ("bmse_unbiased(o, p)", Some(2.0)),
            ("bmse_noise_floor(o, p)", Some(0.125)),
            ("naive(o, e)", Some(0.0)),
            ("naive_treated(o, e)", None),
            ("eib(o, e, i)", Some(3.0)),
            ("ips(o, p, e)", Some(0.0)),
            ("snips(o, p, e)", None),
            ("dr(o, p, e, i)", Some(3.0)),
            ("ips_v2(o, p, e, 2)", Some(4.5)),
            ("dr_v2(o, p, e, i, 2)", Some(7.5)),
            ("snips_dr(o, p, e, i)", None),
            ("ips_clipped(o, p, e, 1)", Some(0.0)),
            ("switch_dr(o, p, e, i, 1)", Some(3.0)),
            ("dr_os(o, p, e, i, 1)", Some(3.0)),
            ("ips_variance(o, p, e)", Some(0.0)),
            ("dr_variance(o, p, e, i)", Some(0.0)),
            ("ess(o, p)", None),
        ],
    )
    .await;
}

#[tokio::test]
async fn untreated_rows_may_be_certain_where_nothing_divides_by_1_minus_p() {
    check(
        "(VALUES (1, 0.5, 3.0, 2.0), (0, 1.0, NULL, 4.0)) AS log (o, p, e, i)",
        &[
            ("ips(o, p, e)", Some(3.0)),
            ("snips(o, p, e)", Some(3.0)),
            ("dr(o, p, e, i)", Some(4.0)),
            ("ess(o, p)", Some(1.0)),
        ],
    )
    .await;
}
