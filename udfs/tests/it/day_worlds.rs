//! Simulated days, whose propensities are steady until they change.

use rand::RngExt;
use rand::rngs::StdRng;

use super::worlds::{Row, normal};

/// Days of a log whose propensities, about 0.1, change at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Days {
    pub(crate) rows: usize,
    /// The day of the change.
    pub(crate) from: u32,
    /// By how much logits change then: all of them, and along half a standard normal φ, within ±1.
    pub(crate) change: [f64; 2],
    /// Rows that a user has on a day.
    pub(crate) of_user: usize,
    /// How much users differ, by the correlation of their treatments.
    pub(crate) rho: f64,
    /// Users that go, and others come, on a day.
    pub(crate) turnover: usize,
    /// How much logits swing in a week, and from one day to another.
    pub(crate) season: f64,
    pub(crate) wobble: f64,
}

impl Days {
    /// Independent rows that do not change.
    pub(crate) const STEADY: Self =
        Self { rows: 2000, from: 0, change: [0.0; 2], of_user: 1, rho: 0.0, turnover: 0, season: 0.0, wobble: 0.0 };

    /// How users differ from the others, and days, over so many days.
    pub(crate) fn effects(&self, rng: &mut StdRng, days: usize) -> [Vec<f64>; 2] {
        let spread = (self.rho / 0.09).sqrt();
        let users = self.rows / self.of_user + self.turnover * days;
        let users = (0..users).map(|_| if spread > 0.0 { spread * normal(rng) } else { 0.0 }).collect();
        [users, (0..days).map(|_| self.wobble * normal(rng)).collect()]
    }

    /// The rows of a day, with the day in the place of the item, and the second element of φ in that of the error.
    pub(crate) fn rows(&self, rng: &mut StdRng, [users, days]: &[Vec<f64>; 2], day: u32) -> Vec<Row> {
        let season = self.season * (std::f64::consts::TAU * f64::from(day) / 7.0).sin();
        let [constant, element] = if day >= self.from { self.change } else { [0.0; 2] };
        let of_day = season + days[day as usize] + constant;
        let row = |row: usize| {
            let user = self.turnover * day as usize + row / self.of_user;
            let (x, e) = (normal(rng), normal(rng));
            let logit = -2.2 + 0.3 * x + 0.3 * normal(rng);
            let of = |logit: f64| 1.0 / (1.0 + (-logit).exp());
            let truth = of(logit + of_day + users[user] + element * (x / 2.0).clamp(-1.0, 1.0));
            Row { user: user as u32, item: day, o: rng.random_bool(truth), p: of(logit), e, x }
        };
        (0..self.rows).map(row).collect()
    }
}
