use std::rc::Rc;

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tch::Device;

use super::{Batch, Batches, Observed, Row, Sample, Sampler, epoch_rng};
use counterweight::error::{Result, invalid};

/// Side of the blocks in which a population is evaluated.
const EVALUATION_SIDE: usize = 1024;
/// Treated pairs that are evaluated at a time.
const EVALUATION_ROWS: usize = 1 << 16;
/// The epoch whose blocks stand for the population in evaluation: no run comes this far.
const EVALUATION_EPOCH: usize = usize::MAX - 1;
/// The position of an item that is in no block.
const NOWHERE: u32 = u32::MAX;

/// Blocks of users × items: the population is every pair, and the rows are those observed.
///
/// An epoch splits the shuffled users and the shuffled items into blocks and visits every combination; blocks at the
/// edges may be smaller. Observed pairs are kept by user, so that an epoch costs their number and no dense matrix of
/// the population is ever made.
///
/// A population of too many pairs is sampled: see [`BlockSampler::sampling`].
#[derive(Debug)]
pub struct BlockSampler {
    users: usize,
    items: usize,
    side: (usize, usize),
    /// Blocks of an epoch, where it does not visit all.
    sampled: Option<usize>,
    seed: u64,
    device: Device,
    /// Where each user's pairs start in `observed`.
    starts: Vec<usize>,
    /// The item and outcome of each observed pair, by user.
    observed: Vec<(u32, f32)>,
    /// Its p̂, where a column gives it.
    propensity: Option<Vec<f32>>,
}

/// Users or items, dealt in random order, and shuffled again whenever not enough are left.
struct Deck {
    order: Vec<u32>,
    dealt: usize,
}

impl Deck {
    fn new(count: usize) -> Self {
        Self { order: (0..count as u32).collect(), dealt: count }
    }

    /// A random set of `count` of them, each as likely as any other.
    fn deal(&mut self, count: usize, rng: &mut ChaCha8Rng) -> &[u32] {
        if self.order.len() - self.dealt < count {
            self.order.shuffle(rng);
            self.dealt = 0;
        }
        self.dealt += count;
        &self.order[self.dealt - count..self.dealt]
    }
}

impl BlockSampler {
    /// A sampler of blocks of `side` (users, items) over a population of `users` × `items`.
    ///
    /// # Errors
    /// Where a pair is observed twice: its (user, item) are named by `describe`.
    pub fn new(
        mut rows: Vec<Row>,
        (users, items): (usize, usize),
        side: (usize, usize),
        seed: u64,
        device: Device,
        describe: impl Fn(u32, u32) -> String,
    ) -> Result<Self> {
        rows.sort_unstable_by_key(|row| (row.user, row.item));
        let same = |pair: &&[Row]| (pair[0].user, pair[0].item) == (pair[1].user, pair[1].item);
        if let Some(pair) = rows.windows(2).find(same) {
            invalid!(
                "{} has more than one row: in the matrix shape a pair is observed once; \
                 keep one with GROUP BY, or use shape = \"log\"",
                describe(pair[0].user, pair[0].item)
            );
        }
        let mut starts = vec![0; users + 1];
        for row in &rows {
            starts[row.user as usize + 1] += 1;
        }
        for user in 0..users {
            starts[user + 1] += starts[user];
        }
        let observed = rows.iter().map(|row| (row.item, row.outcome)).collect();
        let propensity = rows.iter().map(|row| row.propensity).collect();
        let side = (side.0.min(users), side.1.min(items));
        Ok(Self { users, items, side, sampled: None, seed, device, starts, observed, propensity })
    }

    /// The same, but that an epoch is so many blocks, if a number is given.
    ///
    /// Each block has as many users and items as blocks have, both sets drawn at random; users come again only once all
    /// have come, but for fewer than a block has, and so do items. Any pair is as likely as any other to be in a block: the
    /// mean over the blocks of a block's mean is an unbiased estimate of the mean over the population, of whatever has a
    /// value for each pair.
    ///
    /// A block is found from the pairs of its users alone.
    pub fn sampling(self, blocks: Option<usize>) -> Self {
        Self { sampled: blocks, ..self }
    }

