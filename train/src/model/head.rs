//! What makes a score of the embeddings of a user and an item.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::Normal;
use tch::{Device, Kind, Tensor};

use crate::data::sampler::Layout;
use counterweight::error::Result;
use counterweight::job::{Embeddings, HeadKind, ModelSpec, Precision};

/// How the embeddings u of a user and v of an item, K values each, become a score.
#[derive(Debug)]
pub enum Head {
    /// u·v.
    Dot,
    /// u·diag(h)·v, with h `[1, K]`.
    Diagonal(Tensor),
    /// A multilayer perceptron over [u : v]: affine layers, with a ReLU between each and the next. The first takes 2K
    /// values, the last gives the score.
    ///
    /// A layer is `[outputs, inputs + 1]`: a row an output, its weights and then its bias.
    Mlp(Vec<Tensor>),
}

impl Head {
    /// A head of ones, or layers with the initial weights of He et al. (2015) in fan-in mode: normal, with variance
    /// 2 / inputs, and biases of 0.
    pub fn new(spec: &ModelSpec, rng: &mut ChaCha8Rng, device: Device) -> Self {
        match (spec.head, spec.embeddings) {
            (HeadKind::Dot, Embeddings::Separate) => Self::Dot,
            (HeadKind::Dot, Embeddings::Shared) => {
                Self::Diagonal(Tensor::ones([1, spec.dim as i64], (Kind::Float, device)))
            }
            (HeadKind::Mlp, _) => {
                let widths = [&[2 * spec.dim], &spec.hidden[..], &[1]].concat();
                Self::Mlp(
                    widths.windows(2).map(|pair| initial_layer(pair[0], pair[1], rng).to_device(device)).collect(),
                )
            }
        }
    }

    /// The tensors of its weights.
    pub fn weights(&self) -> &[Tensor] {
        match self {
            Self::Dot => &[],
            Self::Diagonal(weights) => std::slice::from_ref(weights),
            Self::Mlp(layers) => layers,
        }
    }

    /// The same, to change in place.
    pub fn weights_mut(&mut self) -> &mut [Tensor] {
        match self {
            Self::Dot => &mut [],
            Self::Diagonal(weights) => std::slice::from_mut(weights),
            Self::Mlp(layers) => layers,
        }
    }

    /// The head of what `change` makes of each tensor of weights.
    pub fn map(&self, change: impl Fn(&Tensor) -> Tensor) -> Self {
        match self {
            Self::Dot => Self::Dot,
            Self::Diagonal(weights) => Self::Diagonal(change(weights)),
            Self::Mlp(layers) => Self::Mlp(layers.iter().map(change).collect()),
        }
    }

    /// Its weights by name: `head`, or `head.N.weight` `[outputs, inputs]` and `head.N.bias` `[outputs]` of each layer,
    /// from 0. A dot product has none.
    pub fn named(&self) -> Vec<(String, Tensor)> {
        match self {
            Self::Dot => Vec::new(),
            Self::Diagonal(weights) => vec![("head".to_owned(), weights.shallow_clone())],
            Self::Mlp(layers) => {
                let parts = layers.iter().enumerate().flat_map(|(at, layer)| {
                    let (weight, bias) = weight_and_bias(layer);
                    [(format!("head.{at}.weight"), weight), (format!("head.{at}.bias"), bias)]
                });
                parts.collect()
            }
        }
    }

    /// The head whose [`Head::named`] weights `read` gives; `has` says which there are.
    ///
    /// # Errors
    /// Where `read` fails.
    pub fn from_named(has: impl Fn(&str) -> bool, read: impl Fn(&str) -> Result<Tensor>) -> Result<Self> {
        if has("head") {
            return Ok(Self::Diagonal(read("head")?));
        }
        let mut layers = Vec::new();
        while has(&format!("head.{}.weight", layers.len())) {
            let [weight, bias] = ["weight", "bias"].map(|part| read(&format!("head.{}.{part}", layers.len())));
            layers.push(Tensor::cat(&[weight?, bias?.unsqueeze(1)], 1));
        }
        Ok(if layers.is_empty() { Self::Dot } else { Self::Mlp(layers) })
    }

    /// How many hidden activations a pair has.
    pub fn activations(&self) -> usize {
        match self {
            Self::Dot | Self::Diagonal(_) => 0,
            Self::Mlp(layers) => layers.iter().rev().skip(1).map(|layer| layer.size()[0] as usize).sum(),
        }
    }

