//! How likely treatments are, had the logits of their propensities been shifted.

use std::f64::consts::PI;
use std::sync::LazyLock;

/// Shifts at which the sum of `ln(1 − p + p·eˢᵈ)` is kept: the zeros of a Chebyshev polynomial, the `i`-th the negative of
/// the `i`-th from the end.
pub(crate) const NODES: usize = 24;

/// The largest shift.
pub(crate) const REACH: f64 = 4.0;

/// The nodes, from the largest.
pub(crate) static SHIFTS: LazyLock<[f64; NODES]> = LazyLock::new(|| std::array::from_fn(|i| REACH * angle(i).cos()));

fn angle(node: usize) -> f64 {
    (2 * node + 1) as f64 * PI / (2 * NODES) as f64
}

/// The logarithm of the likelihood of rows whose logits are shifted by `s·d`, over that without a shift: `s·Σdo − ψ(s)`
/// with `ψ(s) = Σ ln(1 − p + p·eˢᵈ)`.
///
/// ψ is a series of Chebyshev polynomials that is right at the nodes. As the singularities of ψ are no nearer than `±iπ`
/// to the shifts, |d| being at most 1, it is right to about 2e-7 a row at worst, and to 1e-9 within half the reach.
#[derive(Debug, Clone)]
pub(crate) struct Likelihood {
    outcomes: f64,
    /// Coefficients of ψ and of its first two derivatives.
    series: [[f64; NODES]; 3],
}

/// `cos(j·angle(i))`, node by node.
static COSINES: LazyLock<[[f64; NODES]; NODES]> =
    LazyLock::new(|| std::array::from_fn(|i| std::array::from_fn(|j| (j as f64 * angle(i)).cos())));

/// The coefficients of a series' derivative.
fn derivative(series: &[f64; NODES]) -> [f64; NODES] {
    let mut of = [0.0; NODES];
    for j in (1..NODES).rev() {
        of[j - 1] = of.get(j + 1).copied().unwrap_or_default() + 2.0 * j as f64 * series[j] / REACH;
    }
    of[0] /= 2.0;
    of
}

/// Clenshaw's recurrence.
fn value(series: &[f64; NODES], shift: f64) -> f64 {
    let x = shift / REACH;
    let (mut next, mut after) = (0.0, 0.0);
    for coefficient in series[1..].iter().rev() {
        (next, after) = (2.0 * x * next - after + coefficient, next);
    }
    x * next - after + series[0]
}

impl Likelihood {
    /// Of `Σ d·o`, and ψ at the nodes.
    pub(crate) fn new(outcomes: f64, normaliser: &[f64]) -> Self {
        let mut series = [0.0; NODES];
        for (value, cosines) in normaliser.iter().zip(COSINES.iter()) {
            series.iter_mut().zip(cosines).for_each(|(c, cosine)| *c += 2.0 / NODES as f64 * value * cosine);
        }
        series[0] /= 2.0;
        let first = derivative(&series);
        Self { outcomes, series: [series, first, derivative(&first)] }
    }

    /// At a shift, which is taken no further than the reach.
    pub(crate) fn at(&self, shift: f64) -> f64 {
        let shift = shift.clamp(-REACH, REACH);
        shift * self.outcomes - value(&self.series[0], shift)
    }

    /// The shift, within the reach, at which the rows are likeliest: the likelihood is concave.
    pub(crate) fn best(&self) -> f64 {
        let (mut low, mut high) = (-REACH, REACH);
        for _ in 0..60 {
            let middle = low.midpoint(high);
            match self.outcomes > value(&self.series[1], middle) {
                true => low = middle,
                false => high = middle,
            }
        }
        low.midpoint(high)
    }

    /// The variance of `Σ do` at a shift.
    pub(crate) fn variance(&self, shift: f64) -> f64 {
        value(&self.series[2], shift.clamp(-REACH, REACH))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rows: &[(f64, f64, f64)]) -> Likelihood {
        let normaliser = |s: f64| rows.iter().map(|(_, p, d)| (1.0 - p + p * (s * d).exp()).ln()).sum();
        let outcomes = rows.iter().map(|(o, _, d)| o * d).sum();
        Likelihood::new(outcomes, &SHIFTS.map(normaliser))
    }

    #[test]
    fn between_nodes_it_is_the_likelihood_of_each_row() {
        for p in [0.0, 1e-6, 0.01, 0.1, 0.5, 0.9, 0.999, 1.0] {
            for d in [-1.0, -0.3, 0.0, 0.7, 1.0] {
                for o in [0.0, 1.0] {
                    let likelihood = of(&[(o, p, d)]);
                    for step in -40..=40 {
                        let s = f64::from(step) / 10.0;
                        let exact = s * o * d - (1.0 - p + p * (s * d).exp()).ln();
                        let near = if s.abs() <= 2.0 { 1e-8 } else { 3e-7 };
                        let found = likelihood.at(s);
                        assert!((found - exact).abs() < near, "{p}, {d}, {o}, {s}: {found}, not {exact}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_likeliest_shift_makes_the_treatments_as_many_as_expected() {
        let rows: Vec<(f64, f64, f64)> = (0..400)
            .map(|i| (f64::from(i % 5 == 0), 0.05 + 0.2 * f64::from(i % 7) / 7.0, f64::from(i % 11) / 5.0 - 1.0))
            .collect();
        let likelihood = of(&rows);
        let s = likelihood.best();
        let shifted = |p: f64, d: f64| p * (s * d).exp() / (1.0 - p + p * (s * d).exp());
        let left: f64 = rows.iter().map(|(o, p, d)| d * (o - shifted(*p, *d))).sum();
        let variance: f64 = rows.iter().map(|(_, p, d)| d * d * shifted(*p, *d) * (1.0 - shifted(*p, *d))).sum();
        assert!(left.abs() < 1e-6 * variance, "{s}: {left}");
        assert!((likelihood.variance(s) / variance - 1.0).abs() < 1e-6, "{} {variance}", likelihood.variance(s));
        assert!((of(&[(1.0, 0.5, 1.0)]).best() - REACH).abs() < 1e-6);
    }
}
