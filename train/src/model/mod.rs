//! Models of user-item pairs: embeddings and biases, and the heads that make scores of them.

mod head;
mod logits;
mod per_model;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::Normal;
use tch::{Device, Tensor};

pub use head::Head;
pub(crate) use logits::GATHERED;
pub use logits::logits;
pub use per_model::PerModel;

use crate::data::sampler::{Batch, Layout};
use counterweight::job::{ModelSpec, Precision};

/// Scores of user-item pairs: what the head makes of the embeddings u and v, plus b_u + b_i.
///
/// Its own table is a row a user and then a row an item: K values of the embedding, unless that is shared, and one of the
/// bias.
#[derive(Debug)]
pub struct Model {
    table: Tensor,
    users: i64,
    /// Embeddings that several models score by, `[users + items, K]`: the same tensor in every model that shares them.
    shared: Option<Tensor>,
    head: Head,
}

/// The weights that a batch's scores depend on.
///
/// They are tensors of their own, so that a backward pass stops at the batch and never makes a gradient of the table.
#[derive(Debug)]
pub struct BatchWeights {
    /// u of every user of the batch, `[users, K]`.
    pub user: Tensor,
    /// b_u, `[users, 1]`.
    pub user_bias: Tensor,
    /// v of every item of the batch, `[items, K]`.
    pub item: Tensor,
    /// b_i, `[items, 1]`.
    pub item_bias: Tensor,
    /// The head.
    pub head: Head,
    /// Whether u and v are rows of shared embeddings.
    shared: bool,
}

/// The gradients of [`BatchWeights`], laid out as the weights that they belong to.
#[derive(Debug)]
pub struct Gradients {
    /// Of the rows of the model's own table.
    pub own: Tensor,
    /// Of the rows of the shared embeddings, `[users + items, K]`.
    pub shared: Option<Tensor>,
    /// Of the weights of the head.
    pub head: Vec<Tensor>,
}

impl Gradients {
    /// The Euclidean norm of all of them, a scalar.
    pub fn norm(&self) -> Tensor {
        let others = self.shared.iter().chain(&self.head);
        let norms: Vec<Tensor> = [&self.own].into_iter().chain(others).map(Tensor::norm).collect();
        match &norms[..] {
            [own] => own.shallow_clone(),
            norms => Tensor::stack(norms, 0).norm(),
        }
    }
}

/// What a model says of a batch.
#[derive(Debug)]
pub struct Scores {
    /// The weights behind it.
    pub weights: BatchWeights,
    /// The score of every pair; its sigmoid is a probability.
    pub logit: Tensor,
    /// The last hidden layer of every pair, `[pairs, width]`, a block's user by user; of an MLP head.
    pub representation: Option<Tensor>,
}

impl Model {
    /// A model with embeddings of its own and the initial weights of [`initial`] and [`Head::new`].
    pub fn new(users: usize, items: usize, spec: &ModelSpec, rng: &mut ChaCha8Rng, device: Device) -> Self {
        let table = initial(users, items, spec.dim + 1, rng, device);
        Self::from_table(table, users, Head::new(spec, rng, device))
    }

    /// A model that scores by `embeddings`, `[users + items, K]`, with the initial biases of [`initial`] and the head of
    /// [`Head::new`].
    pub fn sharing(embeddings: &Tensor, users: usize, spec: &ModelSpec, rng: &mut ChaCha8Rng) -> Self {
        let (rows, device) = (embeddings.size()[0] as usize, embeddings.device());
        let biases = initial(users, rows - users, 1, rng, device);
        Self::from_shared(embeddings, biases, users, Head::new(spec, rng, device))
    }

    /// The model whose weights are `table`, `[users + items, K + 1]`, and those of `head`.
    pub fn from_table(table: Tensor, users: usize, head: Head) -> Self {
        Self { table, users: users as i64, shared: None, head }
    }

