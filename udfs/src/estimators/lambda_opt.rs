use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Fields};
use datafusion_common::{Result, exec_err};
use datafusion_expr::{AggregateUDF, Documentation};

use super::{dr_terms, ips_terms};
use crate::args::{Call, Role, Rows, Spec};
use crate::balance::balance_weights;
use crate::docs;
use crate::results::{numbers, struct_fields, structs};
use crate::state::packed::FULL_WIDTH;
use crate::state::{Comoment, Comoments, State, Weighted};
use crate::udaf::{Function, udaf};

/// The λ at which `IPS + λ·BMSE` varies least from sample to sample: `−Cov(IPS, BMSE) / Var(BMSE)`.
///
/// `lambda_opt(treated, propensity, error [, phi, ...])` gives a struct of
/// - `lambda`, in units of the error over φ's unit squared; it may be negative;
/// - `variance_at_0`: the variance of [`ips`](crate::ips_udaf) over samples of as many rows;
/// - `variance_at_opt`: that of `ips + λ·bmse`, which is `(1 − ρ²)` times the former;
/// - `correlation`: ρ of IPS and BMSE over samples.
///
/// One pass over the rows keeps the covariance of the row's loss l, its imbalance `z = w·φ` and `‖z‖²`. With μ, Σ the mean
/// and covariance of z, c its covariance with l, τ and κ the covariances of z and of l with `‖z − μ‖²`, the moments of
/// `BMSE = ‖z̄‖²` over samples of n rows are, to order n⁻²,
/// `Cov = 2μᵀc/n + κ/n²` and `Var = 4μᵀΣμ/n + 4μᵀτ/n² + 2tr(Σ²)/n²` (the last term for a z̄ that is nearly normal). They are
/// estimated by their sample counterparts, corrected for the bias of putting z̄ in place of μ; the variance is held above
/// `2tr(Σ²)/n²`, what it is for perfect balance.
///
/// φ may have 62 elements; more are an error. NULL with fewer than three rows, or where z is 0 throughout.
///
/// Source: Li et al., ICML 2023, theorem 4.2.
pub fn lambda_opt_udaf() -> Arc<AggregateUDF> {
    udaf::<LambdaOpt>()
}

/// [`lambda_opt`](crate::lambda_opt_udaf) of DR: the λ at which `DR + λ·BMSE` varies least.
///
/// `lambda_opt_dr(treated, propensity, error, imputed_error [, phi, ...])` gives the same struct, of
/// [`dr`](crate::dr_udaf) in place of [`ips`](crate::ips_udaf).
///
/// Source: Li et al., ICML 2023, theorem 4.2.
pub fn lambda_opt_dr_udaf() -> Arc<AggregateUDF> {
    udaf::<LambdaOptDr>()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct LambdaOpt;

#[derive(Debug, PartialEq, Eq, Hash)]
struct LambdaOptDr;

impl Function for LambdaOpt {
    const SPEC: &'static Spec =
        &Spec::new("lambda_opt", &[Role::Treated, Role::Propensity, Role::Error]).with_phi().with_leads(LEADS);

    type State = Comoments;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Weighted {
        terms(rows, ips_terms(rows))
    }

    fn return_type(_arguments: &[DataType]) -> DataType {
        DataType::Struct(optimum_fields())
    }

    fn values(state: &Comoments, _call: &Call) -> Result<ArrayRef> {
        optima(Self::SPEC, state)
    }

    fn documentation() -> Documentation {
        docs::aggregate(
            Self::SPEC,
            docs::ESTIMATORS,
            "The lambda at which `ips_v2` varies least from sample to sample, `-Cov(IPS, BMSE) / Var(BMSE)`, estimated \
             in one pass from the covariance of the rows' losses and imbalances. Gives a struct of `lambda`, \
             `variance_at_0` (of `ips`), `variance_at_opt` and `correlation`. phi may have up to 62 elements. NULL if \
             fewer than three rows count.",
            "> SELECT round(o['lambda'], 6) AS lambda, round(o['correlation'], 6) AS correlation
  FROM (SELECT lambda_opt(clicked, p, e) AS o
        FROM (VALUES (1, 0.5, 0.25), (1, 0.8, 0.5), (0, 0.5, NULL), (0, 0.2, NULL), (0, 0.1, NULL))
          AS log (clicked, p, e));
+----------+-------------+
| lambda   | correlation |
+----------+-------------+
| 0.076506 | -0.470758   |
+----------+-------------+",
            &["ips_v2", "lambda_opt_dr"],
        )
    }
}

impl Function for LambdaOptDr {
    const SPEC: &'static Spec =
        &Spec::new("lambda_opt_dr", &[Role::Treated, Role::Propensity, Role::Error, Role::ImputedError])
            .with_phi()
            .with_leads(LEADS);

    type State = Comoments;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Weighted {
        terms(rows, dr_terms(rows))
    }

    fn return_type(_arguments: &[DataType]) -> DataType {
        DataType::Struct(optimum_fields())
    }

    fn values(state: &Comoments, _call: &Call) -> Result<ArrayRef> {
        optima(Self::SPEC, state)
    }

    fn documentation() -> Documentation {
        docs::aggregate(
            Self::SPEC,
            docs::ESTIMATORS,
            "The lambda at which `dr_v2` varies least from sample to sample: `lambda_opt`, of the doubly robust \
             estimate. NULL if fewer than three rows count.",
            "> SELECT round(o['lambda'], 6) AS lambda
  FROM (SELECT lambda_opt_dr(clicked, p, e, i) AS o
        FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125),
                     (0, 0.1, NULL, 0.25)) AS log (clicked, p, e, i));
+----------+
| lambda   |
+----------+
| 0.008121 |
+----------+",
            &["dr_v2", "lambda_opt"],
        )
    }
}

