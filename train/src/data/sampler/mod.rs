//! What one step of training sees: a block of users × items, or a mini-batch of rows.

mod blocks;
mod prefetch;
mod rows;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tch::kind::Element;
use tch::{Device, Kind, Tensor};

pub use blocks::BlockSampler;
pub use prefetch::Prefetch;
pub use rows::{RowSampler, RowSource};

use counterweight::error::Result;

/// A row of a data set, its user and item given by their indices in the vocabularies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// Index of the user.
    pub user: u32,
    /// Index of the item.
    pub item: u32,
    /// o.
    pub treated: bool,
    /// r; 0 where not treated.
    pub outcome: f32,
    /// p̂, where a column gives it.
    pub propensity: Option<f32>,
}

impl Row {
    /// Whether the outcome is above one half.
    pub fn is_positive(&self) -> bool {
        self.outcome > 0.5
    }
}

/// How the pairs of a batch are formed from its users and items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Every user with every item: values are `[users, items]`.
    Block,
    /// The n-th user with the n-th item: values are `[n]`.
    Pairs,
}

/// Elements of the population, on the device that trains.
#[derive(Debug)]
pub struct Batch {
    /// How pairs are formed.
    pub layout: Layout,
    /// Rows of the embedding tables, `[users + items]` of int64: the users', then the items'.
    pub rows: Tensor,
    /// How many of `rows` are users.
    pub users: i64,
    /// o: 0 or 1 for each pair.
    pub treated: Tensor,
    /// r for each pair; 0 where not treated.
    pub outcome: Tensor,
    /// p̂ for each pair, where a column gives it; in a block it is known of treated pairs, and 1 elsewhere.
    pub propensity: Option<Tensor>,
}

/// The treated pairs of a block.
#[derive(Debug, Clone, Default)]
struct Observed {
    /// Their flat positions in it.
    at: Vec<i64>,
    outcome: Vec<f32>,
    /// As many, or none where no column gives it.
    propensity: Vec<f32>,
}

impl Batch {
    /// The mini-batch of `rows`, in a population whose items follow `users` users in the embedding tables.
    pub fn of_rows(rows: &[Row], users: usize, device: Device) -> Self {
        let offset = users as i64;
        let mut indices: Vec<i64> = Vec::with_capacity(2 * rows.len());
        indices.extend(rows.iter().map(|row| i64::from(row.user)));
        indices.extend(rows.iter().map(|row| i64::from(row.item) + offset));
        let treated: Vec<f32> = rows.iter().map(|row| f32::from(u8::from(row.treated))).collect();
        let outcome: Vec<f32> = rows.iter().map(|row| row.outcome).collect();
        let propensity: Option<Vec<f32>> = rows.iter().map(|row| row.propensity).collect();
        let [treated, outcome, known] =
            in_one_copy([&treated, &outcome, propensity.as_deref().unwrap_or_default()], device);
        Self {
            layout: Layout::Pairs,
            rows: Tensor::from_slice(&indices).to_device(device),
            users: rows.len() as i64,
            treated,
            outcome,
            propensity: propensity.map(|_| known),
        }
    }

    /// The block of `users` × `items`, given as rows of the embedding tables; its rows carry propensities if `propensities`
    /// says so.
    fn of_block(users: &[i64], items: &[i64], observed: &Observed, propensities: bool, device: Device) -> Self {
        let shape = [users.len() as i64, items.len() as i64];
        let [rows, at] = in_one_copy([&[users, items].concat(), &observed.at], device);
        let [outcome, propensity] = in_one_copy([&observed.outcome, &observed.propensity], device);
        let all = |value: f64| Tensor::full([shape[0] * shape[1]], value, (Kind::Float, device));
        let with = |values: &Tensor, elsewhere: f64| all(elsewhere).scatter_(0, &at, values).view(shape);
        Self {
            layout: Layout::Block,
            rows,
            users: shape[0],
            treated: all(0.0).scatter_value_(0, &at, 1.0).view(shape),
            outcome: with(&outcome, 0.0),
            propensity: propensities.then(|| with(&propensity, 1.0)),
        }
    }

    /// How many pairs there are.
    pub fn pairs(&self) -> usize {
        self.treated.numel()
    }

