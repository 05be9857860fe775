//! Matrix factorisation with biases.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::Normal;
use tch::{Device, Kind, Tensor};

use super::sampler::{Batch, Layout};

/// Scores of user-item pairs: u·v + b_u + b_i.
///
/// One table holds it all, a row a user and then a row an item: K values of the embedding and one of the bias.
#[derive(Debug)]
pub struct MatrixFactorization {
    table: Tensor,
    users: i64,
}

/// The weights that a batch's scores depend on.
///
/// They are tensors of their own, so that a backward pass stops at the batch and never makes a gradient of the table.
#[derive(Debug)]
pub struct Rows {
    /// u of every user of the batch, `[users, K]`.
    pub user: Tensor,
    /// b_u, `[users, 1]`.
    pub user_bias: Tensor,
    /// v of every item of the batch, `[items, K]`.
    pub item: Tensor,
    /// b_i, `[items, 1]`.
    pub item_bias: Tensor,
}

/// What a model says of a batch.
#[derive(Debug)]
pub struct Scores {
    /// The weights behind it.
    pub rows: Rows,
    /// The score of every pair; its sigmoid is a probability.
    pub logit: Tensor,
}

impl MatrixFactorization {
    /// A model with the initial weights of He et al. (2015) in fan-out mode: normal, with variance 2 / rows for the
    /// rows of the users' and of the items' embeddings and biases alike.
    pub fn new(users: usize, items: usize, dim: usize, rng: &mut ChaCha8Rng, device: Device) -> Self {
        let mut values: Vec<f32> = Vec::with_capacity((users + items) * (dim + 1));
        for rows in [users, items] {
            let deviation = (2.0 / rows.max(1) as f32).sqrt();
            let normal = Normal::new(0.0, deviation).expect("a finite deviation");
            values.extend((0..rows * (dim + 1)).map(|_| rng.sample(normal)));
        }
        let table = Tensor::from_slice(&values).view([(users + items) as i64, dim as i64 + 1]);
        Self::from_table(table.to_device(device), users)
    }

    /// The model whose weights are `table`, `[users + items, K + 1]`.
    pub fn from_table(table: Tensor, users: usize) -> Self {
        Self { table, users: users as i64 }
    }

    /// The model with the users' and items' embeddings `[n, K]` and biases `[n]`.
    pub fn from_parts(user: (&Tensor, &Tensor), item: (&Tensor, &Tensor)) -> Self {
        let rows = |(embedding, bias): (&Tensor, &Tensor)| Tensor::cat(&[embedding, &bias.unsqueeze(1)], 1);
        let table = Tensor::cat(&[rows(user), rows(item)], 0);
        Self { table, users: user.1.size()[0] }
    }

    /// The users' embeddings `[n, K]` and biases `[n]`, then the items'.
    pub fn parts(&self) -> [(Tensor, Tensor); 2] {
        let dim = self.dim();
        let part = |start, count| {
            let rows = self.table.narrow(0, start, count);
            (rows.narrow(1, 0, dim).contiguous(), rows.select(1, dim).contiguous())
        };
        [part(0, self.users), part(self.users, self.table.size()[0] - self.users)]
    }

    /// All weights, `[users + items, K + 1]`.
    pub fn table(&self) -> &Tensor {
        &self.table
    }

    /// All weights, to change in place.
    pub fn table_mut(&mut self) -> &mut Tensor {
        &mut self.table
    }

    /// K.
    pub fn dim(&self) -> i64 {
        self.table.size()[1] - 1
    }

    /// How many users there are.
    pub fn users(&self) -> usize {
        self.users as usize
    }

    /// A model with the same weights, which no longer change together.
    pub fn copy(&self) -> Self {
        Self { table: tch::no_grad(|| self.table.copy()), users: self.users }
    }

    /// The weights of a batch's users and items, as constants.
    pub fn rows(&self, batch: &Batch) -> Rows {
        let dim = self.dim();
        let rows = tch::no_grad(|| self.table.index_select(0, &batch.rows));
        let items = rows.size()[0] - batch.users;
        let part = |start, count| {
            let rows = rows.narrow(0, start, count);
            (rows.narrow(1, 0, dim), rows.narrow(1, dim, 1))
        };
        let ((user, user_bias), (item, item_bias)) = (part(0, batch.users), part(batch.users, items));
        Rows { user, user_bias, item, item_bias }
    }
}

