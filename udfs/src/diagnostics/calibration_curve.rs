use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Fields};
use datafusion_common::Result;
use datafusion_expr::Expr;

use super::calibration::{self, Calibrated, calibration};
use crate::args::{Call, Divides, Role, Rows, Spec};
use crate::results::{counts, lists_of, numbers, struct_fields, structs};
use crate::state::{Binned, BinnedTerms, State};
use crate::udaf::{Function, Udaf};

aggregate! {
    /// Calibration curve of the propensities (reliability diagram): a list with a struct for each bin that is not
    /// empty, of its bounds `lower` and `upper`, its `n` rows, their `mean_propensity` and `treated_rate`, and that
    /// rate's 95 % confidence interval (Wilson) from `rate_lower` to `rate_upper`.
    ///
    /// With `'mass'` it keeps every row in memory, else only the bins. NULL if no row counts.
    ///
    /// # Details
    /// The structs are in the order of propensities. The bounds of a bin of equal mass are its least and greatest
    /// propensity; otherwise bins are those of [`ece`](crate::expr_fn::ece).
    ///
    /// Source: DeGroot and Fienberg, *The comparison and evaluation of forecasters*, 1983; Wilson, JASA 1927.
    calibration_curve(treated: Expr, propensity: Expr, bins: Option<Expr>, binning: Option<Expr>),
    calibration_curve_udaf: Udaf<CalibrationCurve>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CalibrationCurve;

impl Function for CalibrationCurve {
    const SPEC: &'static Spec =
        &Spec::new("calibration_curve", &[Role::Treated, Role::Propensity, Role::Bins, Role::Binning])
            .divides(Divides::Neither);

    const EXAMPLE: &'static str =
        "> SELECT b['lower'] AS lower, b['n'] AS n, b['mean_propensity'] AS p, b['treated_rate'] AS rate
  FROM (SELECT unnest(calibration_curve(clicked, p, 4)) AS b
        FROM (VALUES (1, 0.5), (1, 0.75), (0, 0.5), (0, 0.125)) AS log (clicked, p));
+-------+---+-------+------+
| lower | n | p     | rate |
+-------+---+-------+------+
| 0.0   | 1 | 0.125 | 0.0  |
| 0.5   | 2 | 0.5   | 0.5  |
| 0.75  | 1 | 0.75  | 1.0  |
+-------+---+-------+------+";

    const RELATED: &'static [&'static str] = &["ece"];

    type State = Binned;

    fn retracts(call: &Call) -> bool {
        calibration::retracts(call)
    }

    fn terms(rows: &Rows<'_>, call: &Call) -> BinnedTerms {
        calibration::terms(rows, call)
    }

    fn return_type(_arguments: &[DataType]) -> DataType {
        DataType::new_list(DataType::Struct(point_fields()), true)
    }

    fn values(state: &Binned, call: &Call) -> Result<ArrayRef> {
        let mut points = Vec::new();
        let lengths: Vec<Option<usize>> = (0..state.groups())
            .map(|group| {
                let bins = calibration(state, group, call);
                let length = (!bins.is_empty()).then_some(bins.len());
                points.extend(bins);
                length
            })
            .collect();
        let column = |f: fn(&Calibrated) -> f64| numbers(points.iter().map(|point| Some(f(point))));
        let intervals: Vec<_> = points.iter().map(|point| wilson(point.bin.treated, point.bin.count)).collect();
        let columns = vec![
            column(|point| point.lower),
            column(|point| point.upper),
            counts(points.iter().map(|point| Some(point.bin.count))),
            column(Calibrated::mean_propensity),
            column(Calibrated::treated_rate),
            numbers(intervals.iter().map(|&(lower, _)| Some(lower))),
            numbers(intervals.iter().map(|&(_, upper)| Some(upper))),
        ];
        Ok(lists_of(structs(point_fields(), columns, vec![true; points.len()]), &lengths))
    }
}

fn point_fields() -> Fields {
    struct_fields([
        ("lower", DataType::Float64),
        ("upper", DataType::Float64),
        ("n", DataType::UInt64),
        ("mean_propensity", DataType::Float64),
        ("treated_rate", DataType::Float64),
        ("rate_lower", DataType::Float64),
        ("rate_upper", DataType::Float64),
    ])
}

/// Wilson's 95 % confidence interval of a share.
fn wilson(part: u64, of: u64) -> (f64, f64) {
    /// The 97.5 % quantile of the standard normal distribution.
    const Z: f64 = 1.959963984540054;
    let (part, n) = (part as f64, of as f64);
    let centre = (part + Z * Z / 2.0) / (n + Z * Z);
    let half = Z / (n + Z * Z) * (part * (n - part) / n + Z * Z / 4.0).sqrt();
    ((centre - half).max(0.0), (centre + half).min(1.0))
}