    /// The same pairs, in their order, at most `pairs` at a time, or those of one user of a block where that is more.
    pub fn split(self, pairs: usize) -> Vec<Self> {
        let users = self.users.max(1);
        let items = self.rows.size()[0] - self.users;
        let of_user = self.pairs() as i64 / users;
        let step = (pairs as i64 / of_user.max(1)).max(1);
        if step >= users {
            return vec![self];
        }
        let part = |start: i64| {
            let count = step.min(users - start);
            let of_users = |tensor: &Tensor| tensor.narrow(0, start, count);
            let items = match self.layout {
                Layout::Block => self.rows.narrow(0, users, items),
                Layout::Pairs => self.rows.narrow(0, users + start, count),
            };
            Self {
                layout: self.layout,
                rows: Tensor::cat(&[of_users(&self.rows), items], 0),
                users: count,
                treated: of_users(&self.treated),
                outcome: of_users(&self.outcome),
                propensity: self.propensity.as_ref().map(of_users),
            }
        };
        (0..users).step_by(step as usize).map(part).collect()
    }
}

/// A tensor of each of `parts`. They go to `device` together: a GPU is waited for with every copy.
fn in_one_copy<T: Element + Copy, const N: usize>(parts: [&[T]; N], device: Device) -> [Tensor; N] {
    let all = Tensor::from_slice(&parts.concat()).to_device(device);
    let mut start = 0;
    parts.map(|part| {
        let length = part.len() as i64;
        start += length;
        all.narrow(0, start - length, length)
    })
}

/// Batches that follow one another.
pub type Batches<'a> = Box<dyn Iterator<Item = Result<Batch>> + 'a>;

/// What stands for a population of too many elements.
pub struct Sample<'a> {
    /// Every treated element once.
    pub treated: Batches<'a>,
    /// Elements drawn evenly from all, treated or not.
    pub drawn: Batches<'a>,
    /// How many elements the population has.
    pub population: usize,
}

/// Gives the population batch by batch.
pub trait Sampler: Send + Sync {
    /// Every element of the population once, or as many as an epoch has, in an order that the epoch and the sampler's seed
    /// decide.
    fn epoch(&self, epoch: usize) -> Batches<'_>;

    /// Every element of the population once, in batches as large as is good for evaluation.
    fn population(&self) -> Batches<'_>;

    /// What evaluation looks at in place of [`Sampler::population`], where that has many more elements than an epoch has;
    /// the same every time.
    fn sample(&self) -> Option<Sample<'_>> {
        None
    }
}

/// The generator of an epoch's order.
fn epoch_rng(seed: u64, epoch: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // The one before draws the initial weights.
    rng.set_stream(epoch as u64 + 1);
    rng
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pair, with its o, r and p̂.
    pub(super) type Known<P> = (P, f32, f32, Option<f32>);

    /// Every pair, by the rows of its user and its item.
    pub(super) fn pairs(batch: &Batch) -> Vec<Known<(i64, i64)>> {
        let rows = Vec::<i64>::try_from(&batch.rows).unwrap();
        let (users, items) = rows.split_at(batch.users as usize);
        let places: Vec<(i64, i64)> = match batch.layout {
            Layout::Block => users.iter().flat_map(|user| items.iter().map(move |item| (*user, *item))).collect(),
            Layout::Pairs => users.iter().copied().zip(items.iter().copied()).collect(),
        };
        let values = |tensor: &Tensor| Vec::<f32>::try_from(tensor.flatten(0, -1)).unwrap();
        let (treated, outcome) = (values(&batch.treated), values(&batch.outcome));
        let propensity = batch.propensity.as_ref().map(values);
        assert_eq!((places.len(), treated.len()), (batch.pairs(), batch.pairs()));
        let known = |at: usize| (places[at], treated[at], outcome[at], propensity.as_ref().map(|values| values[at]));
        (0..places.len()).map(known).collect()
    }

    #[test]
    fn parts_of_a_batch_have_its_pairs_in_their_order() {
        let row = |at: u32| {
            let propensity = Some(0.05 * (at + 1) as f32);
            Row { user: at % 3, item: at % 4, treated: at.is_multiple_of(2), outcome: at as f32, propensity }
        };
        let observed = Observed { at: vec![1, 14], outcome: vec![0.5, 0.25], propensity: vec![0.2, 0.3] };
        let batches = || {
            [
                Batch::of_block(&[4, 0, 2, 3, 1], &[5, 9, 7], &observed, true, Device::Cpu),
                Batch::of_rows(&(0..11).map(row).collect::<Vec<_>>(), 5, Device::Cpu),
            ]
        };
        for (batch, most) in (0..2).flat_map(|at| [1, 4, 7, 15, 100].map(|most| (at, most))) {
            let [block, rows] = batches();
            let whole = if batch == 0 { block } else { rows };
            let wanted = pairs(&whole);
            let of_one_user = if batch == 0 { 3 } else { 1 };
            let parts = whole.split(most);
            assert!(parts.iter().all(|part| part.pairs() <= most.max(of_one_user)));
            assert!(most < wanted.len() || parts.len() == 1);
            assert_eq!(parts.iter().flat_map(pairs).collect::<Vec<_>>(), wanted);
        }
    }
}
