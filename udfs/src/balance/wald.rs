//! Wald's test of a mean whose covariance is known.

use nalgebra::{DMatrix, DVector, SymmetricEigen};
use statrs::distribution::{ChiSquared, ContinuousCDF};

use crate::inference::{Spread, student_tail};
use crate::state::packed::is_full;
use crate::state::{Centred, MeanMoments};

/// A mean beside 0, element by element and as a whole.
#[derive(Debug)]
pub(super) struct Wald {
    /// `meanᵀ·V⁺·mean`; beyond [`crate::state::packed::FULL_WIDTH`] elements, the sum of the squared z.
    pub(super) statistic: f64,
    /// The rank of V; beyond the full width, the elements that vary.
    pub(super) dof: u64,
    /// How many times further than χ²'s the statistic's variance is from 0, at least 1.
    pub(super) scale: f64,
    pub(super) p_value: f64,
    /// Standard error of each element.
    pub(super) errors: Vec<f64>,
    /// Of each element alone; `None` where it is 0 in every row.
    pub(super) p_values: Vec<Option<f64>>,
    /// The element, from 1, whose mean is the most standard errors from 0, and how many.
    pub(super) worst: (u64, f64),
    /// Elements that add nothing to the statistic: they are 0 in every row, or others determine them.
    pub(super) untested: u64,
}

impl Wald {
    /// The test of the mean of `w·φ`, from its moments: its covariance V and its fourth cumulants.
    ///
    /// The statistic is referred to the χ² law that Box (1954) fits to it: stretched until its variance is the one that
    /// the cumulants imply, so that a few heavy rows do not pass for imbalance. That variance is exact for one element
    /// and for elements of which a row has one, such as one-hot columns; else it takes a row's `xᵀV⁺x` for
    /// `dof/K · Σ x²/V`. Where φ holds a constant, the other elements are taken less their mean for that, which changes
    /// nothing of what is tested.
    ///
    /// `None` where every element is 0 in every row.
    pub(super) fn new(moments: &MeanMoments) -> Option<Self> {
        let width = moments.width();
        let centred = moments.centred();
        let fourth = moments.plain_fourth();
        let variances: Vec<f64> = (0..width)
            .map(|k| centred.covariance(k, k) + centred.weight() * centred.centre[k] * centred.centre[k])
            .collect();
        let errors: Vec<f64> = variances.iter().map(|variance| variance.sqrt()).collect();
        let elements: Vec<usize> = (0..width).filter(|&k| errors[k] > 0.0).collect();
        let kurtosis = |k: usize| fourth(k, k) / variances[k] / variances[k];
        let z = |k: usize| moments.value(k) / errors[k];
        let worst = elements.iter().copied().reduce(|best, k| if z(k).abs() > z(best).abs() { k } else { best })?;
        let p_values: Vec<Option<f64>> =
            (0..width).map(|k| (errors[k] > 0.0).then(|| Law::new(1, kurtosis(k)).sf(z(k) * z(k)))).collect();
        let test = Self {
            statistic: elements.iter().map(|&k| z(k) * z(k)).sum(),
            dof: elements.len() as u64,
            scale: 1.0,
            p_value: 1.0,
            errors: errors.clone(),
            worst: (worst as u64 + 1, z(worst)),
            p_values,
            untested: (width - elements.len()) as u64,
        };
        if !is_full(width) {
            let least = test.p_values.iter().flatten().copied().fold(1.0, f64::min);
            return Some(Self { p_value: (least * elements.len() as f64).min(1.0), ..test });
        }

        let space = Space::new(&centred);
        let (statistic, dof) = (space.squared_length(), space.dof());
        let excess = match space.has_constant {
            true => {
                let varying: Vec<usize> = (0..width).filter(|&k| centred.covariance(k, k) > 0.0).collect();
                let share = if varying.is_empty() { 0.0 } else { (dof - 1) as f64 / varying.len() as f64 };
                let pairs = varying.iter().flat_map(|&k| varying.iter().map(move |&l| (k, l)));
                let among: f64 = pairs
                    .map(|(k, l)| centred.fourth(k, l) / centred.covariance(k, k) / centred.covariance(l, l))
                    .sum();
                let with: f64 = varying.iter().map(|&k| centred.fourth_with_weight(k) / centred.covariance(k, k)).sum();
                let weight = centred.weight();
                centred.fourth_of_weight() / weight / weight + 2.0 * share * with / weight + share * share * among
            }
            false => {
                let pairs = elements.iter().flat_map(|&k| elements.iter().map(move |&l| (k, l)));
                let sum: f64 = pairs.map(|(k, l)| fourth(k, l) / variances[k] / variances[l]).sum();
                sum * (dof as f64 / elements.len() as f64).powi(2)
            }
        };
        let law = Law::new(dof, excess);
        let untested = width as u64 - dof.min(width as u64);
        Some(Self { statistic, dof, scale: law.scale, p_value: law.sf(statistic), untested, ..test })
    }