    /// The model that scores by `embeddings`, `[users + items, K]`, with the biases `[users + items, 1]`.
    pub fn from_shared(embeddings: &Tensor, biases: Tensor, users: usize, head: Head) -> Self {
        Self { table: biases, users: users as i64, shared: Some(embeddings.shallow_clone()), head }
    }

    /// The model with the users' and items' embeddings `[n, K]`, its own, and biases `[n]`.
    pub fn from_parts(user: (&Tensor, &Tensor), item: (&Tensor, &Tensor), head: Head) -> Self {
        let rows = |(embedding, bias): (&Tensor, &Tensor)| Tensor::cat(&[embedding, &bias.unsqueeze(1)], 1);
        let table = Tensor::cat(&[rows(user), rows(item)], 0);
        Self::from_table(table, user.1.size()[0] as usize, head)
    }

    /// The users' embeddings `[n, K]` and biases `[n]`, then the items'.
    pub fn parts(&self) -> [(Tensor, Tensor); 2] {
        let (embeddings, biases) = self.columns(&self.table, self.embeddings());
        let part = |start, count| {
            (
                embeddings.narrow(0, start, count).contiguous(),
                biases.narrow(0, start, count).squeeze_dim(1).contiguous(),
            )
        };
        [part(0, self.users), part(self.users, self.table.size()[0] - self.users)]
    }

    /// The weights that are its own but for the head: `[users + items, K + 1]`, or `[users + items, 1]` where it shares
    /// its embeddings.
    pub fn table(&self) -> &Tensor {
        &self.table
    }

    /// The same, to change in place.
    pub fn table_mut(&mut self) -> &mut Tensor {
        &mut self.table
    }

    /// All weights of its own: the table, and those of the head.
    pub fn weights(&self) -> impl Iterator<Item = &Tensor> {
        [&self.table].into_iter().chain(self.head.weights())
    }

    /// The embeddings that it shares, `[users + items, K]`.
    pub fn embeddings(&self) -> Option<&Tensor> {
        self.shared.as_ref()
    }

    /// The same, to change in place, for every model that shares them.
    pub fn embeddings_mut(&mut self) -> Option<&mut Tensor> {
        self.shared.as_mut()
    }

    /// What makes a score of two embeddings; its own.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The same, to change.
    pub fn head_mut(&mut self) -> &mut Head {
        &mut self.head
    }

    /// K.
    pub fn dim(&self) -> i64 {
        self.embeddings().map_or_else(|| self.table.size()[1] - 1, |embeddings| embeddings.size()[1])
    }

    /// How many users there are.
    pub fn users(&self) -> usize {
        self.users as usize
    }

    /// A model with the same weights, which no longer change together, but for shared embeddings: those are `embeddings`.
    pub fn copy(&self, embeddings: Option<&Tensor>) -> Self {
        tch::no_grad(|| Self {
            table: self.table.copy(),
            users: self.users,
            shared: self.shared.as_ref().and(embeddings).map(Tensor::shallow_clone),
            head: self.head.map(Tensor::copy),
        })
    }

    /// The model whose score of every pair is the mean of the scores of `members`, which are dot products: its embeddings
    /// are theirs side by side. Those that it shares are `shared`, as [`side_by_side`] gives them.
    pub(crate) fn mean(members: &[&Self], shared: Option<&Tensor>) -> Self {
        let count = members.len() as f64;
        let first = members[0];
        let columns: Vec<_> = members.iter().map(|model| model.columns(&model.table, model.embeddings())).collect();
        let biases: Tensor = columns.iter().map(|(_, biases)| biases.shallow_clone()).sum();
        let biases = biases / count;
        match shared {
            Some(embeddings) => {
                let heads: Vec<&Tensor> = members.iter().flat_map(|model| model.head.weights()).collect();
                let head = Head::Diagonal(Tensor::cat(&heads, 1) / count);
                Self::from_shared(embeddings, biases, first.users(), head)
            }
            None => {
                let embeddings = side_by_side(columns.iter().map(|(embeddings, _)| embeddings)) / count.sqrt();
                Self::from_table(Tensor::cat(&[embeddings, biases], 1), first.users(), Head::Dot)
            }
        }
    }

