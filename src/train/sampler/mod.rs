//! What one step of training sees: a block of users × items, or a mini-batch of rows.

mod blocks;
mod rows;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tch::{Device, Kind, Tensor};

pub use blocks::BlockSampler;
pub use rows::{RowSampler, RowSource};

use crate::error::Result;

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
        Self {
            layout: Layout::Pairs,
            rows: Tensor::from_slice(&indices).to_device(device),
            users: rows.len() as i64,
            treated: Tensor::from_slice(&treated).to_device(device),
            outcome: Tensor::from_slice(&outcome).to_device(device),
        }
    }

    /// The block of `users` × `items`, given as rows of the embedding tables; `observed` holds the treated pairs' flat
    /// positions in the block, `outcomes` their r.
    fn of_block(users: &[i64], items: &[i64], observed: &[i64], outcomes: &[f32], device: Device) -> Self {
        let shape = [users.len() as i64, items.len() as i64];
        let options = (Kind::Float, device);
        let observed = Tensor::from_slice(observed).to_device(device);
        let outcomes = Tensor::from_slice(outcomes).to_device(device);
        let treated = Tensor::zeros(shape[0] * shape[1], options).scatter_value_(0, &observed, 1.0);
        let outcome = Tensor::zeros(shape[0] * shape[1], options).scatter_(0, &observed, &outcomes);
        Self {
            layout: Layout::Block,
            rows: Tensor::from_slice(&[users, items].concat()).to_device(device),
            users: shape[0],
            treated: treated.view(shape),
            outcome: outcome.view(shape),
        }
    }

    /// How many pairs there are.
    pub fn pairs(&self) -> usize {
        self.treated.numel()
    }
}

/// Batches that follow one another.
pub type Batches<'a> = Box<dyn Iterator<Item = Result<Batch>> + 'a>;

/// Gives the population batch by batch.
pub trait Sampler: Send {
    /// Every element of the population once, in an order that the epoch and the sampler's seed decide.
    fn epoch(&self, epoch: usize) -> Batches<'_>;

    /// Every element of the population once, in batches as large as is good for evaluation.
    fn population(&self) -> Batches<'_>;
}

/// The generator of an epoch's order.
fn epoch_rng(seed: u64, epoch: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // Stream 0 draws the initial weights.
    rng.set_stream(epoch as u64 + 1);
    rng
}
