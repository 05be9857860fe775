//! The Wald test of balance.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion_common::Result;
use datafusion_expr::{AggregateUDF, Documentation};
use nalgebra::{DMatrix, DVector, SymmetricEigen};
use statrs::distribution::{ChiSquared, ContinuousCDF, FisherSnedecor, Normal};

use super::{imbalance, noise_floor, squared_norm, unbiased};
use crate::args::{Call, Role, Rows, Spec};
use crate::docs;
use crate::results::{counts, numbers, struct_type, structs};
use crate::state::{Comoment, Comoments, State, Weighted};
use crate::udaf::{Function, udaf};

/// Wald test of balance: whether `mean(w·φ)` is further from 0 than chance takes it, with
/// `w = o/p − (1−o)/(1−p)`.
///
/// `balance_test(treated, propensity [, phi, ...])` gives a struct:
/// - `n`: rows that count;
/// - `bmse`, `unbiased`, `noise_floor`: as [`bmse`](crate::bmse_udaf),
///   [`bmse_unbiased`](crate::bmse_unbiased_udaf) and [`bmse_noise_floor`](crate::bmse_noise_floor_udaf);
/// - `statistic`, `dof`, `p_value`: Hotelling's T² of the mean, `n·z̄ᵀS⁺z̄` with S the covariance of `w·φ`; the rank of S;
///   and the probability of a statistic as large if the propensities are right, by the F distribution that T² has for
///   normal data, to which its law tends for any. With few rows, or weights so heavy that few rows decide, small p-values
///   come too often;
/// - `worst_component`, `worst_z`: the element of φ, counted from 1, whose mean is the most standard errors from 0, and
///   how many, with its sign.
///
/// Where φ has more than 64 elements only the diagonal of S is kept: the statistic is then the sum of the squared z, and
/// the p-value Bonferroni's for the worst of them, which holds however the elements hang together.
///
/// NULL without a row; `p_value`, `unbiased` and what needs a variance are NULL where the rows do not suffice for it.
///
/// Source: Hotelling, *The generalization of Student's ratio*, 1931; Wald, 1943.
pub fn balance_test_udaf() -> Arc<AggregateUDF> {
    udaf::<BalanceTest>()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct BalanceTest;

impl Function for BalanceTest {
    const SPEC: &'static Spec = &Spec::new("balance_test", &[Role::Treated, Role::Propensity]).with_phi();

    type State = Comoments;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Weighted {
        imbalance(rows)
    }

    fn return_type(_arguments: &[DataType]) -> DataType {
        test_type()
    }

    fn values(state: &Comoments, _call: &Call) -> Result<ArrayRef> {
        Ok(tests((0..state.groups()).map(|group| state.get(group))))
    }

    fn documentation() -> Documentation {
        docs::aggregate(
            Self::SPEC,
            docs::BALANCE,
            "Tests whether the mean of `w * phi` is further from 0 than chance takes it (Hotelling's T², a Wald test), \
             so that sampling noise and real imbalance can be told apart. Gives a struct of `n`, `bmse`, `unbiased`, \
             `noise_floor`, `statistic`, `dof`, `p_value`, `worst_component` (the element of phi, from 1, that is \
             furthest off) and `worst_z` (how many standard errors it is off). Beyond 64 elements of phi their \
             covariances are not kept: the statistic is the sum of squared z, and the p-value is Bonferroni's for the \
             worst element. NULL if no row counts.",
            "> SELECT t['n'] AS n, t['dof'] AS dof, round(t['p_value'], 4) AS p_value, t['worst_component'] AS worst
  FROM (SELECT balance_test(clicked, p, mobile, age) AS t
        FROM (VALUES (1, 0.5, 1.0, 30.0), (1, 0.8, 0.0, 20.0), (0, 0.5, 1.0, 40.0), (0, 0.2, 0.0, 10.0))
          AS log (clicked, p, mobile, age));
+---+-----+---------+-------+
| n | dof | p_value | worst |
+---+-----+---------+-------+
| 4 | 2   | 0.9857  | 2     |
+---+-----+---------+-------+",
            &["bmse", "balance_vector", "balance_state"],
        )
    }
}

pub(super) fn test_type() -> DataType {
    struct_type([
        ("n", DataType::UInt64),
        ("bmse", DataType::Float64),
        ("unbiased", DataType::Float64),
        ("noise_floor", DataType::Float64),
        ("statistic", DataType::Float64),
        ("dof", DataType::UInt64),
        ("p_value", DataType::Float64),
        ("worst_component", DataType::UInt64),
        ("worst_z", DataType::Float64),
    ])
}

/// The test of each group, of [`test_type`].
pub(super) fn tests<'a>(groups: impl Iterator<Item = Option<Comoment<'a>>>) -> ArrayRef {
    let tests: Vec<_> = groups.map(|group| group.map(Test::new)).collect();
    let number = |f: fn(&Test) -> Option<f64>| numbers(tests.iter().map(|test| test.as_ref().and_then(f)));
    let count = |f: fn(&Test) -> Option<u64>| counts(tests.iter().map(|test| test.as_ref().and_then(f)));
    let columns = vec![
        count(|test| Some(test.n)),
        number(|test| Some(test.bmse)),
        number(|test| test.unbiased),
        number(|test| test.noise_floor),
        number(|test| test.wald.as_ref().map(|wald| wald.statistic)),
        count(|test| test.wald.as_ref().map(|wald| wald.dof)),
        number(|test| test.wald.as_ref().and_then(|wald| wald.p_value)),
        count(|test| test.wald.as_ref().map(|wald| wald.worst.0)),
        number(|test| test.wald.as_ref().map(|wald| wald.worst.1)),
    ];
    structs(&test_type(), columns, tests.iter().map(Option::is_some).collect())
}

