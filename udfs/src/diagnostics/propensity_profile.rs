use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Fields};
use datafusion_common::Result;
use datafusion_expr::Expr;

use crate::args::{Call, Role, Rows, Spec};
use crate::results::{counts, numbers, struct_fields, structs};
use crate::state::{Bounds, Profile, Profiles, State};
use crate::udaf::{Function, Udaf};

aggregate! {
    /// What a column of propensities looks like, bad rows and all: a struct of `n` (valid rows), `treated_rate`,
    /// `mean`, `min`, `max`, the percentiles `p01`, `p05`, `p25`, `p50`, `p75`, `p95` and `p99` (to 1 % of themselves),
    /// `share_below` and `share_above` the bounds, `n_null` (rows with a NULL), `n_invalid` (rows whose `treated` is
    /// not 0 or 1 or whose propensity is NaN, not from 0 to 1, or 0 and treated), `max_weight` (the largest `1/p` of a
    /// treated row), `ess` and `design_effect` (treated rows over `ess`).
    ///
    /// No value makes it fail, and it takes memory for a histogram, not for the rows. NULL if there is no row at all.
    ///
    /// # Details
    /// - `n`: the valid rows, which all other entries but `n_null` and `n_invalid` are about.
    /// - `p01` … `p99`: the q-quantile is the propensity of rank `⌊q·(n − 1)⌋`, counted from 0, to a relative accuracy
    ///   of 1 %, and of 1e-12 below that.
    /// - `n_invalid`: a propensity below 1e-100 on a treated row counts as 0, for its weight would divide by 0.
    /// - `ess`: as [`ess`](crate::expr_fn::ess) gives it; `design_effect`: the factor by which weights inflate the
    ///   variance.
    ///
    /// The histogram has at most 1,383 counts. An entry is NULL without a valid row; the last three, without a treated
    /// one.
    ///
    /// Source: Masson, Rim and Lee, *DDSketch*, VLDB 2019, for the percentiles; Kish, *Survey Sampling*, 1965.
    propensity_profile(treated: Expr, propensity: Expr, lower: Option<Expr>, upper: Option<Expr>),
    propensity_profile_udaf: Udaf<PropensityProfile>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct PropensityProfile;

impl Function for PropensityProfile {
    const SPEC: &'static Spec =
        &Spec::new("propensity_profile", &[Role::Treated, Role::Propensity, Role::Lower, Role::Upper]).lenient();

    const EXAMPLE: &'static str =
        "> SELECT t['n'] AS n, t['n_null'] AS n_null, t['n_invalid'] AS n_invalid, t['max'] AS max,
         round(t['ess'], 6) AS ess
  FROM (SELECT propensity_profile(clicked, p) AS t
        FROM (VALUES (1, 0.5), (1, 0.25), (0, 0.5), (0, NULL), (1, 0.0), (0, 7.0)) AS log (clicked, p));
+---+--------+-----------+-----+-----+
| n | n_null | n_invalid | max | ess |
+---+--------+-----------+-----+-----+
| 3 | 1      | 2         | 0.5 | 1.8 |
+---+--------+-----------+-----+-----+";

    const RELATED: &'static [&'static str] = &["ess", "calibration_curve", "clip_propensity"];

    type State = Profiles;

    fn terms(_rows: &Rows<'_>, call: &Call) -> Bounds {
        Bounds { lower: call.literal(Role::Lower), upper: call.literal(Role::Upper) }
    }

    fn return_type(_arguments: &[DataType]) -> DataType {
        DataType::Struct(profile_fields())
    }

    fn values(state: &Profiles, _call: &Call) -> Result<ArrayRef> {
        let groups = || (0..state.groups()).map(|group| state.get(group));
        let column = |(_, field): (&str, Field)| match field {
            Field::Count(f) => counts(groups().map(|profile| Some(f(profile)))),
            Field::Number(f) => numbers(groups().map(f)),
            Field::Quantile(share) => numbers(groups().map(|profile| profile.quantile(share))),
        };
        let columns = FIELDS.into_iter().map(column).collect();
        Ok(structs(profile_fields(), columns, groups().map(|profile| !profile.is_empty()).collect()))
    }
}

#[derive(Clone, Copy)]
enum Field {
    Count(fn(&Profile) -> u64),
    Number(fn(&Profile) -> Option<f64>),
    Quantile(f64),
}

impl Field {
    fn data_type(self) -> DataType {
        match self {
            Field::Count(_) => DataType::UInt64,
            Field::Number(_) | Field::Quantile(_) => DataType::Float64,
        }
    }
}

const FIELDS: [(&str, Field); 19] = [
    ("n", Field::Count(|profile| profile.counts.valid)),
    ("treated_rate", Field::Number(|profile| share(profile, profile.counts.treated as f64))),
    ("mean", Field::Number(|profile| share(profile, profile.propensity()))),
    ("min", Field::Number(|profile| (profile.counts.valid > 0).then_some(profile.min))),
    ("max", Field::Number(|profile| (profile.counts.valid > 0).then_some(profile.max))),
    ("p01", Field::Quantile(0.01)),
    ("p05", Field::Quantile(0.05)),
    ("p25", Field::Quantile(0.25)),
    ("p50", Field::Quantile(0.5)),
    ("p75", Field::Quantile(0.75)),
    ("p95", Field::Quantile(0.95)),
    ("p99", Field::Quantile(0.99)),
    ("share_below", Field::Number(|profile| share(profile, profile.counts.below as f64))),
    ("share_above", Field::Number(|profile| share(profile, profile.counts.above as f64))),
    ("n_null", Field::Count(|profile| profile.counts.missing)),
    ("n_invalid", Field::Count(|profile| profile.counts.invalid)),
    ("max_weight", Field::Number(|profile| (profile.counts.treated > 0).then_some(profile.max_weight))),
    ("ess", Field::Number(Profile::ess)),
    ("design_effect", Field::Number(|profile| Some(profile.counts.treated as f64 / profile.ess()?))),
];

fn profile_fields() -> Fields {
    struct_fields(FIELDS.map(|(name, field)| (name, field.data_type())))
}

fn share(profile: &Profile, of: f64) -> Option<f64> {
    (profile.counts.valid > 0).then(|| of / profile.counts.valid as f64)
}
