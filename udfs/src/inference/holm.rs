//! Many tests at once.

/// Holm's p-values: of the tests that have one, those below a level are false discoveries with at most that probability,
/// however the tests depend on each other.
///
/// Source: Holm, *A simple sequentially rejective multiple test procedure*, 1979.
pub(crate) fn holm(p_values: &[Option<f64>]) -> Vec<Option<f64>> {
    let mut tests: Vec<(usize, f64)> = p_values.iter().enumerate().filter_map(|(k, p)| Some((k, (*p)?))).collect();
    tests.sort_by(|(_, a), (_, b)| a.total_cmp(b));
    let mut adjusted = vec![None; p_values.len()];
    let mut least: f64 = 0.0;
    for (rank, &(k, p)) in tests.iter().enumerate() {
        least = least.max(((tests.len() - rank) as f64 * p).min(1.0));
        adjusted[k] = Some(least);
    }
    adjusted
}

/// Šidák's level for each of `tests` tests, of which one is false with at most the probability `level`.
///
/// Source: Šidák, *Rectangular confidence regions for the means of multivariate normal distributions*, 1967.
pub(crate) fn sidak(level: f64, tests: usize) -> f64 {
    -((-level).ln_1p() / tests.max(1) as f64).exp_m1()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_p_value_counts_for_all_tests_and_none_overtakes_another() {
        let adjusted = holm(&[Some(0.01), None, Some(0.04), Some(0.03), Some(0.005)]);
        let expected = [Some(0.03), None, Some(0.06), Some(0.06), Some(0.02)];
        for (adjusted, expected) in adjusted.iter().zip(expected) {
            assert!(adjusted.is_some() == expected.is_some());
            assert!((adjusted.unwrap_or(0.0) - expected.unwrap_or(0.0)).abs() < 1e-15);
        }
    }

    #[test]
    fn independent_tests_at_the_level_of_sidak_err_together_at_the_level_asked_for() {
        for (level, tests) in [(0.01, 1), (0.05, 17), (1e-9, 64)] {
            let together = -(tests as f64 * (-sidak(level, tests)).ln_1p()).exp_m1();
            assert!((together / level - 1.0).abs() < 1e-12);
        }
    }
}
