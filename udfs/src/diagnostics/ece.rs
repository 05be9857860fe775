use arrow::array::ArrayRef;
use datafusion_common::Result;
use datafusion_expr::Expr;

use super::calibration::{self, Calibrated, calibration};
use crate::args::{Call, Divides, Role, Rows, Spec};
use crate::results::numbers;
use crate::state::{Binned, BinnedTerms, State};
use crate::udaf::{Function, Udaf};

aggregate! {
    /// Expected calibration error of the propensities: the distance of the mean propensity from the share of treated
    /// rows, within bins of alike propensities, averaged over rows.
    ///
    /// From 0 to 1; lower is better. With `'mass'` it keeps every row in memory, else only the bins. NULL if no row
    /// counts.
    ///
    /// # Details
    /// `Σ n_b/n · |mean p − treated rate|` over the bins b. Bins are `[k/bins, (k+1)/bins)`, the last one closed, or
    /// with `'mass'` hold equal numbers of rows, rows of one propensity staying together.
    ///
    /// Source: Naeini, Cooper and Hauskrecht, *Obtaining well calibrated probabilities using Bayesian binning*, AAAI
    /// 2015.
    ece(treated: Expr, propensity: Expr, bins: Option<Expr>, binning: Option<Expr>), ece_udaf: Udaf<Ece>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Ece;

impl Function for Ece {
    const SPEC: &'static Spec =
        &Spec::new("ece", &[Role::Treated, Role::Propensity, Role::Bins, Role::Binning]).divides(Divides::Neither);

    const EXAMPLE: &'static str = "> SELECT ece(clicked, p) AS ece, ece(clicked, p, 2, 'mass') AS halves
  FROM (VALUES (1, 0.5), (1, 0.75), (0, 0.5), (0, 0.25)) AS log (clicked, p);
+-------+--------+
| ece   | halves |
+-------+--------+
| 0.125 | 0.125  |
+-------+--------+";

    const RELATED: &'static [&'static str] = &["calibration_curve", "nll"];

    type State = Binned;

    fn retracts(call: &Call) -> bool {
        calibration::retracts(call)
    }

    fn terms(rows: &Rows<'_>, call: &Call) -> BinnedTerms {
        calibration::terms(rows, call)
    }

    fn values(state: &Binned, call: &Call) -> Result<ArrayRef> {
        Ok(numbers((0..state.groups()).map(|group| error(&calibration(state, group, call)))))
    }
}

fn error(bins: &[Calibrated]) -> Option<f64> {
    let rows: u64 = bins.iter().map(|of| of.bin.count).sum();
    let gap: f64 = bins.iter().map(|of| (of.bin.propensity() - of.bin.treated as f64).abs()).sum();
    (rows > 0).then(|| gap / rows as f64)
}
