//! Student's t law.

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// Beyond so many degrees the law is the normal one to all digits that matter.
const MANY: f64 = 1e8;

/// The probability that a number of Student's law exceeds `x`.
pub(crate) fn student_tail(x: f64, degrees: f64) -> f64 {
    if degrees > MANY {
        return Normal::standard().sf(x);
    }
    StudentsT::new(0.0, 1.0, degrees).map_or(f64::NAN, |law| law.sf(x))
}

/// The number that one of Student's law exceeds with probability `tail`, from 0 to 1/2.
pub(crate) fn student_quantile(tail: f64, degrees: f64) -> f64 {
    let normal = -Normal::standard().inverse_cdf(tail);
    if degrees > MANY || !(tail > 0.0 && tail < 0.5) {
        return normal;
    }
    // The tail is heavier than the normal one, so the quantile is not below the normal one.
    let (mut low, mut high) = (normal, 2.0 * normal + 1.0);
    while student_tail(high, degrees) > tail {
        (low, high) = (high, 2.0 * high);
    }
    // On the scale of logarithms the tail is nearly straight, so that the secant closes in fast; halving makes it safe.
    let distance = |x: f64| (student_tail(x, degrees) / tail).ln();
    let (mut below, mut above) = (distance(low), distance(high));
    for step in 0..200 {
        if high - low <= 1e-14 * high {
            break;
        }
        let secant = low + (high - low) * below / (below - above);
        let inside = step % 3 != 2 && secant > low && secant < high;
        let x = if inside { secant } else { low.midpoint(high) };
        match distance(x) {
            at if at > 0.0 => (low, below) = (x, at),
            at => (high, above) = (x, at),
        }
    }
    low.midpoint(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Quantiles of textbooks.
    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (tail, degrees, quantile) in [
            (0.025, 1.0, 12.706_204_736_174_7),
            (0.025, 2.0, 4.302_652_729_749_46),
            (0.05, 5.0, 2.015_048_372_669_16),
            (0.025, 30.0, 2.042_272_456_301_24),
            (0.025, 10.0, 2.228_138_851_964_94),
            (0.025, 1e9, 1.959_963_984_540_05),
            (0.005, 30.0, 2.749_995_653_567_23),
        ] {
            let found = student_quantile(tail, degrees);
            assert!((found / quantile - 1.0).abs() < 1e-6, "{tail}, {degrees}: {found}");
        }
    }

    #[test]
    fn quantile_and_tail_are_inverse() {
        for degrees in [1.0, 1.7, 4.0, 63.0, 255.0, 1e5, 1e7] {
            for tail in [0.4, 0.1, 0.005, 1e-5] {
                let back = student_tail(student_quantile(tail, degrees), degrees);
                assert!((back / tail - 1.0).abs() < 1e-6, "{degrees}, {tail}: {back}");
            }
        }
    }
}
