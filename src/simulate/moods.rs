//! Treatments of a user that go together.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use statrs::distribution::{ContinuousCDF, Normal};
use statrs::function::erf::erfc;

use super::Simulation;
use super::world::{sigmoid, solve};
use crate::error::{Result, invalid};

/// Pairs of rows over which the correlation is averaged.
const PAIRS: usize = 1_024;
/// The largest correlation of normal scores.
const MOST: f64 = 0.98;

/// The moods of users: a row is treated where a standard normal score is below the quantile of its propensity, and the scores
/// of a user have a part in common (a Gaussian copula).
#[derive(Debug)]
pub(super) struct Moods {
    /// Standard normal, by user.
    of_users: Vec<f64>,
    /// The correlation of the scores of two rows of a user.
    latent: f64,
}

impl Moods {
    /// Draws the moods, and finds the correlation of scores that gives treatments the one asked for. `propensity_of` gives
    /// the true propensity of a row of a user, drawn at random.
    ///
    /// # Errors
    /// Where no correlation of scores does.
    pub(super) fn new(
        config: &Simulation,
        propensity_of: impl Fn(usize, &mut ChaCha8Rng) -> f64,
        random: &mut ChaCha8Rng,
    ) -> Result<Self> {
        let of_users: Vec<f64> = (0..config.users).map(|_| random.sample(StandardNormal)).collect();
        let pairs: Vec<[f64; 2]> = (0..PAIRS)
            .map(|_| {
                let user = random.random_range(0..of_users.len());
                [propensity_of(user, random), propensity_of(user, random)]
            })
            .collect();
        let most = correlation(&pairs, MOST);
        let asked = config.user_correlation;
        if asked > most {
            invalid!(
                "user-correlation = {asked}: propensities differ too much within a user for more than {most:.2}; give less"
            );
        }
        Ok(Self { of_users, latent: MOST * sigmoid(solve(asked, |by| correlation(&pairs, MOST * sigmoid(by)))) })
    }

    /// Uniform between 0 and 1, correlated with the other scores of the user.
    pub(super) fn score(&self, user: usize, random: &mut ChaCha8Rng) -> f64 {
        let own: f64 = random.sample(StandardNormal);
        let score = self.latent.sqrt() * self.of_users[user] + (1.0 - self.latent).sqrt() * own;
        0.5 * erfc(-score / std::f64::consts::SQRT_2)
    }
}

/// The mean covariance of two treatments whose scores are correlated by `latent`, over the mean of the products of their
/// standard deviations.
fn correlation(pairs: &[[f64; 2]], latent: f64) -> f64 {
    let deviation = |p: f64| (p * (1.0 - p)).sqrt();
    let covariances: f64 = pairs.iter().map(|[p, q]| covariance(*p, *q, latent)).sum();
    covariances / pairs.iter().map(|[p, q]| deviation(*p) * deviation(*q)).sum::<f64>()
}

/// P(x < Φ⁻¹(p), y < Φ⁻¹(q)) − p·q of normal scores x and y with a correlation: the integral, over correlations from 0 on, of
/// their density at that point (Plackett 1954), by Simpson's rule over the angle whose sine is the correlation.
fn covariance(p: f64, q: f64, correlation: f64) -> f64 {
    const STEPS: usize = 32;
    let [h, k] = [p, q].map(|p| Normal::standard().inverse_cdf(p));
    let width = correlation.asin() / STEPS as f64;
    let density = |step: usize| {
        let (sine, cosine) = (width * step as f64).sin_cos();
        (-(h * h + k * k - 2.0 * h * k * sine) / (2.0 * cosine * cosine)).exp() / std::f64::consts::TAU
    };
    let weighted = |step: usize| match step {
        0 | STEPS => density(step),
        _ if step % 2 == 1 => 4.0 * density(step),
        _ => 2.0 * density(step),
    };
    (0..=STEPS).map(weighted).sum::<f64>() * width / 3.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At p = q = 1/2 the orthant probability is 1/4 + asin(r)/2π (Sheppard 1899).
    #[test]
    fn covariance_of_halves_is_sheppards() {
        for r in [0.0, 0.1, 0.5, 0.9, MOST] {
            let wanted = f64::asin(r) / std::f64::consts::TAU;
            assert!((covariance(0.5, 0.5, r) - wanted).abs() < 1e-12, "{r}");
        }
    }

    /// The tetrachoric series Σ He_{n−1}(h)·He_{n−1}(k)·φ(h)·φ(k)·rⁿ/n! (Pearson 1900).
    #[test]
    fn covariance_agrees_with_the_tetrachoric_series() {
        for (p, q, r) in [(0.15, 0.3, 0.4), (0.05, 0.6, 0.2), (0.02, 0.01, 0.5)] {
            let [h, k] = [p, q].map(|p| Normal::standard().inverse_cdf(p));
            let density = (-(h * h + k * k) / 2.0_f64).exp() / std::f64::consts::TAU;
            let (mut series, mut power) = (0.0, density);
            let (mut of_h, mut of_k) = ((1.0, h), (1.0, k));
            for n in 1..80 {
                power *= r / f64::from(n);
                series += power * of_h.0 * of_k.0;
                let next = |x: f64, (before, now): (f64, f64)| (now, x * now - f64::from(n) * before);
                (of_h, of_k) = (next(h, of_h), next(k, of_k));
            }
            let ours = covariance(p, q, r);
            assert!((ours - series).abs() < 1e-7 * series, "{p}, {q}, {r}: {ours} is not {series}");
        }
    }
}