/// The loss and ‖w·φ‖², in front of w·φ.
const LEADS: usize = 2;

fn terms(rows: &Rows<'_>, loss: Vec<f64>) -> Weighted {
    let weights = balance_weights(rows);
    let norms = rows.phi.squared_norms(rows.selection(), rows.len());
    let squares = weights.iter().zip(norms).map(|(weight, norm)| weight * weight * norm).collect();
    Weighted { leads: vec![loss, squares], weights: vec![weights] }
}

fn optimum_fields() -> Fields {
    struct_fields(["lambda", "variance_at_0", "variance_at_opt", "correlation"].map(|name| (name, DataType::Float64)))
}

struct Optimum {
    lambda: f64,
    variance_at_0: f64,
    variance_at_opt: f64,
    correlation: f64,
}

fn optima(spec: &Spec, state: &Comoments) -> Result<ArrayRef> {
    if let Some(width) = state.width().filter(|width| *width > FULL_WIDTH) {
        return exec_err!(
            "{}: phi has {} elements, and this function keeps all their covariances: give at most {}",
            spec.name,
            width - LEADS,
            FULL_WIDTH - LEADS
        );
    }
    let optima: Vec<_> = (0..state.groups()).map(|group| state.get(group).and_then(Optimum::new)).collect();
    let column = |f: fn(&Optimum) -> f64| numbers(optima.iter().map(|optimum| optimum.as_ref().map(f)));
    let columns = vec![
        column(|optimum| optimum.lambda),
        column(|optimum| optimum.variance_at_0),
        column(|optimum| optimum.variance_at_opt),
        column(|optimum| optimum.correlation),
    ];
    Ok(structs(optimum_fields(), columns, optima.iter().map(Option::is_some).collect()))
}

impl Optimum {
    fn new(group: Comoment<'_>) -> Option<Self> {
        if group.count < 3 {
            return None;
        }
        let (loss, square, z) = (0, 1, LEADS..group.mean.len());
        let n = group.count as f64;
        let covariance = |i: usize, j: usize| group.product(i, j) / (n - 1.0);
        let along = |other: usize| z.clone().map(|k| group.mean[k] * covariance(k, other)).sum::<f64>();

        let to_loss = along(loss);
        let third = covariance(loss, square) - 2.0 * to_loss;
        let with_bmse = 2.0 * to_loss / n - third / (n * n);

        let sigma_mean: Vec<f64> = z.clone().map(along).collect();
        let within: f64 = z.clone().zip(&sigma_mean).map(|(k, s)| group.mean[k] * s).sum();
        let skew = along(square) - 2.0 * within;
        let trace_square: f64 =
            z.clone().flat_map(|i| z.clone().map(move |j| (i, j))).map(|(i, j)| covariance(i, j).powi(2)).sum();
        let balanced = 2.0 * trace_square / (n * n);
        let of_bmse = (4.0 * within / n - 4.0 * skew / (n * n) - balanced).max(balanced);
        if of_bmse <= 0.0 {
            return None;
        }

        let variance_at_0 = covariance(loss, loss) / n;
        let correlation = match variance_at_0 > 0.0 {
            true => (with_bmse / (variance_at_0 * of_bmse).sqrt()).clamp(-1.0, 1.0),
            false => 0.0,
        };
        Some(Self {
            lambda: -with_bmse / of_bmse,
            variance_at_0,
            variance_at_opt: variance_at_0 * (1.0 - correlation * correlation),
            correlation,
        })
    }
}
