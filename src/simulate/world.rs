use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::Simulation;
use super::moods::Moods;
use crate::error::Result;
use crate::job::Shape;

pub(super) const COUNTRIES: [(&str, f64); 8] =
    [("US", 0.28), ("IN", 0.2), ("BR", 0.14), ("DE", 0.1), ("JP", 0.1), ("FR", 0.08), ("NG", 0.06), ("SE", 0.04)];
pub(super) const DEVICES: [(&str, f64); 4] = [("phone", 0.6), ("desktop", 0.25), ("tablet", 0.1), ("tv", 0.05)];
/// The device on which `propensity` is too low.
pub(super) const OFF_DEVICE: usize = 3;
pub(super) const POSITIONS: i32 = 10;

const AFFINITY_IN_PROPENSITY: f64 = 0.8;
const AFFINITY_IN_CONVERSION: f64 = 0.9;
/// What of the affinity the prediction knows.
const AFFINITY_IN_PREDICTION: f64 = 0.35;
/// Selection makes a model that misses some of the affinity too hopeful: treated rows convert more than its inputs say.
const PREDICTION_OPTIMISM: f64 = 0.35;
const POSITION_EFFECT: f64 = 0.08;
const SEGMENT_OFFSET: f64 = -1.2;
const DEVICE_OFFSET: f64 = -0.5;
const TIMIDITY: f64 = 0.2;
/// Factors are not centred: embeddings rarely are, and the balance of φ then also sees a constant error.
const FACTOR_MEAN: f64 = 0.5;
const CALIBRATION_PAIRS: usize = 65_536;

/// Which random stream: each table, and each chunk of a table, has its own.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stream {
    Users,
    Items,
    Calibration,
    Biased(u64),
    Uniform(u64),
    Moods,
    /// Users of the placebo, whose tastes conversion follows.
    OtherUsers,
    OtherItems,
}

pub(super) fn random(seed: u64, stream: Stream) -> ChaCha8Rng {
    let (table, chunk) = match stream {
        Stream::Users => (0, 0),
        Stream::Items => (1, 0),
        Stream::Calibration => (2, 0),
        Stream::Biased(chunk) => (3, chunk),
        Stream::Uniform(chunk) => (4, chunk),
        Stream::Moods => (5, 0),
        Stream::OtherUsers => (6, 0),
        Stream::OtherItems => (7, 0),
    };
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream((table << 56) | chunk);
    random
}

/// Picks an index with the probabilities given, which sum to 1.
pub(super) fn choose<const N: usize>(random: &mut ChaCha8Rng, weights: &[(&str, f64); N]) -> usize {
    let mut left: f64 = random.random();
    for (index, (_, weight)) in weights.iter().enumerate() {
        left -= weight;
        if left < 0.0 {
            return index;
        }
    }
    N - 1
}

#[derive(Debug)]
pub(super) struct User {
    pub(super) country: usize,
    pub(super) segment: u32,
    pub(super) age: f32,
    /// How ready to click, in log odds.
    activity: f64,
    /// How ready to buy, in log odds.
    intent: f64,
}

#[derive(Debug)]
pub(super) struct Item {
    pub(super) price: f32,
    popularity: f64,
    quality: f64,
}

/// Users and items, and how they go together.
#[derive(Debug)]
pub(super) struct People {
    pub(super) users: Vec<User>,
    pub(super) items: Vec<Item>,
    user_factors: Vec<f32>,
    item_factors: Vec<f32>,
    /// How much each factor matters: less and less, with squares that sum to 1.
    weights: Vec<f32>,
}

/// Everyone and everything, and the probabilities of what they do.
#[derive(Debug)]
pub(super) struct World {
    pub(super) people: People,
    /// In the placebo, those whose tastes conversion follows.
    others: Option<People>,
    bounds: (f64, f64),
    miscalibration: f64,
    /// How much the unseen moves the log odds of treatment and of conversion.
    unseen: (f64, f64),
    moods: Option<Moods>,
    off_segments: Vec<bool>,
    intercepts: Intercepts,
}

/// What is added to log odds so that probabilities have the mean asked for.
#[derive(Debug, Default)]
struct Intercepts {
    propensity: f64,
    stated_propensity: f64,
    conversion: f64,
}

/// What may happen when a user is shown an item.
#[derive(Debug, Clone, Copy)]
pub(super) struct Truth {
    pub(super) propensity: f64,
    pub(super) conversion: f64,
    /// What the imagined system says of the propensity.
    pub(super) stated_propensity: f64,
    /// What it says of the conversion.
    pub(super) prediction: f64,
}

impl People {
    fn new(config: &Simulation, of_users: Stream, of_items: Stream) -> Self {
        let decay = |k: usize| 0.5_f64.powf(k as f64 / 2.0);
        let norm = (0..config.dim).map(|k| decay(k).powi(2)).sum::<f64>().sqrt();
        let (users, user_factors) = users(config, of_users);
        let (items, item_factors) = items(config, of_items);
        let weights = (0..config.dim).map(|k| (decay(k) / norm) as f32).collect();
        Self { users, items, user_factors, item_factors, weights }
    }

