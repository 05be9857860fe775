//! The λ at which an estimate plus λ times BMSE varies least.

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Fields};
use datafusion_common::{Result, exec_err};

use crate::args::{Rows, Spec};
use crate::balance::balance_weights;
use crate::results::{numbers, struct_fields, structs};
use crate::state::packed::FULL_WIDTH;
use crate::state::{Comoment, Comoments, State, Weighted};

/// The loss and ‖w·φ‖², in front of w·φ.
pub(super) const LEADS: usize = 2;

pub(super) fn terms(rows: &Rows<'_>, loss: Vec<f64>) -> Weighted {
    let weights = balance_weights(rows);
    let norms = rows.phi.squared_norms(rows.selection(), rows.len());
    let squares = weights.iter().zip(norms).map(|(weight, norm)| weight * weight * norm).collect();
    Weighted { leads: vec![loss, squares], weights: vec![weights] }
}

pub(super) fn optimum_fields() -> Fields {
    struct_fields(["lambda", "variance_at_0", "variance_at_opt", "correlation"].map(|name| (name, DataType::Float64)))
}

struct Optimum {
    lambda: f64,
    variance_at_0: f64,
    variance_at_opt: f64,
    correlation: f64,
}

pub(super) fn optima(spec: &Spec, state: &Comoments) -> Result<ArrayRef> {
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
            lambda: -correlation * (variance_at_0 / of_bmse).sqrt(),
            variance_at_0,
            variance_at_opt: variance_at_0 * (1.0 - correlation * correlation),
            correlation,
        })
    }
}
