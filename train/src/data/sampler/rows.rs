use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tch::Device;

use super::{Batch, Batches, Row, Sampler, epoch_rng};
use counterweight::error::Result;

/// Where the rows of a log come from, in the same order every time.
pub trait RowSource: Send + Sync {
    /// Starts to read all rows, chunk by chunk.
    fn read(&self) -> Box<dyn Iterator<Item = Result<Vec<Row>>> + '_>;
}

impl RowSource for Vec<Row> {
    fn read(&self) -> Box<dyn Iterator<Item = Result<Vec<Row>>> + '_> {
        Box::new(self.chunks(1 << 16).map(|rows| Ok(rows.to_vec())))
    }
}

/// Mini-batches of a log's rows: the population is the rows.
///
/// Rows pass through a shuffle buffer. A log that fits in it is shuffled in full; of a longer one each row leaves the
/// buffer at a random time after it entered, so that memory is bounded by the buffer and rows move, for the most part,
/// by about its length.
pub struct RowSampler {
    source: Box<dyn RowSource>,
    users: usize,
    batch: usize,
    buffer: usize,
    seed: u64,
    device: Device,
}

impl RowSampler {
    /// A sampler of `batch` rows at a time in a population of `users` users, with a shuffle buffer of `buffer` rows.
    pub fn new(
        source: Box<dyn RowSource>,
        users: usize,
        batch: usize,
        buffer: usize,
        seed: u64,
        device: Device,
    ) -> Self {
        Self { source, users, batch, buffer: buffer.max(1), seed, device }
    }
}

impl Sampler for RowSampler {
    fn epoch(&self, epoch: usize) -> Batches<'_> {
        let shuffled = Shuffle {
            rows: Box::new(flatten(self.source.read())),
            buffer: Vec::new(),
            capacity: self.buffer,
            rng: epoch_rng(self.seed, epoch),
            draining: false,
        };
        Box::new(Chunks { rows: shuffled, size: self.batch }.map(|rows| {
            let rows = rows?;
            Ok(Batch::of_rows(&rows, self.users, self.device))
        }))
    }

    fn population(&self) -> Batches<'_> {
        Box::new(self.source.read().map(|rows| Ok(Batch::of_rows(&rows?, self.users, self.device))))
    }
}

fn flatten<'a>(chunks: impl Iterator<Item = Result<Vec<Row>>> + 'a) -> impl Iterator<Item = Result<Row>> + 'a {
    chunks.flat_map(|chunk| {
        let (rows, error) = match chunk {
            Ok(rows) => (rows, None),
            Err(error) => (Vec::new(), Some(Err(error))),
        };
        rows.into_iter().map(Ok).chain(error)
    })
}

/// Rows in random order, `capacity` of them held at a time.
struct Shuffle<'a> {
    rows: Box<dyn Iterator<Item = Result<Row>> + 'a>,
    buffer: Vec<Row>,
    capacity: usize,
    rng: ChaCha8Rng,
    draining: bool,
}

impl Iterator for Shuffle<'_> {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Result<Row>> {
        while !self.draining {
            match self.rows.next() {
                Some(Ok(row)) if self.buffer.len() < self.capacity => self.buffer.push(row),
                Some(Ok(row)) => {
                    let slot = self.rng.random_range(0..self.capacity);
                    return Some(Ok(std::mem::replace(&mut self.buffer[slot], row)));
                }
                Some(Err(error)) => return Some(Err(error)),
                None => {
                    self.buffer.shuffle(&mut self.rng);
                    self.draining = true;
                }
            }
        }
        self.buffer.pop().map(Ok)
    }
}

/// Runs of `size` rows; the last may be shorter.
struct Chunks<I> {
    rows: I,
    size: usize,
}

impl<I: Iterator<Item = Result<Row>>> Iterator for Chunks<I> {
    type Item = Result<Vec<Row>>;

    fn next(&mut self) -> Option<Result<Vec<Row>>> {
        match self.rows.by_ref().take(self.size).collect::<Result<Vec<_>>>() {
            Ok(rows) if rows.is_empty() => None,
            rows => Some(rows),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: u32) -> Vec<Row> {
        let row = |user| Row { user, item: 0, treated: user % 2 == 0, outcome: 0.0, propensity: Some(user as f32) };
        (0..count).map(row).collect()
    }

    fn order(count: u32, buffer: usize, epoch: usize) -> Vec<i64> {
        let sampler = RowSampler::new(Box::new(rows(count)), count as usize, 16, buffer, 5, Device::Cpu);
        let batches = sampler.epoch(epoch).map(Result::unwrap);
        batches.flat_map(|batch| Vec::<i64>::try_from(batch.rows.narrow(0, 0, batch.users)).unwrap()).collect()
    }

    #[test]
    fn every_row_comes_once_shuffled_and_reproducibly() {
        for buffer in [1, 10, 1000] {
            let first = order(100, buffer, 0);
            let mut sorted = first.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..100).collect::<Vec<i64>>());
            assert_eq!(first, order(100, buffer, 0));
            assert_eq!(first == sorted, buffer == 1, "a buffer of one row keeps the order");
        }
        assert_ne!(order(100, 1000, 0), order(100, 1000, 1));
    }

    #[test]
    fn propensities_stay_with_their_rows() {
        let sampler = RowSampler::new(Box::new(rows(50)), 50, 16, 10, 5, Device::Cpu);
        for batch in sampler.epoch(1).chain(sampler.population()).map(Result::unwrap) {
            let users = batch.rows.narrow(0, 0, batch.users);
            assert_eq!(batch.propensity.unwrap(), users.to_kind(tch::Kind::Float));
        }
    }

    #[test]
    fn an_error_ends_the_epoch() {
        struct Broken;
        impl RowSource for Broken {
            fn read(&self) -> Box<dyn Iterator<Item = Result<Vec<Row>>> + '_> {
                Box::new([Ok(rows(3)), Err(counterweight::Error::Invalid("broken".into()))].into_iter())
            }
        }
        let sampler = RowSampler::new(Box::new(Broken), 3, 2, 10, 0, Device::Cpu);
        assert!(sampler.epoch(0).next().unwrap().is_err());
        assert!(sampler.population().nth(1).unwrap().is_err());
    }
}