    pub(super) fn dim(&self) -> usize {
        self.weights.len()
    }

    /// φ of a pair: the element-wise product of the factors.
    pub(super) fn phi(&self, user: usize, item: usize) -> impl Iterator<Item = f32> {
        let user = &self.user_factors[user * self.dim()..][..self.dim()];
        let item = &self.item_factors[item * self.dim()..][..self.dim()];
        user.iter().zip(item).map(|(u, i)| u * i)
    }

    /// How well a pair goes together: mean 0, variance near 1.
    fn affinity(&self, user: usize, item: usize) -> f64 {
        let centre = (FACTOR_MEAN * FACTOR_MEAN) as f32;
        self.phi(user, item).zip(&self.weights).map(|(phi, weight)| f64::from((phi - centre) * weight)).sum()
    }

    fn propensity_logit(&self, user: usize, item: usize, affinity: f64, position: Option<i32>) -> f64 {
        let middle = f64::from(POSITIONS + 1) / 2.0;
        let position = position.map_or(0.0, |position| POSITION_EFFECT * (middle - f64::from(position)));
        AFFINITY_IN_PROPENSITY * affinity + self.users[user].activity + self.items[item].popularity + position
    }

    fn conversion_logit(&self, user: usize, item: usize, affinity: f64) -> f64 {
        AFFINITY_IN_CONVERSION * affinity + self.users[user].intent + self.items[item].quality
    }
}

impl World {
    /// # Errors
    /// Where treatments cannot be as correlated as asked for.
    pub(super) fn new(config: &Simulation) -> Result<Self> {
        let mut world = Self {
            people: People::new(config, Stream::Users, Stream::Items),
            others: config.placebo.then(|| People::new(config, Stream::OtherUsers, Stream::OtherItems)),
            bounds: config.propensity_bounds(),
            miscalibration: config.miscalibration,
            unseen: (config.unseen, if config.placebo { 0.0 } else { config.unseen }),
            moods: None,
            off_segments: (0..config.segments).map(|segment| config.is_off(segment)).collect(),
            intercepts: Intercepts::default(),
        };
        world.calibrate(config);
        if config.user_correlation > 0.0 {
            let mut random = random(config.seed, Stream::Moods);
            let propensity_of = |user: usize, random: &mut ChaCha8Rng| {
                let item = random.random_range(0..world.people.items.len());
                let position = random.random_range(1..=POSITIONS);
                let position = (config.shape == Shape::Log).then_some(position);
                world.truth(user, item, position, 0, world.unseen(random)).propensity
            };
            world.moods = Some(Moods::new(config, propensity_of, &mut random)?);
        }
        Ok(world)
    }

    /// Chooses the intercepts that give the rates asked for, and keep what is stated right on average where no segment
    /// or device is off.
    fn calibrate(&mut self, config: &Simulation) {
        let mut random = random(config.seed, Stream::Calibration);
        let pairs: Vec<_> = (0..CALIBRATION_PAIRS)
            .map(|_| {
                let (user, item) = self.pair(&mut random);
                let position = random.random_range(1..=POSITIONS);
                let position = (config.shape == Shape::Log).then_some(position);
                let affinity = self.people.affinity(user, item);
                let appeal = self.people.propensity_logit(user, item, affinity, position);
                let mistaken = appeal + self.miscalibration * mistake(appeal, affinity);
                (appeal, mistaken, self.conversion_logit(user, item).0)
            })
            .collect();
        let mean = |value: &dyn Fn(&(f64, f64, f64)) -> f64| pairs.iter().map(value).sum::<f64>() / pairs.len() as f64;
        let propensity = |logit: f64| self.seen_propensity(logit);
        let propensity_intercept = solve(config.treated_rate, |by| mean(&|(appeal, _, _)| propensity(appeal + by)));
        let stated_intercept = match config.miscalibration {
            0.0 => propensity_intercept,
            _ => solve(config.treated_rate, |by| mean(&|(_, mistaken, _)| propensity(mistaken + by))),
        };
        let seen_conversion = |logit: f64| halves(self.unseen.1, |by| sigmoid(logit + by));
        let conversion_intercept =
            solve(config.conversion_rate, |by| mean(&|(_, _, conversion)| seen_conversion(conversion + by)));
        self.intercepts = Intercepts {
            propensity: propensity_intercept,
            stated_propensity: stated_intercept,
            conversion: conversion_intercept,
        };
    }

    /// A user and an item, uniformly.
    pub(super) fn pair(&self, random: &mut ChaCha8Rng) -> (usize, usize) {
        (random.random_range(0..self.people.users.len()), random.random_range(0..self.people.items.len()))
    }

    /// Which half of the rows a row is in, by what no model sees: 1 or −1; 0, without a draw, where there is nothing unseen.
    pub(super) fn unseen(&self, random: &mut ChaCha8Rng) -> f64 {
        match self.unseen.0 > 0.0 {
            true if random.random() => 1.0,
            true => -1.0,
            false => 0.0,
        }
    }