impl Rows {
    /// The same weights, which a backward pass may ask for gradients of.
    pub fn tracked(self) -> Self {
        let Self { user, user_bias, item, item_bias } = self;
        let [user, user_bias, item, item_bias] =
            [user, user_bias, item, item_bias].map(|tensor| tensor.set_requires_grad(true));
        Self { user, user_bias, item, item_bias }
    }

    /// All of them.
    pub fn tensors(&self) -> [&Tensor; 4] {
        [&self.user, &self.user_bias, &self.item, &self.item_bias]
    }

    /// Tensors in the order of [`Rows::tensors`] as rows of the table: `[users + items, K + 1]`.
    pub fn join(parts: &[Tensor]) -> Tensor {
        let rows: Vec<Tensor> = parts.chunks(2).map(|part| Tensor::cat(part, 1)).collect();
        Tensor::cat(&rows, 0)
    }
}

impl Scores {
    /// The scores of a batch's pairs. Those of a block are one matrix product.
    pub fn of(rows: Rows, layout: Layout) -> Self {
        let Rows { user, user_bias, item, item_bias } = &rows;
        let logit = match layout {
            Layout::Block => (user_bias + item_bias.transpose(0, 1)).addmm(user, &item.transpose(0, 1)),
            Layout::Pairs => {
                (user * item).sum_dim_intlist(1, false, None::<Kind>) + (user_bias + item_bias).squeeze_dim(1)
            }
        };
        Self { rows, logit }
    }

    /// The probability of every pair.
    pub fn probability(&self) -> Tensor {
        self.logit.sigmoid()
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;
    use crate::train::sampler::{BlockSampler, Row, Sampler};

    fn model() -> MatrixFactorization {
        MatrixFactorization::new(9, 11, 5, &mut ChaCha8Rng::seed_from_u64(3), Device::Cpu)
    }

    #[test]
    fn a_block_scores_as_its_pairs_do() {
        let model = model();
        let sampler = BlockSampler::new(vec![], (9, 11), (4, 3), 0, Device::Cpu, |_, _| String::new()).unwrap();
        for block in sampler.epoch(0).map(Result::unwrap) {
            let indices = Vec::<i64>::try_from(&block.rows).unwrap();
            let (users, items) = indices.split_at(block.users as usize);
            let pairs: Vec<Row> = users
                .iter()
                .flat_map(|user| items.iter().map(move |item| (*user as u32, *item as u32 - 9)))
                .map(|(user, item)| Row { user, item, treated: false, outcome: 0.0 })
                .collect();
            let pairs = Batch::of_rows(&pairs, 9, Device::Cpu);
            let by_block = Scores::of(model.rows(&block), Layout::Block).logit.flatten(0, -1);
            let by_pair = Scores::of(model.rows(&pairs), Layout::Pairs).logit;
            assert!((by_block - by_pair).abs().max().double_value(&[]) < 1e-6);
        }
    }

    #[test]
    fn parts_make_the_whole() {
        let model = model();
        let [(user, user_bias), (item, item_bias)] = model.parts();
        assert_eq!((user.size(), item_bias.size()), (vec![9, 5], vec![11]));
        let again = MatrixFactorization::from_parts((&user, &user_bias), (&item, &item_bias));
        assert_eq!((again.table(), again.users()), (model.table(), 9));
    }

    #[test]
    fn initial_weights_have_the_stated_spread() {
        let model = MatrixFactorization::new(400, 100, 64, &mut ChaCha8Rng::seed_from_u64(1), Device::Cpu);
        let [(user, _), (item, _)] = model.parts();
        for (weights, rows) in [(user, 400.0_f64), (item, 100.0)] {
            assert!((weights.std(false).double_value(&[]) / (2.0 / rows).sqrt() - 1.0).abs() < 0.03);
        }
    }
}
