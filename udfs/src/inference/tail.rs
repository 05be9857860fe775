//! A bound of the tail of a sum of independent terms that holds for any number of terms.

/// Of a sum of independent terms with mean 0: the sums of the means of their squares, cubes and fourth powers, and the
/// largest that one of them can be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cumulants {
    pub(crate) second: f64,
    pub(crate) third: f64,
    pub(crate) fourth: f64,
    pub(crate) largest: f64,
}

impl Cumulants {
    /// Those of the negative of the sum; `largest` is that of its terms.
    pub(crate) fn negative(self, largest: f64) -> Self {
        Self { third: -self.third, largest, ..self }
    }
}

/// A bound of the probability that such a sum is at least `t`, for t above 0: the least of `exp(K(s) − s·t)` over s.
///
/// `K(s) = s²/2·ΣE[X²] + s³/6·ΣE[X³] + s⁴·κ(s·b)·ΣE[X⁴]` bounds the logarithm of `E[exp(s·ΣX)]`, for
/// `κ(z) = (eᶻ − 1 − z − z²/2 − z³/6)/z⁴` rises with z, and no X is larger than b. It is Bennett's bound with two moments
/// more: it is never above his, and as it takes no more than sums of powers, it can be had around a mean that is known only
/// when all rows have been seen.
///
/// Source: Bennett, *Probability inequalities for the sum of independent random variables*, 1962.
pub(crate) fn tail_probability(t: f64, cumulants: &Cumulants) -> f64 {
    /// How far to look on both sides of the s that would be best for a normal sum.
    const RANGE: (f64, f64) = (1e-5, 20.0);
    const STEPS: usize = 48;
    let Cumulants { second, third, fourth, largest } = *cumulants;
    let gaussian = t / second;
    if t.is_nan() || t <= 0.0 || second.is_nan() || second <= 0.0 {
        return if t > 0.0 && second == 0.0 { 0.0 } else { 1.0 };
    }
    let exponent = |log_s: f64| {
        let s = gaussian * log_s.exp();
        let bound = s * s * (second / 2.0 + s * third / 6.0 + s * s * remainder(s * largest) * fourth) - s * t;
        if bound.is_nan() { f64::INFINITY } else { bound }
    };
    let (from, to) = (RANGE.0.ln(), RANGE.1.ln());
    let step = (to - from) / STEPS as f64;
    let start = (0..=STEPS).map(|k| from + k as f64 * step).min_by(|a, b| exponent(*a).total_cmp(&exponent(*b)));
    // Golden section between the neighbours of the best.
    const GOLDEN: f64 = 0.618_033_988_749_895;
    let (mut low, mut high) = start.map_or((from, to), |start| (start - step, start + step));
    for _ in 0..40 {
        let (left, right) = (high - GOLDEN * (high - low), low + GOLDEN * (high - low));
        if exponent(left) < exponent(right) { high = right } else { low = left }
    }
    exponent(low.midpoint(high)).exp().min(1.0)
}

/// `(eᶻ − 1 − z − z²/2 − z³/6)/z⁴` for z ≥ 0.
fn remainder(z: f64) -> f64 {
    if z > 4.0 {
        return (z.exp() - 1.0 - z * (1.0 + z * (0.5 + z / 6.0))) / z.powi(4);
    }
    let (mut term, mut sum) = (1.0 / 24.0, 0.0);
    for k in 5..40 {
        sum += term;
        term *= z / f64::from(k);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The probability that a binomial number is at least `least`.
    fn binomial_tail(n: u64, p: f64, least: u64) -> f64 {
        let mut term = (n as f64 * (1.0 - p).ln()).exp();
        let mut below = 0.0;
        let mut tail = 0.0;
        for k in 0..=n {
            if k < least {
                below += term
            } else {
                tail += term
            }
            term *= (n - k) as f64 / (k + 1) as f64 * p / (1.0 - p);
        }
        assert!((below + tail - 1.0).abs() < 1e-9);
        tail
    }

    fn of_counts(n: f64, p: f64) -> Cumulants {
        let q = 1.0 - p;
        let variance = n * p * q;
        Cumulants { second: variance, third: variance * (q - p), fourth: variance * (1.0 - 3.0 * p * q), largest: q }
    }

    #[test]
    fn the_bound_holds_for_counts_of_any_rarity_on_both_sides() {
        for (n, p) in [(100, 0.001), (1000, 0.003), (1000, 0.3), (50, 0.5), (2000, 0.0005)] {
            let mean = n as f64 * p;
            for least in (mean.ceil() as u64 + 1)..=(mean + 12.0 * mean.sqrt() + 3.0).min(n as f64) as u64 {
                let exact = binomial_tail(n, p, least);
                let bound = tail_probability(least as f64 - mean, &of_counts(n as f64, p));
                assert!(bound >= exact * (1.0 - 1e-9), "{n}, {p}: P(≥ {least}) is {exact}, bounded by {bound}");
                // Where tests are decided, it is within the usual factor of such bounds.
                assert!(exact < 1e-6 || bound <= exact * 25.0, "{n}, {p}: P(≥ {least}) is {exact}, bounded by {bound}");
            }
            for most in 0..mean.floor() as u64 {
                let exact = 1.0 - binomial_tail(n, p, most + 1);
                let bound = tail_probability(mean - most as f64, &of_counts(n as f64, p).negative(p));
                assert!(bound >= exact * (1.0 - 1e-6) - 1e-12, "{n}, {p}: P(≤ {most}) is {exact}, bounded by {bound}");
            }
        }
    }

    #[test]
    fn it_is_never_above_bennetts() {
        for (n, p) in [(1000.0f64, 0.003f64), (1000.0, 0.3), (1e6, 1e-4)] {
            for z in [1.0, 3.0, 6.0, 12.0] {
                let cumulants = of_counts(n, p);
                let (variance, b, t) = (cumulants.second, cumulants.largest, z * cumulants.second.sqrt());
                let u = b * t / variance;
                let bennett = (-variance / (b * b) * ((1.0 + u) * u.ln_1p() - u)).exp();
                let bound = tail_probability(t, &cumulants);
                assert!(bound <= bennett * (1.0 + 1e-6), "{n}, {p}, {z}: {bound} above {bennett}");
            }
        }
    }

    #[test]
    fn of_many_even_terms_it_is_the_normal_one() {
        let cumulants = Cumulants { second: 1e8, third: 0.0, fourth: 1e8, largest: 1.0 };
        for z in [2.0, 4.0, 8.0] {
            let bound = tail_probability(z * 1e4, &cumulants);
            assert!((bound / f64::exp(-z * z / 2.0) - 1.0).abs() < 1e-3, "{z}: {bound}");
        }
        assert_eq!(tail_probability(0.0, &cumulants), 1.0);
    }
}