    /// Whether a row of `user` is treated, which it is with probability `propensity`.
    pub(super) fn is_treated(&self, user: usize, propensity: f64, random: &mut ChaCha8Rng) -> bool {
        let score = match &self.moods {
            Some(moods) => moods.score(user, random),
            None => random.random(),
        };
        score < propensity
    }

    /// What may happen in a row in that half of what is unseen.
    pub(super) fn truth(&self, user: usize, item: usize, position: Option<i32>, device: usize, half: f64) -> Truth {
        let affinity = self.people.affinity(user, item);
        let appeal = self.people.propensity_logit(user, item, affinity, position);
        let (conversion, taste) = self.conversion_logit(user, item);
        let conversion = conversion + self.intercepts.conversion;
        let segment = self.people.users[user].segment as usize;
        let off_segment = if self.off_segments[segment] { SEGMENT_OFFSET } else { 0.0 };
        let off_device = if device == OFF_DEVICE { DEVICE_OFFSET } else { 0.0 };
        let mistake = mistake(appeal, affinity) + off_segment + off_device;
        let stated = appeal + self.miscalibration * mistake + self.intercepts.stated_propensity;

        let (low, high) = self.bounds;
        let (of_treatment, of_conversion) = self.unseen;
        Truth {
            propensity: sigmoid(appeal + self.intercepts.propensity + half * of_treatment).clamp(low, high),
            conversion: sigmoid(conversion + half * of_conversion),
            stated_propensity: self.seen_propensity(stated),
            prediction: sigmoid(
                conversion + PREDICTION_OPTIMISM - (AFFINITY_IN_CONVERSION - AFFINITY_IN_PREDICTION) * taste,
            ),
        }
    }

    /// The propensity of who does not see what is unseen.
    fn seen_propensity(&self, logit: f64) -> f64 {
        let (low, high) = self.bounds;
        halves(self.unseen.0, |by| sigmoid(logit + by).clamp(low, high))
    }

    /// The log odds of conversion, but for the intercept, and the affinity that they follow.
    fn conversion_logit(&self, user: usize, item: usize) -> (f64, f64) {
        let people = self.others.as_ref().unwrap_or(&self.people);
        let affinity = people.affinity(user, item);
        (people.conversion_logit(user, item, affinity), affinity)
    }
}

/// The mean of a probability over both halves of the rows, which something unseen moves apart.
fn halves(unseen: f64, probability: impl Fn(f64) -> f64) -> f64 {
    0.5 * (probability(-unseen) + probability(unseen))
}

fn users(config: &Simulation, stream: Stream) -> (Vec<User>, Vec<f32>) {
    let mut random = random(config.seed, stream);
    let mut factors = Vec::with_capacity(config.users as usize * config.dim);
    let users = (0..config.users).map(|_| {
        factors.extend((0..config.dim).map(|_| factor(&mut random)));
        let [youth, activity, intent]: [f64; 3] = std::array::from_fn(|_| random.sample(StandardNormal));
        let activity = 0.4 * activity + 0.15 * youth;
        User {
            country: choose(&mut random, &COUNTRIES),
            segment: random.random_range(0..config.segments),
            age: (38.0 - 12.0 * youth).clamp(16.0, 90.0).round() as f32,
            activity,
            intent: 0.3 * intent + 0.5 * activity,
        }
    });
    (users.collect(), factors)
}

fn items(config: &Simulation, stream: Stream) -> (Vec<Item>, Vec<f32>) {
    let mut random = random(config.seed, stream);
    let mut factors = Vec::with_capacity(config.items as usize * config.dim);
    let items = (0..config.items).map(|_| {
        factors.extend((0..config.dim).map(|_| factor(&mut random)));
        let [price, popularity, quality]: [f64; 3] = std::array::from_fn(|_| random.sample(StandardNormal));
        let popularity = 0.6 * popularity - 0.2 * price;
        Item {
            price: ((3.0 + 0.7 * price).exp() * 100.0).round() as f32 / 100.0,
            popularity,
            quality: 0.3 * quality + 0.5 * popularity - 0.2 * price,
        }
    });
    (items.collect(), factors)
}

fn factor(random: &mut ChaCha8Rng) -> f32 {
    let normal: f64 = random.sample(StandardNormal);
    (FACTOR_MEAN + (1.0 - FACTOR_MEAN * FACTOR_MEAN).sqrt() * normal) as f32
}

/// What the imagined system gets wrong everywhere, in log odds: it knows nothing of the affinity, and tells too little
/// between users and between items.
fn mistake(appeal: f64, affinity: f64) -> f64 {
    -AFFINITY_IN_PROPENSITY * affinity - TIMIDITY * appeal
}

pub(super) fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

/// Where an increasing function reaches `target`, by bisection.
pub(super) fn solve(target: f64, mean_at: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (-40.0, 40.0);
    for _ in 0..50 {
        let middle = f64::midpoint(low, high);
        if mean_at(middle) < target { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}
