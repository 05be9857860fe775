use std::f64::consts::PI;

use tch::{Device, Kind, Tensor};

use super::classes::Classes;
use super::{Moments, Pairs, variance};
use counterweight::error::Result;

/// The natural logarithm of how much is lost at most where sums are interpolated.
const PRECISION: f64 = 36.0;
/// Entries that are handled at a time.
const CHUNK: i64 = 1 << 12;

/// All pairs of users × items, by class.
///
/// The sum of p over the pairs of a user depends on the user by its entry in the table alone, and smoothly: it is computed
/// at the nodes of a Chebyshev polynomial and interpolated in between, to about the precision of float64. So every sum
/// costs as many numbers as there are classes of users and items, times some tens, in place of all pairs.
pub(super) struct Matrix {
    users: i64,
    items: i64,
    /// How many users, or items, a class has.
    sizes: Tensor,
    /// How many treated pairs they have together.
    treated: Tensor,
}

impl Matrix {
    pub(super) fn new(classes: &[Classes; 2], device: Device) -> Self {
        let both = |of: fn(&Classes) -> Tensor| Tensor::cat(&classes.each_ref().map(of), 0).to_device(device);
        let [users, items] = classes.each_ref().map(Classes::count);
        Self { users, items, sizes: both(Classes::sizes), treated: both(Classes::treated) }
    }

    fn sides(&self, table: &Tensor) -> (Tensor, Tensor) {
        (table.narrow(0, 0, self.users), table.narrow(0, self.users, self.items))
    }

    /// By class, the sum over the pairs of its members of `kernel` of the logit, times `weight` of the other end.
    fn sums(&self, kernel: fn(&Tensor) -> Tensor, table: &Tensor, weight: &Tensor) -> Tensor {
        let ((users, items), (of_users, of_items)) = (self.sides(table), self.sides(&(weight * &self.sizes)));
        let parts = [sums(kernel, &users, &items, &of_items), sums(kernel, &items, &users, &of_users)];
        Tensor::cat(&parts, 0) * &self.sizes
    }
}

impl Pairs for Matrix {
    fn counts(&self) -> (f64, f64) {
        let total = |of: &Tensor| of.sum(Kind::Double).double_value(&[]);
        let (users, items) = self.sides(&self.sizes);
        (total(&users) * total(&items), total(&self.sides(&self.treated).0))
    }

    fn moments(&self, table: &Tensor) -> Result<Moments> {
        let ones = table.ones_like();
        let residual = self.sums(Tensor::sigmoid, table, &ones) - &self.treated;
        Ok(Moments { residual, weight: self.sums(variance_at, table, &ones) })
    }

    fn cross(&self, table: &Tensor, direction: &Tensor) -> Result<Tensor> {
        Ok(self.sums(variance_at, table, direction))
    }
}

fn variance_at(logit: &Tensor) -> Tensor {
    variance(&logit.sigmoid())
}

/// The sum over sources of weight·kernel(target + source), for every target.
///
/// The nearest singularities of the kernels are at ±iπ, which says how many nodes an interval of targets needs. What is
/// interpolated is the sum over that of the largest source alone, were its weight 1 and its kernel the sigmoid, which
/// varies little: so the least of the sums are as precise as the largest.
fn sums(kernel: fn(&Tensor) -> Tensor, targets: &Tensor, sources: &Tensor, weights: &Tensor) -> Tensor {
    let (low, high) = (targets.min().double_value(&[]), targets.max().double_value(&[]));
    let largest = sources.max().double_value(&[]);
    let (middle, half) = ((low + high) / 2.0, ((high - low) / 2.0).max(1e-3));
    let count = (PRECISION / (PI / half).asinh()).ceil() as i64 + 8;
    let degrees = Tensor::arange(count, (Kind::Double, targets.device()));
    let angles = (&degrees + 0.5) * (PI / count as f64);
    let nodes = angles.cos() * half + middle;

    let chunks = sources.split(CHUNK, 0).into_iter().zip(weights.split(CHUNK, 0));
    let parts = chunks.map(|(sources, weights)| kernel(&(nodes.unsqueeze(1) + sources.unsqueeze(0))).mv(&weights));
    let at_nodes = parts.sum::<Tensor>() / (&nodes + largest).sigmoid();
    let coefficients = (degrees.unsqueeze(1) * angles.unsqueeze(0)).cos().mv(&at_nodes) * (2.0 / count as f64);
    let _ = coefficients.get(0).divide_scalar_(2.0);

    let at_targets = targets.split(CHUNK, 0).into_iter().map(|targets| {
        let angle = ((&targets - middle) / half).clamp(-1.0, 1.0).acos();
        (angle.unsqueeze(1) * degrees.unsqueeze(0)).cos().mv(&coefficients) * (targets + largest).sigmoid()
    });
    Tensor::cat(&at_targets.collect::<Vec<_>>(), 0)
}

#[cfg(test)]
mod tests {
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    /// Against loops over all pairs, from sparse populations to dense ones, from equal users to very unequal ones.
    #[test]
    fn sums_are_those_over_all_pairs() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for (level, spread) in [(-9.0, 0.0), (-9.0, 4.0), (-3.0, 1.0), (0.0, 12.0), (4.0, 2.0)] {
            let mut numbers = |count: usize, level: f64, spread: f64| -> Vec<f64> {
                (0..count).map(|_| level + spread * rng.random_range(-1.0..1.0)).collect()
            };
            let (targets, sources, weights) =
                (numbers(70, level, spread), numbers(50, 0.0, spread), numbers(50, 0.5, 1.5));
            let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
            for (kernel, is_variance) in [(Tensor::sigmoid as fn(&Tensor) -> Tensor, false), (variance_at, true)] {
                let by_definition = |x: f64| sigmoid(x) * if is_variance { sigmoid(-x) } else { 1.0 };
                let [of, from, with] = [&targets, &sources, &weights].map(|values| Tensor::from_slice(values));
                let ours = Vec::<f64>::try_from(sums(kernel, &of, &from, &with)).unwrap();
                for (ours, target) in ours.iter().zip(&targets) {
                    let part = |(source, weight): (&f64, &f64)| weight * by_definition(target + source);
                    let wanted: f64 = sources.iter().zip(&weights).map(part).sum();
                    let scale: f64 = sources.iter().map(|source| sigmoid(target + source)).sum();
                    assert!((ours - wanted).abs() < 1e-11 * scale, "{level} ± {spread}: {ours} is not {wanted}");
                }
            }
        }
    }
}