    /// The same of rows that belong together, with what they say of the spread of each element: element by element, for the
    /// covariances of many elements need more clusters than there may be.
    ///
    /// `None` where every element is 0 in every row, and where there is but one group of clusters.
    pub(super) fn clustered(moments: &MeanMoments, spread: impl Fn(usize) -> Option<Spread>) -> Option<Self> {
        let independent = Self::new(moments)?;
        let width = moments.width();
        let spreads = (0..width).map(|k| Some(spread(k)?.at_least(independent.errors[k].powi(2))));
        let spreads = spreads.collect::<Option<Vec<_>>>()?;
        let z = |k: usize| moments.value(k) / spreads[k].error();
        let p_value = |k: usize| {
            let alone = independent.p_values[k]?;
            Some((2.0 * student_tail(z(k).abs(), spreads[k].degrees)).clamp(alone, 1.0))
        };
        let p_values: Vec<Option<f64>> = (0..width).map(p_value).collect();
        let elements: Vec<usize> = (0..width).filter(|&k| p_values[k].is_some()).collect();
        let worst = elements.iter().copied().reduce(|best, k| if z(k).abs() > z(best).abs() { k } else { best })?;
        let least = p_values.iter().flatten().copied().fold(1.0, f64::min);
        Some(Self {
            statistic: elements.iter().map(|&k| z(k) * z(k)).sum(),
            dof: elements.len() as u64,
            scale: 1.0,
            p_value: (least * elements.len() as f64).min(1.0),
            errors: spreads.iter().map(Spread::error).collect(),
            worst: (worst as u64 + 1, z(worst)),
            p_values,
            untested: (width - elements.len()) as u64,
        })
    }
}

/// The space of what the elements of φ say of a row, with coordinates that have variance 1 and no correlation: the first is
/// of the constant 1, the others are of the elements less their means.
struct Space {
    /// The mean, in these coordinates.
    mean: DVector<f64>,
    /// What no element says, where the constant 1 is no sum of elements: the direction across all of them.
    across: Option<DVector<f64>>,
    /// Whether an element is a constant other than 0.
    has_constant: bool,
}

impl Space {
    /// Neither the unit nor the origin of an element decides which directions there are: they are those of the correlation
    /// matrix.
    fn new(centred: &Centred) -> Self {
        /// The share of the largest eigenvalue below which a direction varies by rounding only, as where one-hot columns
        /// determine each other.
        const RANK: f64 = 1e-10;
        let width = centred.centre.len();
        let varying: Vec<usize> = (0..width).filter(|&k| centred.covariance(k, k) > 0.0).collect();
        let has_constant = (0..width).any(|k| centred.covariance(k, k) == 0.0 && centred.centre[k] != 0.0);
        let deviation = |k: usize| centred.covariance(k, k).sqrt();
        let correlation = DMatrix::from_fn(varying.len(), varying.len(), |i, j| {
            let (k, l) = (varying[i], varying[j]);
            (centred.covariance(k, l) / deviation(k) / deviation(l)).clamp(-1.0, 1.0)
        });
        let scaled = |f: &dyn Fn(usize) -> f64| {
            DVector::from_iterator(varying.len(), varying.iter().map(|&k| f(k) / deviation(k)))
        };
        let means = scaled(&|k| centred.value(k));
        let spread = centred.weight().sqrt();
        let centres = scaled(&|k| centred.centre[k]) * spread;

        let (mut mean, mut across) = (vec![centred.tilt() / spread], vec![1.0]);
        let mut has_one = has_constant;
        if !varying.is_empty() {
            let SymmetricEigen { eigenvectors, eigenvalues } = SymmetricEigen::new(correlation);
            let least = RANK * eigenvalues.max();
            for (direction, &value) in eigenvectors.column_iter().zip(&eigenvalues) {
                if value > least {
                    mean.push(direction.dot(&means) / value.sqrt());
                    across.push(-direction.dot(&centres) / value.sqrt());
                } else {
                    // A sum of elements that does not vary: is it a constant, or 0 but for rounding?
                    let rounding = direction.iter().zip(&centres).map(|(x, c)| (1e-8 * x.abs() + 1e-14) * c.abs());
                    has_one |= direction.dot(&centres).abs() > rounding.sum::<f64>();
                }
            }
        }
        let across = (!has_one).then(|| DVector::from_vec(across).normalize());
        Self { mean: DVector::from_vec(mean), across, has_constant }
    }

    fn dof(&self) -> u64 {
        self.mean.len() as u64 - u64::from(self.across.is_some())
    }

    /// Squared length of what the elements say of the mean.
    fn squared_length(&self) -> f64 {
        match &self.across {
            Some(across) => (&self.mean - across * across.dot(&self.mean)).norm_squared(),
            None => self.mean.norm_squared(),
        }
    }
}

/// `scale · χ²`, of the mean `dof`.
struct Law {
    dof: u64,
    scale: f64,
}

impl Law {
    /// The law whose variance is `2·dof + excess`, or χ² where that is less than χ²'s.
    fn new(dof: u64, excess: f64) -> Self {
        /// Beyond it every p-value is as good as 0.
        const LARGEST: f64 = 1e12;
        let scale = 1.0 + excess / (2.0 * dof as f64);
        // Not a number where infinite cumulants meet.
        Self { dof, scale: if scale > 1.0 { scale.min(LARGEST) } else { 1.0 } }
    }

    /// The probability of a value of at least `statistic`.
    fn sf(&self, statistic: f64) -> f64 {
        let law = ChiSquared::new(self.dof as f64 / self.scale).expect("a positive number of degrees");
        law.sf(statistic / self.scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_p_value_is_a_probability_however_heavy_the_rows() {
        for excess in [f64::NEG_INFINITY, -1.0, 0.0, 1e3, 1e6, 1e300, f64::INFINITY, f64::NAN] {
            for dof in [1, 2, 64] {
                let law = Law::new(dof, excess);
                let values: Vec<f64> = [0.0, 1e-300, 1.0, 30.0, 1e9, 1e300].map(|x| law.sf(x)).to_vec();
                assert!(values.iter().all(|p| (0.0..=1.0).contains(p)), "{excess}, {dof}: {values:?}");
                assert!(values.is_sorted_by(|a, b| a >= b), "{excess}, {dof}: {values:?}");
            }
        }
    }
}