    /// The weights of a batch's users and items, as constants.
    pub fn rows(&self, batch: &Batch) -> BatchWeights {
        tch::no_grad(|| {
            let of_batch = |table: &Tensor| table.index_select(0, &batch.rows);
            let shared = self.embeddings().map(of_batch);
            let (embeddings, biases) = self.columns(&of_batch(&self.table), shared.as_ref());
            let items = biases.size()[0] - batch.users;
            let part = |tensor: &Tensor| (tensor.narrow(0, 0, batch.users), tensor.narrow(0, batch.users, items));
            let ((user, item), (user_bias, item_bias)) = (part(&embeddings), part(&biases));
            let head = self.head.map(Tensor::detach);
            BatchWeights { user, user_bias, item, item_bias, head, shared: shared.is_some() }
        })
    }

    /// Embeddings and biases from rows of its own table and of the embeddings that it shares.
    fn columns(&self, own: &Tensor, shared: Option<&Tensor>) -> (Tensor, Tensor) {
        match shared {
            Some(embeddings) => (embeddings.shallow_clone(), own.shallow_clone()),
            None => (own.narrow(1, 0, self.dim()), own.narrow(1, self.dim(), 1)),
        }
    }
}

/// The embeddings of several models, one after the other: `[rows, K]` of each make `[rows, members · K]`.
pub(crate) fn side_by_side<'a>(embeddings: impl Iterator<Item = &'a Tensor>) -> Tensor {
    Tensor::cat(&embeddings.collect::<Vec<_>>(), 1)
}

/// Initial weights by He et al. (2015) in fan-out mode, `[users + items, width]`: normal, with variance 2 / rows for the
/// rows of the users and of the items alike.
pub fn initial(users: usize, items: usize, width: usize, rng: &mut ChaCha8Rng, device: Device) -> Tensor {
    let mut values: Vec<f32> = Vec::with_capacity((users + items) * width);
    for rows in [users, items] {
        let deviation = (2.0 / rows.max(1) as f32).sqrt();
        let normal = Normal::new(0.0, deviation).expect("a finite deviation");
        values.extend((0..rows * width).map(|_| rng.sample(normal)));
    }
    Tensor::from_slice(&values).view([(users + items) as i64, width as i64]).to_device(device)
}

impl BatchWeights {
    /// The same weights, which a backward pass may ask for gradients of.
    pub fn tracked(self) -> Self {
        let Self { user, user_bias, item, item_bias, head, shared } = self;
        let track = |tensor: &Tensor| tensor.set_requires_grad(true);
        let [user, user_bias, item, item_bias] = [&user, &user_bias, &item, &item_bias].map(track);
        Self { user, user_bias, item, item_bias, head: head.map(track), shared }
    }

    /// All of them.
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        [&self.user, &self.user_bias, &self.item, &self.item_bias].into_iter().chain(self.head.weights())
    }

    /// The gradients of `loss`, a scalar, at these weights, which are [tracked](Self::tracked).
    pub fn gradients(&self, loss: &Tensor) -> Gradients {
        let leaves: Vec<&Tensor> = self.tensors().collect();
        self.take_gradients(&mut Tensor::run_backward(&[loss], &leaves, false, false).into_iter())
    }

    /// Takes the gradients of [`BatchWeights::tensors`] from the front of `gradients`.
    fn take_gradients(&self, gradients: &mut impl Iterator<Item = Tensor>) -> Gradients {
        let mut next = || gradients.next().expect("a gradient of every tensor");
        let (user, user_bias, item, item_bias) = (next(), next(), next(), next());
        let rows = |parts: [Tensor; 2]| Tensor::cat(&parts, 0);
        let (own, shared) = if self.shared {
            (rows([user_bias, item_bias]), Some(rows([user, item])))
        } else {
            let part = |embedding, bias| Tensor::cat(&[embedding, bias], 1);
            (rows([part(user, user_bias), part(item, item_bias)]), None)
        };
        Gradients { own, shared, head: self.head.weights().iter().map(|_| next()).collect() }
    }
}