    /// How many products the score of a pair takes that are not of its user or its item alone; embeddings are `dim` long.
    pub fn products(&self, dim: usize) -> usize {
        match self {
            Self::Dot | Self::Diagonal(_) => dim,
            Self::Mlp(layers) => layers.iter().skip(1).map(Tensor::numel).sum(),
        }
    }

    /// The score of every pair of the users `[users, K]` and the items `[items, K]` plus its `bias`, which is laid out as
    /// the scores are, and the last hidden layer of every pair, `[pairs, width]`, where there is one.
    pub fn score(
        &self,
        user: &Tensor,
        item: &Tensor,
        bias: &Tensor,
        layout: Layout,
        precision: Precision,
    ) -> (Tensor, Option<Tensor>) {
        match self {
            Self::Dot => (dot(user, item, bias, layout, precision), None),
            Self::Diagonal(weights) => (dot(&(user * weights), item, bias, layout, precision), None),
            Self::Mlp(layers) => {
                let (last, hidden) = layers.split_last().expect("an MLP has a last layer");
                let representation = last_hidden(hidden, user, item, layout, precision);
                let (weight, last_bias) = weight_and_bias(last);
                let score = (bias.flatten(0, -1) + last_bias).addmv(&representation, &weight.select(0, 0));
                (score.view_as(bias), Some(representation))
            }
        }
    }
}

fn initial_layer(inputs: usize, outputs: usize, rng: &mut ChaCha8Rng) -> Tensor {
    let normal = Normal::new(0.0, (2.0 / inputs as f32).sqrt()).expect("a finite deviation");
    let mut values: Vec<f32> = Vec::with_capacity(outputs * (inputs + 1));
    for _ in 0..outputs {
        values.extend((0..inputs).map(|_| rng.sample(normal)));
        values.push(0.0);
    }
    Tensor::from_slice(&values).view([outputs as i64, inputs as i64 + 1])
}

/// The weights `[outputs, inputs]` and biases `[outputs]` of a layer.
fn weight_and_bias(layer: &Tensor) -> (Tensor, Tensor) {
    let inputs = layer.size()[1] - 1;
    (layer.narrow(1, 0, inputs), layer.select(1, inputs))
}

/// u·v + bias of every pair. Those of a block are one matrix product.
fn dot(user: &Tensor, item: &Tensor, bias: &Tensor, layout: Layout, precision: Precision) -> Tensor {
    match layout {
        Layout::Block => affine(bias, user, &item.transpose(0, 1), precision),
        Layout::Pairs => (user * item).sum_dim_intlist(1, false, None::<Kind>) + bias,
    }
}

/// The activations of the last of the layers `hidden`, `[pairs, width]`.
///
/// The first layer is a product with the users and one with the items, added: W·[u : v] = W_u·u + W_v·v. No [u : v] of
/// a pair is made.
fn last_hidden(hidden: &[Tensor], user: &Tensor, item: &Tensor, layout: Layout, precision: Precision) -> Tensor {
    let (first, others) = hidden.split_first().expect("an MLP has a hidden layer");
    let (weight, bias) = weight_and_bias(first);
    let dim = user.size()[1];
    let of_user = affine(&bias, user, &weight.narrow(1, 0, dim).transpose(0, 1), precision);
    let of_item = product(item, &weight.narrow(1, dim, dim).transpose(0, 1), precision);
    let mut sum = match layout {
        Layout::Block => of_user.unsqueeze(1) + of_item.unsqueeze(0),
        Layout::Pairs => of_user + of_item,
    };
    let activations = sum.relu_().view([-1, first.size()[0]]);
    others.iter().fold(activations, |activations, layer| {
        let (weight, bias) = weight_and_bias(layer);
        affine(&bias, &activations, &weight.transpose(0, 1), precision).relu_()
    })
}

/// `bias` + a·b.
fn affine(bias: &Tensor, a: &Tensor, b: &Tensor, precision: Precision) -> Tensor {
    match precision {
        Precision::Float32 => bias.addmm(a, b),
        Precision::Bfloat16 => bias + product(a, b, precision),
    }
}

/// a·b, of the kind of `a` whatever it is taken in.
fn product(a: &Tensor, b: &Tensor, precision: Precision) -> Tensor {
    match precision {
        Precision::Float32 => a.matmul(b),
        Precision::Bfloat16 => a.to_kind(Kind::BFloat16).matmul(&b.to_kind(Kind::BFloat16)).to_kind(a.kind()),
    }
}