    /// Every combination of blocks of `users` and blocks of `items`.
    fn sweep(&self, users: &[u32], items: &[u32], side: (usize, usize)) -> Batches<'_> {
        let mut position = vec![NOWHERE; self.items];
        place(items, &mut position);
        let item_blocks: Rc<[Vec<u32>]> = items.chunks(side.1).map(<[u32]>::to_vec).collect();
        let user_blocks: Vec<Vec<u32>> = users.chunks(side.0).map(<[u32]>::to_vec).collect();
        Box::new(user_blocks.into_iter().flat_map(move |users| {
            let observed = self.observed_in(&users, &item_blocks, &position).into_iter().enumerate();
            let item_blocks = Rc::clone(&item_blocks);
            observed.map(move |(block, observed)| Ok(self.batch(&users, &item_blocks[block], &observed)))
        }))
    }

    /// So many random blocks.
    fn draw(&self, blocks: usize, epoch: usize) -> Batches<'_> {
        let mut rng = epoch_rng(self.seed, epoch);
        let (mut users, mut items) = (Deck::new(self.users), Deck::new(self.items));
        let mut position = vec![NOWHERE; self.items];
        Box::new((0..blocks).map(move |_| {
            let users = users.deal(self.side.0, &mut rng);
            let items = [items.deal(self.side.1, &mut rng).to_vec()];
            place(&items[0], &mut position);
            let observed = self.observed_in(users, &items, &position);
            items[0].iter().for_each(|item| position[*item as usize] = NOWHERE);
            Ok(self.batch(users, &items[0], &observed[0]))
        }))
    }

    fn batch(&self, users: &[u32], items: &[u32], observed: &Observed) -> Batch {
        let users: Vec<i64> = users.iter().map(|user| i64::from(*user)).collect();
        let items: Vec<i64> = items.iter().map(|item| i64::from(*item) + self.users as i64).collect();
        Batch::of_block(&users, &items, observed, self.propensity.is_some(), self.device)
    }

    /// For each block of items, the pairs that `users` have in it; `position` is the place of each item in the sequence of
    /// blocks, all but the last of which have one length.
    fn observed_in(&self, users: &[u32], items: &[Vec<u32>], position: &[u32]) -> Vec<Observed> {
        let mut found = vec![Observed::default(); items.len()];
        for (row, user) in users.iter().enumerate() {
            let user = *user as usize;
            for pair in self.starts[user]..self.starts[user + 1] {
                let (item, outcome) = self.observed[pair];
                let at = position[item as usize];
                if at == NOWHERE {
                    continue;
                }
                let (block, column) = (at as usize / items[0].len(), at as usize % items[0].len());
                let found = &mut found[block];
                found.at.push((row * items[block].len() + column) as i64);
                found.outcome.push(outcome);
                found.propensity.extend(self.propensity.as_ref().map(|propensity| propensity[pair]));
            }
        }
        found
    }

    /// Every observed pair, as rows.
    fn treated(&self) -> Batches<'_> {
        let row = move |user: usize, pair: usize| Row {
            user: user as u32,
            item: self.observed[pair].0,
            treated: true,
            outcome: self.observed[pair].1,
            propensity: self.propensity.as_ref().map(|propensity| propensity[pair]),
        };
        let of_user = move |user| (self.starts[user]..self.starts[user + 1]).map(move |pair| row(user, pair));
        let mut rows = (0..self.users).flat_map(of_user);
        Box::new(std::iter::from_fn(move || {
            let rows: Vec<Row> = rows.by_ref().take(EVALUATION_ROWS).collect();
            (!rows.is_empty()).then(|| Ok(Batch::of_rows(&rows, self.users, self.device)))
        }))
    }
}

/// Writes down the place of each item.
fn place(items: &[u32], position: &mut [u32]) {
    for (at, item) in items.iter().enumerate() {
        position[*item as usize] = at as u32;
    }
}