impl Scores {
    /// The scores of a batch's pairs.
    pub fn of(weights: BatchWeights, layout: Layout) -> Self {
        Self::with(weights, layout, Precision::Float32)
    }

    /// The same with matrix products taken in `precision`.
    pub fn with(weights: BatchWeights, layout: Layout, precision: Precision) -> Self {
        let BatchWeights { user, user_bias, item, item_bias, head, .. } = &weights;
        let bias = match layout {
            Layout::Block => user_bias + item_bias.transpose(0, 1),
            Layout::Pairs => (user_bias + item_bias).squeeze_dim(1),
        };
        let (logit, representation) = head.score(user, item, &bias, layout, precision);
        Self { weights, logit, representation }
    }

    /// The probability of every pair.
    pub fn probability(&self) -> Tensor {
        self.logit.sigmoid()
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;
    use tch::Kind;

    use super::*;
    use crate::data::sampler::{BlockSampler, Row, Sampler};
    use counterweight::job::{Embeddings, HeadKind};

    /// Every head with embeddings of its own, and with shared ones.
    fn specs() -> [ModelSpec; 5] {
        let spec = |embeddings, head, hidden: &[usize]| {
            let mut spec = ModelSpec::default();
            (spec.dim, spec.embeddings, spec.head, spec.hidden) = (5, embeddings, head, hidden.to_vec());
            spec
        };
        [
            spec(Embeddings::Separate, HeadKind::Dot, &[]),
            spec(Embeddings::Separate, HeadKind::Mlp, &[4]),
            spec(Embeddings::Separate, HeadKind::Mlp, &[4, 3, 2]),
            spec(Embeddings::Shared, HeadKind::Dot, &[]),
            spec(Embeddings::Shared, HeadKind::Mlp, &[4, 3]),
        ]
    }

    /// Two models, of which shared embeddings are the same, with weights that are nowhere 0 or 1.
    fn pair(spec: &ModelSpec) -> [Model; 2] {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let embeddings = initial(9, 11, spec.dim, &mut rng, Device::Cpu);
        [(); 2].map(|()| {
            let mut model = match spec.embeddings {
                Embeddings::Separate => Model::new(9, 11, spec, &mut rng, Device::Cpu),
                Embeddings::Shared => Model::sharing(&embeddings, 9, spec, &mut rng),
            };
            for weights in model.head_mut().weights_mut() {
                let values: Vec<f32> = (0..weights.numel()).map(|_| rng.random_range(-1.0..1.0)).collect();
                weights.copy_(&Tensor::from_slice(&values).view_as(weights));
            }
            model
        })
    }

    fn model(spec: &ModelSpec) -> Model {
        let [model, _] = pair(spec);
        model
    }

    fn blocks() -> BlockSampler {
        BlockSampler::new(vec![], (9, 11), (4, 3), 0, Device::Cpu, |_, _| String::new()).unwrap()
    }

    /// The same model in double precision, with tensors of its own.
    fn double(model: &Model) -> Model {
        let double = |tensor: &Tensor| tensor.to_kind(Kind::Double);
        let (table, head) = (double(model.table()), model.head().map(double));
        match model.embeddings() {
            None => Model::from_table(table, 9, head),
            Some(embeddings) => Model::from_shared(&double(embeddings), table, 9, head),
        }
    }

    #[test]
    fn a_block_scores_as_its_pairs_do() {
        for spec in specs() {
            let model = model(&spec);
            for block in blocks().epoch(0).map(Result::unwrap) {
                let indices = Vec::<i64>::try_from(&block.rows).unwrap();
                let (users, items) = indices.split_at(block.users as usize);
                let pairs: Vec<Row> = users
                    .iter()
                    .flat_map(|user| items.iter().map(move |item| (*user as u32, *item as u32 - 9)))
                    .map(|(user, item)| Row { user, item, treated: false, outcome: 0.0, propensity: None })
                    .collect();
                let pairs = Batch::of_rows(&pairs, 9, Device::Cpu);
                let by_block = Scores::of(model.rows(&block), Layout::Block);
                let by_pair = Scores::of(model.rows(&pairs), Layout::Pairs);
                let furthest = |a: Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
                assert_eq!(by_block.logit.size(), [users.len() as i64, items.len() as i64]);
                assert!(furthest(by_block.logit.flatten(0, -1), &by_pair.logit) < 1e-6);
                assert_eq!(by_block.representation.is_some(), spec.head == HeadKind::Mlp);
                if let (Some(block), Some(pairs)) = (by_block.representation, by_pair.representation) {
                    assert_eq!(block.size(), [by_pair.logit.numel() as i64, *spec.hidden.last().unwrap() as i64]);
                    assert!(furthest(block, &pairs) < 1e-6);
                }
            }
        }
    }

    #[test]
    fn parts_make_the_whole() {
        for spec in specs() {
            let model = model(&spec);
            let [(user, user_bias), (item, item_bias)] = model.parts();
            assert_eq!((user.size(), item_bias.size()), (vec![9, 5], vec![11]));
            let named = model.head().named();
            let find = |name: &str| named.iter().find(|(known, _)| known == name);
            let head = Head::from_named(|name| find(name).is_some(), |name| Ok(find(name).unwrap().1.shallow_clone()));
            let head = head.unwrap();
            assert_eq!(head.weights(), model.head().weights());
            let again = Model::from_parts((&user, &user_bias), (&item, &item_bias), head);
            assert_eq!(again.users(), 9);
            let block = blocks().epoch(0).next().unwrap().unwrap();
            let score = |model: &Model| Scores::of(model.rows(&block), Layout::Block).logit;
            assert!((score(&again) - score(&model)).abs().max().double_value(&[]) < 1e-6);
        }
    }

    #[test]
    fn shared_embeddings_change_for_every_model_and_heads_for_one() {
        for spec in specs().iter().filter(|spec| spec.embeddings == Embeddings::Shared) {
            let [mut first, second] = pair(spec);
            let _ = first.embeddings_mut().unwrap().fill_(0.25);
            let _ = first.head_mut().weights_mut()[0].fill_(2.0);
            assert_eq!(second.embeddings().unwrap().double_value(&[3, 2]), 0.25);
            assert_ne!(second.head().weights()[0].double_value(&[0, 2]), 2.0);
            let copy = first.copy(Some(&first.embeddings().unwrap().copy()));
            let _ = first.embeddings_mut().unwrap().fill_(0.5);
            let _ = first.head_mut().weights_mut()[0].fill_(3.0);
            assert_eq!(copy.embeddings().unwrap().double_value(&[3, 2]), 0.25);
            assert_eq!(copy.head().weights()[0].double_value(&[0, 2]), 2.0);
        }
    }

    /// Of scores and of the last hidden layer.
    #[test]
    fn gradients_are_slopes() {
        const STEP: f64 = 1e-6;
        for (spec, batch) in specs().iter().flat_map(|spec| batches().map(|batch| (spec, batch))) {
            let model = double(&model(spec));
            let scores = || Scores::of(model.rows(&batch).tracked(), batch.layout);
            let loss = |scores: &Scores| {
                let cubes = |tensor: &Tensor| tensor.pow_tensor_scalar(3).sum(None::<Kind>);
                cubes(&scores.logit) + scores.representation.as_ref().map_or_else(|| Tensor::from(0.0), cubes)
            };
            let at_start = scores();
            let Gradients { own, shared, head } = at_start.weights.gradients(&loss(&at_start));
            let whole = |table: &Tensor, gradient: &Tensor| table.zeros_like().index_add(0, &batch.rows, gradient);
            let mut checked = vec![(model.table(), whole(model.table(), &own))];
            checked.extend(model.embeddings().map(|table| (table, whole(table, &shared.unwrap()))));
            checked.extend(model.head().weights().iter().zip(head));
            for (weights, gradient) in checked {
                assert_eq!(gradient.size(), weights.size());
                for (row, column) in
                    (0..weights.size()[0]).flat_map(|row| (0..weights.size()[1]).map(move |at| (row, at)))
                {
                    let mut cell = weights.get(row).get(column);
                    let value = cell.double_value(&[]);
                    let mut moved = |step: f64| {
                        let _ = cell.fill_(value + step);
                        loss(&scores()).double_value(&[])
                    };
                    let slope = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
                    moved(0.0);
                    let ours = gradient.double_value(&[row, column]);
                    assert!((ours - slope).abs() < 1e-6 * (1.0 + slope.abs()), "{spec:?}: {ours} is not {slope}");
                }
            }
        }
    }

    /// A block, and pairs of which some share a user or an item.
    fn batches() -> [Batch; 2] {
        let row = |at: u32| Row { user: at % 9, item: at % 4, treated: true, outcome: 1.0, propensity: None };
        let pairs = Batch::of_rows(&(0..14).map(row).collect::<Vec<_>>(), 9, Device::Cpu);
        [blocks().epoch(0).next().unwrap().unwrap(), pairs]
    }

    /// The score of a pair, and by how much it may be off where a product of matrices is off by at most `rounding` times
    /// the sum of its terms' absolute values.
    fn by_definition(model: &Model, (user, item): (i64, i64), rounding: f64) -> (f64, f64) {
        let [(users, user_bias), (items, item_bias)] = model.parts();
        let row = |table: &Tensor, at: i64| Vec::<f64>::try_from(table.get(at).to_kind(Kind::Double)).unwrap();
        let (u, v) = (row(&users, user), row(&items, item));
        let bias = user_bias.double_value(&[user]) + item_bias.double_value(&[item]);
        let products = |h: &[f64]| u.iter().zip(&v).zip(h).map(|((u, v), h)| u * v * h).collect::<Vec<_>>();
        let of_dot = |terms: Vec<f64>| {
            (terms.iter().sum::<f64>() + bias, rounding * terms.iter().map(|term| term.abs()).sum::<f64>())
        };
        match model.head() {
            Head::Dot => of_dot(products(&vec![1.0; u.len()])),
            Head::Diagonal(weights) => of_dot(products(&row(weights, 0))),
            Head::Mlp(layers) => {
                let mut inputs: Vec<(f64, f64)> = u.iter().chain(&v).map(|value| (*value, 0.0)).collect();
                for (at, layer) in layers.iter().enumerate() {
                    let is_last = at + 1 == layers.len();
                    let output = |at: i64| {
                        let weights = row(layer, at);
                        let (mut value, mut off) = (weights[inputs.len()], 0.0);
                        for (weight, (input, input_off)) in weights.iter().zip(&inputs) {
                            value += weight * input;
                            let rounded = if is_last { 0.0 } else { rounding * (input.abs() + input_off) };
                            off += weight.abs() * (input_off + rounded);
                        }
                        (if is_last { value } else { value.max(0.0) }, off)
                    };
                    inputs = (0..layer.size()[0]).map(output).collect();
                }
                (inputs[0].0 + bias, inputs[0].1)
            }
        }
    }

    /// Both factors and the product are off by 2⁻⁸ of themselves at most.
    #[test]
    fn scores_are_exact_but_for_the_rounding_of_their_precision() {
        const UNIT: f64 = 1.0 / 256.0;
        for (spec, batch) in specs().iter().flat_map(|spec| batches().map(|batch| (spec, batch))) {
            let model = model(spec);
            let rows = Vec::<i64>::try_from(&batch.rows).unwrap();
            let (users, items) = rows.split_at(batch.users as usize);
            let pairs: Vec<(i64, i64)> = match batch.layout {
                Layout::Block => {
                    users.iter().flat_map(|user| items.iter().map(move |item| (*user, item - 9))).collect()
                }
                Layout::Pairs => users.iter().copied().zip(items.iter().map(|item| item - 9)).collect(),
            };
            let scores = |precision| {
                let scores = Scores::with(model.rows(&batch), batch.layout, precision);
                assert!(
                    [Some(&scores.logit), scores.representation.as_ref()]
                        .into_iter()
                        .flatten()
                        .all(|values| values.kind() == Kind::Float)
                );
                Vec::<f32>::try_from(scores.logit.flatten(0, -1)).unwrap()
            };
            let (full, half) = (scores(Precision::Float32), scores(Precision::Bfloat16));
            for (at, pair) in pairs.iter().enumerate() {
                for (score, rounding) in [(full[at], 0.0), (half[at], (1.0 + UNIT).powi(3) - 1.0)] {
                    let (wanted, off) = by_definition(&model, *pair, rounding);
                    let apart = (f64::from(score) - wanted).abs();
                    assert!(apart < off + 1e-5, "{spec:?}, {:?}: {score} is not {wanted} ± {off}", batch.layout);
                }
            }
            let apart = full.iter().zip(&half).map(|(full, half)| (full - half).abs()).fold(0.0, f32::max);
            let takes_products = batch.layout == Layout::Block || spec.head == HeadKind::Mlp;
            assert_eq!(apart > 1e-4, takes_products, "{spec:?}, {:?}: {apart}", batch.layout);
            assert!(takes_products || apart == 0.0);
        }
    }

    #[test]
    fn gradients_are_near_in_lower_precision_and_of_float32() {
        for (spec, batch) in specs().iter().flat_map(|spec| batches().map(|batch| (spec, batch))) {
            let model = model(spec);
            let gradients = |precision| {
                let scores = Scores::with(model.rows(&batch).tracked(), batch.layout, precision);
                let learned = scores.representation.as_ref().map(|values| values.square().sum(None::<Kind>));
                let loss = scores.probability().sum(None::<Kind>) + learned.unwrap_or_else(|| Tensor::from(0.0_f32));
                let leaves: Vec<&Tensor> = scores.weights.tensors().collect();
                Tensor::run_backward(&[loss], &leaves, false, false)
            };
            let (full, half) = (gradients(Precision::Float32), gradients(Precision::Bfloat16));
            let mut furthest = 0.0_f64;
            for (full, half) in full.iter().zip(&half) {
                assert_eq!(half.kind(), Kind::Float);
                let apart = (full - half).norm().double_value(&[]) / full.norm().double_value(&[]);
                assert!(apart < 0.03, "{spec:?}, {:?}: {apart}", batch.layout);
                furthest = furthest.max(apart);
            }
            assert!(furthest > 1e-4 || (batch.layout == Layout::Pairs && spec.head == HeadKind::Dot), "{furthest}");
        }
    }

    #[test]
    fn initial_weights_have_the_stated_spread() {
        let mut spec = ModelSpec::default();
        (spec.dim, spec.head, spec.hidden) = (64, HeadKind::Mlp, vec![200, 100]);
        let model = Model::new(400, 100, &spec, &mut ChaCha8Rng::seed_from_u64(1), Device::Cpu);
        let [(user, _), (item, _)] = model.parts();
        let spread = |weights: &Tensor| weights.std(false).double_value(&[]);
        for (weights, rows) in [(user, 400.0_f64), (item, 100.0)] {
            assert!((spread(&weights) / (2.0 / rows).sqrt() - 1.0).abs() < 0.03);
        }
        let sizes = [(128, 200), (200, 100), (100, 1)];
        assert_eq!(model.head().weights().len(), sizes.len());
        assert_eq!(model.head().activations(), 300);
        for (layer, (inputs, outputs)) in model.head().weights().iter().zip(sizes) {
            assert_eq!(layer.size(), [outputs, inputs + 1]);
            let slack = if outputs == 1 { 0.3 } else { 0.03 };
            assert!((spread(&layer.narrow(1, 0, inputs)) / (2.0 / inputs as f64).sqrt() - 1.0).abs() < slack);
            assert_eq!(layer.select(1, inputs).abs().max().double_value(&[]), 0.0, "biases");
        }
    }
}