struct Test {
    n: u64,
    bmse: f64,
    unbiased: Option<f64>,
    noise_floor: Option<f64>,
    wald: Option<Wald>,
}

/// What a test needs two rows for.
struct Wald {
    statistic: f64,
    dof: u64,
    p_value: Option<f64>,
    /// The component, from 1, and its z.
    worst: (u64, f64),
}

impl Test {
    fn new(group: Comoment<'_>) -> Self {
        let (mean, spread) = (group.mean, group.total_spread());
        Self {
            n: group.count,
            bmse: squared_norm(mean),
            unbiased: unbiased(group.count, mean, spread),
            noise_floor: noise_floor(group.count, spread),
            wald: (group.count > 1).then(|| Wald::new(&group)).flatten(),
        }
    }
}

impl Wald {
    /// `None` where every element is 0 in every row.
    fn new(group: &Comoment<'_>) -> Option<Self> {
        let n = group.count as f64;
        // Elements that vary, or do not and are yet not 0: for those z is infinite.
        let elements: Vec<usize> =
            (0..group.mean.len()).filter(|&k| group.spread(k) > 0.0 || group.mean[k] != 0.0).collect();
        let z = |k: usize| group.mean[k] / (group.spread(k) / (n - 1.0) / n).sqrt();
        let further = |best: Option<(usize, f64)>, k: usize| match best {
            Some((_, of_best)) if z(k).abs() <= of_best.abs() => best,
            _ => Some((k, z(k))),
        };
        let (worst, of_worst) = elements.iter().copied().fold(None, further)?;
        let worst = (worst as u64 + 1, of_worst);
        if of_worst.is_infinite() {
            return Some(Self { statistic: f64::INFINITY, dof: elements.len() as u64, p_value: Some(0.0), worst });
        }
        if !group.is_full() {
            let each = 2.0 * Normal::standard().sf(of_worst.abs());
            return Some(Self {
                statistic: elements.iter().map(|&k| z(k) * z(k)).sum(),
                dof: elements.len() as u64,
                p_value: Some((each * elements.len() as f64).min(1.0)),
                worst,
            });
        }
        let scale = |k: usize| group.spread(k).sqrt();
        let correlation = DMatrix::from_fn(elements.len(), elements.len(), |i, j| {
            let (i, j) = (elements[i], elements[j]);
            (group.product(i, j) / scale(i) / scale(j)).clamp(-1.0, 1.0)
        });
        let z = DVector::from_iterator(elements.len(), elements.iter().map(|&k| z(k)));
        let SymmetricEigen { eigenvectors, eigenvalues } = SymmetricEigen::new(correlation);
        let along = eigenvectors.tr_mul(&z);
        // Directions in which the elements determine each other, such as those of one-hot columns, vary by rounding only.
        let least = 1e-10 * eigenvalues.max();
        let kept = eigenvalues.iter().zip(along.iter()).filter(|(value, _)| **value > least);
        let (statistic, dof) = kept.fold((0.0, 0), |(sum, dof), (value, z)| (sum + z * z / value, dof + 1));
        Some(Self { statistic, dof, p_value: p_value(statistic, dof, group.count), worst })
    }
}

/// The probability of a T² as large as `statistic`, from a mean of `n` vectors in `dof` dimensions.
fn p_value(statistic: f64, dof: u64, n: u64) -> Option<f64> {
    /// From so many rows on the F distribution is the χ² that it tends to, to three digits.
    const MANY: u64 = 1_000_000;
    if n <= dof || dof == 0 {
        return None;
    }
    let (rank, n_rows) = (dof as f64, n as f64);
    if n >= MANY {
        return ChiSquared::new(rank).ok().map(|law| law.sf(statistic));
    }
    let rest = n_rows - rank;
    let law = FisherSnedecor::new(rank, rest).ok()?;
    Some(law.sf(statistic * rest / (rank * (n_rows - 1.0))))
}