impl Sampler for BlockSampler {
    fn epoch(&self, epoch: usize) -> Batches<'_> {
        if let Some(blocks) = self.sampled {
            return self.draw(blocks, epoch);
        }
        let mut rng = epoch_rng(self.seed, epoch);
        let mut users: Vec<u32> = (0..self.users as u32).collect();
        let mut items: Vec<u32> = (0..self.items as u32).collect();
        users.shuffle(&mut rng);
        items.shuffle(&mut rng);
        self.sweep(&users, &items, self.side)
    }

    fn population(&self) -> Batches<'_> {
        let users: Vec<u32> = (0..self.users as u32).collect();
        let items: Vec<u32> = (0..self.items as u32).collect();
        self.sweep(&users, &items, (EVALUATION_SIDE, EVALUATION_SIDE))
    }

    fn sample(&self) -> Option<Sample<'_>> {
        let (blocks, population) = (self.sampled?, self.users * self.items);
        let drawn = blocks.saturating_mul(self.side.0 * self.side.1);
        let sample = || Sample { treated: self.treated(), drawn: self.draw(blocks, EVALUATION_EPOCH), population };
        (drawn < population).then(sample)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::RngExt;
    use rand_chacha::rand_core::SeedableRng;
    use tch::Tensor;

    use super::*;
    use crate::data::sampler::tests::{self, Known};

    fn row(user: u32, item: u32, outcome: f32) -> Row {
        Row { user, item, treated: true, outcome, propensity: None }
    }

    fn sampler(rows: Vec<Row>) -> Result<BlockSampler> {
        BlockSampler::new(rows, (5, 7), (2, 3), 1, Device::Cpu, |user, item| format!("({user}, {item})"))
    }

    fn values<T: tch::kind::Element + Copy>(tensor: &Tensor) -> Vec<T> {
        Vec::try_from(tensor.flatten(0, -1)).unwrap()
    }

    #[test]
    fn an_epoch_is_every_pair_once_with_its_outcome() {
        let rows = vec![row(4, 6, 0.25), row(0, 0, 1.0), row(4, 1, 1.0), row(2, 3, 0.0)];
        let sampler = sampler(rows.clone()).unwrap();
        let wanted: BTreeMap<_, _> = rows.iter().map(|row| ((row.user, row.item), row.outcome)).collect();
        for batches in [sampler.epoch(0), sampler.epoch(1), sampler.population()] {
            let mut seen = BTreeMap::new();
            for batch in batches.map(Result::unwrap) {
                assert_eq!(batch.treated.size(), [batch.users, batch.rows.size()[0] - batch.users]);
                for (pair, o, r, _) in pairs(&batch, 5) {
                    assert_eq!(o == 1.0, wanted.contains_key(&pair), "{pair:?}");
                    assert_eq!(r, wanted.get(&pair).copied().unwrap_or_default());
                    assert!(seen.insert(pair, r).is_none());
                }
            }
            assert_eq!(seen.len(), 35);
        }
    }

    #[test]
    fn propensities_go_to_their_pairs() {
        let with = |row: Row, propensity| Row { propensity: Some(propensity), ..row };
        let rows = vec![with(row(4, 6, 0.25), 0.1), with(row(0, 0, 1.0), 0.2), with(row(4, 1, 1.0), 0.3)];
        let sampler = sampler(rows.clone()).unwrap();
        for batch in sampler.epoch(1).map(Result::unwrap) {
            for (pair, _, _, p) in pairs(&batch, 5) {
                let row = rows.iter().find(|row| (row.user, row.item) == pair);
                assert_eq!(p.unwrap(), row.map_or(1.0, |row| row.propensity.unwrap()), "{pair:?}");
            }
        }
    }

    #[test]
    fn the_order_follows_seed_and_epoch() {
        let order = |epoch| -> Vec<i64> {
            sampler(vec![row(0, 0, 1.0)]).unwrap().epoch(epoch).flat_map(|b| values::<i64>(&b.unwrap().rows)).collect()
        };
        assert_eq!(order(3), order(3));
        assert_ne!(order(3), order(4));
        assert_eq!(sampler(vec![]).unwrap().epoch(0).count(), 3 * 3);
    }

    /// Every pair, by its user and item.
    fn pairs(batch: &Batch, users: u32) -> Vec<Known<(u32, u32)>> {
        let of_rows = tests::pairs(batch).into_iter();
        of_rows.map(|((user, item), o, r, p)| ((user as u32, item as u32 - users), o, r, p)).collect()
    }

    #[test]
    fn a_sampled_block_is_a_random_set_of_users_and_items() {
        let rows = vec![row(4, 6, 0.25), row(0, 0, 1.0), row(4, 1, 1.0), row(2, 3, 0.0)];
        let wanted: BTreeMap<_, _> = rows.iter().map(|row| ((row.user, row.item), row.outcome)).collect();
        let sampler = sampler(rows).unwrap().sampling(Some(4));
        let (mut times, mut blocks) = (BTreeMap::<_, f64>::new(), 0.0);
        for epoch in 0..1500 {
            for batch in sampler.epoch(epoch).map(Result::unwrap) {
                assert_eq!(batch.treated.size(), [2, 3]);
                blocks += 1.0;
                for (pair, o, r, _) in pairs(&batch, 5) {
                    assert_eq!(o == 1.0, wanted.contains_key(&pair), "{pair:?}");
                    assert_eq!(r, wanted.get(&pair).copied().unwrap_or_default());
                    *times.entry(pair).or_insert(0.0) += 1.0;
                }
            }
        }
        assert_eq!((times.len(), blocks), (35, 6000.0));
        // Every pair is in 2/5 · 3/7 of all blocks. Those of an epoch hang together: allow for that.
        let share: f64 = 2.0 / 5.0 * 3.0 / 7.0;
        let error = (share * (1.0 - share) / blocks).sqrt();
        for (pair, count) in times {
            assert!((count / blocks - share).abs() < 5.0 * error, "{pair:?} is in {} of all blocks", count / blocks);
        }
    }

    #[test]
    fn users_come_again_once_all_have_come() {
        let sampler = BlockSampler::new(vec![], (12, 6), (3, 6), 2, Device::Cpu, |_, _| String::new()).unwrap();
        let sampler = sampler.sampling(Some(8));
        let users = |epoch| -> Vec<i64> {
            let batches = sampler.epoch(epoch).map(Result::unwrap);
            batches.flat_map(|batch| values::<i64>(&batch.rows.narrow(0, 0, batch.users))).collect()
        };
        for half in users(1).chunks(12) {
            let mut half = half.to_vec();
            half.sort_unstable();
            assert_eq!(half, (0..12).collect::<Vec<i64>>());
        }
        assert_eq!(users(1), users(1));
        assert_ne!(users(1), users(2));
    }

    #[test]
    fn a_small_population_is_not_sampled_for_evaluation() {
        let sampler = |blocks| sampler(vec![row(0, 0, 1.0), row(3, 2, 1.0)]).unwrap().sampling(blocks);
        assert!(sampler(None).sample().is_none() && sampler(Some(6)).sample().is_none(), "36 pairs are all 35");
        let few = sampler(Some(5));
        let order = || -> Vec<i64> {
            few.sample().unwrap().drawn.flat_map(|batch| values::<i64>(&batch.unwrap().rows)).collect()
        };
        assert_eq!(order(), order(), "epochs are evaluated on the same pairs");
        assert_eq!((order().len(), few.sample().unwrap().population), (5 * (2 + 3), 35));
        let treated: Vec<Batch> = few.sample().unwrap().treated.map(Result::unwrap).collect();
        assert_eq!(treated.iter().flat_map(|batch| values::<i64>(&batch.rows)).collect::<Vec<_>>(), [0, 3, 5, 7]);
    }

    /// A million users and a hundred thousand items: 10^11 pairs, of which five blocks are made.
    #[test]
    fn blocks_of_a_large_population_hold_its_treated_pairs() {
        let (users, items) = (1_000_000, 100_000);
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        // Half of the pairs are of a thousand items, so that some are met.
        let item = |rng: &mut ChaCha8Rng| {
            let among = if rng.random_bool(0.5) { 1000 } else { items };
            rng.random_range(0..among)
        };
        let mut treated: Vec<(u32, u32)> =
            (0..2_000_000).map(|_| (rng.random_range(0..users), item(&mut rng))).collect();
        treated.sort_unstable();
        treated.dedup();
        let rows = treated.iter().map(|(user, item)| row(*user, *item, 1.0)).collect();
        let size = (users as usize, items as usize);
        let sampler = BlockSampler::new(rows, size, (2000, 200), 3, Device::Cpu, |_, _| String::new()).unwrap();
        let mut met = 0;
        for batch in sampler.sampling(Some(5)).epoch(1).map(Result::unwrap) {
            for (pair, o, _, _) in pairs(&batch, users) {
                assert_eq!(o == 1.0, treated.binary_search(&pair).is_ok());
                met += usize::from(o == 1.0);
            }
        }
        assert!(met > 5, "{met}");
    }

    #[test]
    fn a_pair_observed_twice_is_named() {
        let error = sampler(vec![row(1, 2, 1.0), row(1, 3, 1.0), row(1, 2, 0.0)]).unwrap_err().to_string();
        assert!(error.contains("(1, 2) has more than one row") && error.contains("GROUP BY"), "{error}");
    }
}
