//! The delete-one-group jackknife.

/// How far a figure varies from sample to sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) variance: f64,
    /// Degrees of freedom of the variance.
    pub(crate) degrees: f64,
}

impl Spread {
    /// Of rows that belong together in one way; or in two, and in both at once: what each of the two says, less what
    /// belonging together in both says, with the fewer degrees of the two.
    ///
    /// Source: Cameron, Gelbach and Miller, *Robust inference with multiway clustering*, 2011.
    pub(crate) fn of_ways(ways: impl Iterator<Item = Option<Self>>) -> Option<Self> {
        match ways.collect::<Option<Vec<_>>>()?[..] {
            [spread] => Some(spread),
            [first, second, both] => Some(Self {
                variance: first.variance + second.variance - both.variance,
                degrees: first.degrees.min(second.degrees),
            }),
            _ => None,
        }
    }

    /// Not less than a variance that is known.
    pub(crate) fn at_least(self, variance: f64) -> Self {
        Self { variance: self.variance.max(variance), ..self }
    }

    pub(crate) fn error(&self) -> f64 {
        self.variance.sqrt()
    }
}

/// The spread of a figure, from what it is without each of the groups in turn: `(G − 1)/G · ΣD²` with the deviations D
/// from their mean, and `(ΣD²)²/ΣD⁴ − 1` degrees, from 1 to G − 1. `None` for fewer than two groups, and where the
/// figure does not exist without one of them.
///
/// The degrees are those of a variance to which a few large groups give most.
///
/// Source: Efron and Stein, *The jackknife estimate of variance*, 1981.
pub(crate) fn jackknife(without: &[f64]) -> Option<Spread> {
    let (count, sum) = (without.len() as f64, without.iter().sum::<f64>());
    if count < 2.0 || !sum.is_finite() {
        return None;
    }
    let squares = || without.iter().map(|x| (x - sum / count).powi(2));
    let (squares, fourths) = (squares().sum::<f64>(), squares().map(|square| square * square).sum::<f64>());
    let degrees = if fourths > 0.0 { squares * squares / fourths - 1.0 } else { count - 1.0 };
    Some(Spread { variance: (count - 1.0) / count * squares, degrees: degrees.clamp(1.0, count - 1.0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the mean of equal groups, the jackknife gives the variance of the groups' means over their number.
    #[test]
    fn of_a_mean_it_is_the_textbook_variance() {
        let values = [1.0, 2.0, 4.0, 9.0];
        let sum: f64 = values.iter().sum();
        let spread = jackknife(&values.map(|x| (sum - x) / 3.0)).expect("four groups");
        let variance = values.iter().map(|x| (x - 4.0f64).powi(2)).sum::<f64>() / 3.0 / 4.0;
        assert!((spread.variance - variance).abs() < 1e-12);
        let (squares, fourths) = (38.0f64, 81.0 + 16.0 + 625.0);
        assert!((spread.degrees - (squares * squares / fourths - 1.0)).abs() < 1e-12);
    }

    #[test]
    fn one_group_or_a_figure_that_does_not_exist_without_another_tells_nothing() {
        assert_eq!(jackknife(&[1.0]), None);
        assert_eq!(jackknife(&[1.0, f64::NAN]), None);
        assert_eq!(jackknife(&[3.0, 3.0]), Some(Spread { variance: 0.0, degrees: 1.0 }));
    }
}
