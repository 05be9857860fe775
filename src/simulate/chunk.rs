use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::columns::{Columns, Event};
use super::world::{DEVICES, POSITIONS, Stream, World, choose, random};
use super::{Simulation, Tally};
use crate::error::Result;
use crate::job::Shape;

/// Rows of a chunk: enough to compress well, few enough to hold several at once.
pub(super) const CHUNK_ROWS: u64 = 65_536;
/// 2026-01-05, in days since 1970: a Monday.
const FIRST_DAY: i32 = 20_458;
const DAYS: i32 = 28;

/// Which rows of the population are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sample {
    /// What the imagined system logged: users were treated as their true propensities would have it.
    Biased,
    /// Pairs drawn uniformly, with replacement, and all of them treated: their outcomes are what a model is judged by.
    /// The propensities are those of the biased log. None is in the `train` split.
    Uniform,
}

/// Makes the rows of a simulation, chunk by chunk, in any order and on any thread.
#[derive(Debug)]
pub struct Simulator {
    config: Simulation,
    world: World,
    columns: Columns,
}

impl Simulator {
    /// Populates the world.
    ///
    /// # Errors
    /// Where a setting describes no data; see [`Simulation::validate`]. Where treatments as rare or as frequent as asked for
    /// cannot be as correlated.
    pub fn new(config: Simulation) -> Result<Self> {
        config.validate()?;
        Ok(Self { world: World::new(&config)?, columns: Columns::new(&config), config })
    }

    /// The settings.
    pub fn config(&self) -> &Simulation {
        &self.config
    }

    /// The columns of every chunk.
    pub fn schema(&self) -> &SchemaRef {
        self.columns.schema()
    }

    /// The number of chunks of `sample`.
    pub fn chunks(&self, sample: Sample) -> u64 {
        match (sample, self.config.shape) {
            (Sample::Uniform, _) => self.config.uniform_rows().div_ceil(CHUNK_ROWS),
            (Sample::Biased, Shape::Log) => self.config.rows.div_ceil(CHUNK_ROWS),
            (Sample::Biased, Shape::Matrix) => u64::from(self.config.users).div_ceil(self.users_per_chunk()),
        }
    }

    /// The rows of chunk `index` (of [`Self::chunks`]), and sums over the part of the population it comes from.
    pub fn chunk(&self, sample: Sample, index: u64) -> Result<(RecordBatch, Tally)> {
        let mut tally = Tally::default();
        let mut events = Vec::with_capacity(CHUNK_ROWS as usize);
        let stream = match sample {
            Sample::Biased => Stream::Biased(index),
            Sample::Uniform => Stream::Uniform(index),
        };
        let mut random = random(self.config.seed, stream);
        match (sample, self.config.shape) {
            (Sample::Biased, Shape::Matrix) => {
                let first = index * self.users_per_chunk();
                let last = (first + self.users_per_chunk()).min(self.world.people.users.len() as u64);
                for user in first as usize..last as usize {
                    for item in 0..self.world.people.items.len() {
                        let event = self.event(sample, user, item, &mut random);
                        tally.add(&event);
                        events.extend(Some(event).filter(|event| event.treated));
                    }
                }
            }
            _ => {
                let total = if sample == Sample::Biased { self.config.rows } else { self.config.uniform_rows() };
                for _ in index * CHUNK_ROWS..((index + 1) * CHUNK_ROWS).min(total) {
                    let (user, item) = self.world.pair(&mut random);
                    let event = self.event(sample, user, item, &mut random);
                    tally.add(&event);
                    events.push(event);
                }
            }
        }
        Ok((self.columns.batch(&self.world, &events)?, tally))
    }

    /// Users whose treated pairs are expected to fill a chunk.
    fn users_per_chunk(&self) -> u64 {
        let treated_of_user = f64::from(self.config.items) * self.config.treated_rate;
        ((CHUNK_ROWS as f64 / treated_of_user) as u64).max(1)
    }

    fn event(&self, sample: Sample, user: usize, item: usize, random: &mut ChaCha8Rng) -> Event {
        let device = choose(random, &DEVICES);
        let position = (self.config.shape == Shape::Log).then(|| random.random_range(1..=POSITIONS));
        let truth = self.world.truth(user, item, position, device, self.world.unseen(random));
        let treated = sample == Sample::Uniform || self.world.is_treated(user, truth.propensity, random);
        let converted = random.random::<f64>() < truth.conversion;
        let strong = random.random::<f64>();
        let rating = match converted {
            true => 4 + i32::from(strong < truth.conversion),
            false => 1 + (3.0 * strong) as i32,
        };
        Event {
            user,
            item,
            device,
            position,
            day: FIRST_DAY + random.random_range(0..DAYS),
            split: split(sample, random.random()),
            treated,
            outcome: treated.then_some(f64::from(u8::from(converted))),
            rating: (self.config.shape == Shape::Matrix).then_some(rating),
            truth,
        }
    }
}

/// The split of a row: 80 % train, 10 % validation and 10 % test; of a uniform sample, 10 % validation and 90 % test.
fn split(sample: Sample, random: f64) -> &'static str {
    match sample {
        Sample::Biased if random < 0.8 => "train",
        Sample::Biased if random < 0.9 => "validation",
        Sample::Uniform if random < 0.1 => "validation",
        _ => "test",
    }
}
