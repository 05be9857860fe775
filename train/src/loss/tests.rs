//! Every value against loops over pairs in plain Rust, and every gradient against differences of those.

use std::collections::BTreeMap;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tch::Device;

use super::estimators::{dr, inverse_propensity_bounds, ips, snips};
use super::methods::{Observed, eib, naive, rd_dr, rd_ips, stable_dr};
use super::regularizers::{bmse_unbiased, mean_inverse_square, sample_variance};
use super::*;
use crate::data::sampler::Layout;
use crate::model::{Gradients, Head, Model, PerModel};
use counterweight::job::{ImputedError, Lambda, Method, Phi, PointLoss, Regularizer};

const USERS: usize = 3;
const ITEMS: usize = 4;
const DIM: usize = 2;
const WIDTH: usize = DIM + 1;

/// The weights of the propensity, the prediction and the imputation model: the table, then the layers of the head.
type Weights = [Vec<f64>; 3];

const TABLE: usize = (USERS + ITEMS) * WIDTH;

/// Inputs and outputs of every layer.
fn layers(hidden: &[usize]) -> Vec<(usize, usize)> {
    match hidden {
        [] => Vec::new(),
        _ => [&[2 * DIM], hidden, &[1]].concat().windows(2).map(|pair| (pair[0], pair[1])).collect(),
    }
}

/// The score of a pair and the last hidden layer.
fn score(hidden: &[usize], weights: &[f64], user: usize, item: usize) -> (f64, Vec<f64>) {
    let (table, mut rest) = weights.split_at(TABLE);
    let (u, v) = (&table[user * WIDTH..][..WIDTH], &table[(USERS + item) * WIDTH..][..WIDTH]);
    let bias = u[DIM] + v[DIM];
    if hidden.is_empty() {
        return (bias + (0..DIM).map(|k| u[k] * v[k]).sum::<f64>(), Vec::new());
    }
    let mut values = [&u[..DIM], &v[..DIM]].concat();
    for (inputs, outputs) in layers(hidden) {
        let (layer, others) = rest.split_at(outputs * (inputs + 1));
        rest = others;
        let affine = |row: &[f64]| row[inputs] + (0..inputs).map(|at| row[at] * values[at]).sum::<f64>();
        let sums: Vec<f64> = layer.chunks(inputs + 1).map(affine).collect();
        if rest.is_empty() {
            return (bias + sums[0], values);
        }
        values = sums.into_iter().map(|sum| sum.max(0.0)).collect();
    }
    unreachable!("the last layer gives the score")
}

/// Pairs of (user, item, o, r).
struct Case {
    layout: Layout,
    pairs: Vec<(usize, usize, f64, f64)>,
    /// Widths of hidden layers: none of a dot product.
    hidden: &'static [usize],
    weights: Weights,
}

#[derive(Clone, Copy)]
enum Treated {
    Some,
    All,
    None,
}

impl Case {
    /// Random pairs; `bias` is added to the propensity model's user biases.
    fn new(seed: u64, layout: Layout, treated: Treated, bias: f64, hidden: &'static [usize]) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let size = TABLE + layers(hidden).iter().map(|(inputs, outputs)| outputs * (inputs + 1)).sum::<usize>();
        let mut weights = [(); 3].map(|()| (0..size).map(|_| rng.random_range(-1.0..1.0)).collect::<Vec<f64>>());
        for user in 0..USERS {
            weights[0][user * WIDTH + DIM] += bias;
        }
        let places: Vec<(usize, usize)> = match layout {
            Layout::Block => (0..USERS).flat_map(|user| (0..ITEMS).map(move |item| (user, item))).collect(),
            Layout::Pairs => (0..7).map(|_| (rng.random_range(0..USERS), rng.random_range(0..ITEMS))).collect(),
        };
        let mut pair = |(user, item)| {
            let o = match treated {
                Treated::Some => f64::from(u8::from(rng.random_bool(0.5))),
                Treated::All => 1.0,
                Treated::None => 0.0,
            };
            let r: f64 = rng.random_range(0.0..1.0);
            (user, item, o, o * r)
        };
        let pairs = places.into_iter().map(&mut pair).collect();
        Self { layout, pairs, hidden, weights }
    }

    fn batch(&self) -> Batch {
        let (users, items): (Vec<i64>, Vec<i64>) = match self.layout {
            Layout::Block => ((0..USERS as i64).collect(), (0..ITEMS as i64).collect()),
            Layout::Pairs => self.pairs.iter().map(|pair| (pair.0 as i64, pair.1 as i64)).unzip(),
        };
        let shape = match self.layout {
            Layout::Block => vec![USERS as i64, ITEMS as i64],
            Layout::Pairs => vec![self.pairs.len() as i64],
        };
        let items: Vec<i64> = items.into_iter().map(|item| item + USERS as i64).collect();
        let tensor = |value: fn(&(usize, usize, f64, f64)) -> f64| {
            Tensor::from_slice(&self.pairs.iter().map(value).collect::<Vec<f64>>()).view(&shape[..])
        };
        Batch {
            layout: self.layout,
            rows: Tensor::from_slice(&[users.clone(), items].concat()),
            users: users.len() as i64,
            treated: tensor(|pair| pair.2),
            outcome: tensor(|pair| pair.3),
            propensity: None,
        }
    }

    fn models(&self) -> [Model; 3] {
        self.weights.each_ref().map(|weights| {
            let (table, mut rest) = weights.split_at(TABLE);
            let table = Tensor::from_slice(table).view([(USERS + ITEMS) as i64, WIDTH as i64]);
            let mut layer = |(inputs, outputs): (usize, usize)| {
                let (layer, others) = rest.split_at(outputs * (inputs + 1));
                rest = others;
                Tensor::from_slice(layer).view([outputs as i64, inputs as i64 + 1])
            };
            let layers: Vec<Tensor> = layers(self.hidden).into_iter().map(&mut layer).collect();
            let head = if layers.is_empty() { Head::Dot } else { Head::Mlp(layers) };
            Model::from_table(table.to_device(Device::Cpu), USERS, head)
        })
    }

    fn by_tensors(&self, spec: &LossSpec) -> (BTreeMap<&'static str, f64>, Vec<Vec<f64>>) {
        self.by_tensors_with(spec, None)
    }

    /// Terms and total from tensors, and the total's gradients laid out as the weights; the propensities may be fixed, as
    /// those of a model with other weights.
    fn by_tensors_with(
        &self,
        spec: &LossSpec,
        fixed: Option<&Vec<f64>>,
    ) -> (BTreeMap<&'static str, f64>, Vec<Vec<f64>>) {
        let (batch, models) = (self.batch(), self.models());
        let fixed_propensity = fixed.map(|fixed| {
            let weights = [(); 3].map(|()| fixed.clone());
            let [other, ..] = Self { layout: self.layout, pairs: Vec::new(), hidden: self.hidden, weights }.models();
            Scores::of(other.rows(&batch), batch.layout).probability()
        });
        let scores = |model: &Model| Scores::of(model.rows(&batch).tracked(), batch.layout);
        let outputs = Outputs {
            propensity: scores(&models[0]),
            prediction: scores(&models[1]),
            imputation: spec.method.imputes().then(|| scores(&models[2])),
            fixed_propensity,
        };
        let terms = terms(spec, number(spec.lambda), &outputs, &batch).unwrap();
        let total = terms.total();
        let values = Vec::<f64>::try_from(terms.values(&total)).unwrap();
        let named = terms.names().into_iter().zip(values).collect();

        let tracked = PerModel {
            propensity: Some(&outputs.propensity.weights),
            prediction: &outputs.prediction.weights,
            imputation: outputs.imputation.as_ref().map(|scores| &scores.weights),
        };
        let gradients = tracked.gradients(&total);
        let weights = gradients.named().map(|(_, Gradients { own, head, .. })| {
            let mut table = Tensor::zeros([(USERS + ITEMS) as i64, WIDTH as i64], (Kind::Double, Device::Cpu));
            let _ = table.index_add_(0, &batch.rows, own);
            let all = [&table].into_iter().chain(head);
            all.flat_map(|part| Vec::<f64>::try_from(part.flatten(0, -1)).unwrap()).collect()
        });
        (named, weights.collect())
    }

    /// Terms and total by their definitions; what a stopped gradient takes as a constant comes from `frozen`.
    fn by_loops(&self, spec: &LossSpec, weights: &Weights, frozen: &Weights) -> BTreeMap<&'static str, f64> {
        let (of_divisor, of_imputation) = (
            if spec.stop_gradient { frozen } else { weights },
            if spec.stop_imputation_gradient { frozen } else { weights },
        );
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let score = |weights: &[f64], user: usize, item: usize| score(self.hidden, weights, user, item).0;
        let compare = |kind, p: f64, y: f64| match kind {
            PointLoss::CrossEntropy => -y * p.ln() - (1.0 - y) * (1.0 - p).ln(),
            PointLoss::SquaredError => (p - y) * (p - y),
        };
        let impute = |score: f64, predicted: f64| match (spec.imputed_error, spec.prediction_loss) {
            (ImputedError::PseudoLabel, _) => (predicted - sigmoid(score)).powi(2),
            (ImputedError::Output, PointLoss::SquaredError) => sigmoid(score),
            (ImputedError::Output, PointLoss::CrossEntropy) => score.exp().ln_1p(),
        };
        let gamma = spec.odds_ratio_bound;
        let n = self.pairs.len() as f64;
        let (mut l_p, mut ctcvr, mut l_e) = (0.0, 0.0, 0.0);
        let (mut summed, mut divided_by) = (0.0, 0.0);
        let (mut variance, mut propensities, mut steadies) = (0.0, Vec::new(), Vec::new());
        let mut weighted_phis = Vec::new();
        for (user, item, o, r) in self.pairs.iter().copied() {
            let p = sigmoid(score(&weights[0], user, item));
            let divisor = sigmoid(score(&of_divisor[0], user, item));
            let (low, high) = (1.0 + (1.0 / divisor - 1.0) / gamma, 1.0 + (1.0 / divisor - 1.0) * gamma);
            let predicted = sigmoid(score(&weights[1], user, item));
            let e = compare(spec.prediction_loss, predicted, r);
            let imputed = impute(score(&of_imputation[2], user, item), predicted);
            l_p += compare(spec.propensity_loss, p, o) / n;
            ctcvr += compare(spec.ctcvr_loss, p * predicted, o * r) / n;

            let constant = sigmoid(score(&of_imputation[1], user, item));
            let weight = match spec.method {
                Method::Eib => 1.0,
                Method::Mrdr => (1.0 - divisor) / divisor.powi(2),
                Method::RdDr => high,
                _ => 1.0 / divisor,
            };
            let squared = impute(score(&weights[2], user, item), constant) - compare(spec.prediction_loss, constant, r);
            l_e += o * weight * squared.powi(2) / n;
            steadies.push((o / p, impute(score(&frozen[2], user, item), sigmoid(score(&frozen[1], user, item)))));

            let (value, weight) = match spec.method {
                Method::Esmm => (0.0, 0.0),
                Method::Naive => (o * e, o),
                Method::Ips | Method::MultiIps | Method::Escm2Ips | Method::IpsV2 => (o * e / divisor, 1.0),
                Method::Snips | Method::StableDr => (o * e / divisor, o / divisor),
                Method::RdIps => (o * (e * low).max(e * high), 1.0),
                Method::Eib => (if o == 1.0 { e } else { imputed }, 1.0),
                Method::Dr | Method::Mrdr | Method::MultiDr | Method::Escm2Dr | Method::DrV2 => {
                    (imputed + o * (e - imputed) / divisor, 1.0)
                }
                Method::RdDr => (imputed + o * ((e - imputed) * low).max((e - imputed) * high), 1.0),
            };
            summed += value;
            divided_by += weight;

            let w = o / p - (1.0 - o) / (1.0 - p);
            let (u, v) = (&weights[0][user * WIDTH..][..DIM], &weights[0][(USERS + item) * WIDTH..][..DIM]);
            let phi = match spec.phi {
                Phi::Constant => vec![1.0],
                Phi::Product => (0..DIM).map(|k| u[k] * v[k]).collect(),
                Phi::Concat => [u, v].concat(),
                Phi::Prediction => vec![predicted],
                Phi::Learned => self::score(self.hidden, &weights[0], user, item).1,
            };
            weighted_phis.push(phi.into_iter().map(|value| w * value).collect::<Vec<f64>>());
            let residual = if spec.method.imputes() { e - imputed } else { e };
            variance += o * (1.0 - p) * residual * residual / (p * p) / (n * n);
            propensities.push(p);
        }
        let mean_propensity = propensities.iter().sum::<f64>() / n;
        let regularizer = match spec.regularizer {
            Regularizer::Bmse => {
                let mean = |k: usize| weighted_phis.iter().map(|phi| phi[k]).sum::<f64>() / n;
                (0..weighted_phis[0].len()).map(|k| mean(k).powi(2)).sum()
            }
            Regularizer::BmseUnbiased => unbiased(&weighted_phis),
            Regularizer::Sv => propensities.iter().map(|p| (p - mean_propensity).powi(2)).sum::<f64>() / (n - 1.0),
            Regularizer::Mis => propensities.iter().map(|p| p.powi(-2)).sum::<f64>() / n,
            Regularizer::Variance => variance,
        };
        let mean_steady = steadies.iter().map(|(_, imputed)| imputed).sum::<f64>() / n;
        let drift = steadies.iter().map(|(weight, imputed)| (1.0 - weight) * (imputed - mean_steady)).sum::<f64>() / n;

        let estimator = if divided_by == 0.0 { 0.0 } else { summed / divided_by };
        let lambda = number(spec.lambda);
        let mut named: BTreeMap<&'static str, f64> = BTreeMap::new();
        let mut total = 0.0;
        for (name, present, weight, value) in [
            ("propensity", true, spec.propensity_weight, l_p),
            ("estimator", spec.method != Method::Esmm, spec.estimator_weight, estimator),
            ("ctcvr", spec.ctcvr_weight > 0.0, spec.ctcvr_weight, ctcvr),
            ("imputation", spec.method.imputes(), spec.imputation_weight, l_e),
            ("stabilization", spec.method == Method::StableDr, spec.stabilization_weight, drift.powi(2)),
            (spec.regularizer.name(), lambda > 0.0, lambda, regularizer),
        ] {
            if present {
                named.insert(name, value);
                total += weight * value;
            }
        }
        named.insert("total", total);
        named
    }
}

fn number(weight: Lambda) -> f64 {
    let Lambda::Fixed(weight) = weight else { panic!("{weight} is no number") };
    weight
}

/// The mean of (w·φ)ᵀ(w'·φ') over every two different pairs.
fn unbiased(weighted_phis: &[Vec<f64>]) -> f64 {
    let mut products = Vec::new();
    for (at, a) in weighted_phis.iter().enumerate() {
        for (_, b) in weighted_phis.iter().enumerate().filter(|(other, _)| *other != at) {
            products.push(a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>());
        }
    }
    products.iter().sum::<f64>() / products.len() as f64
}

const REGULARIZERS: [Regularizer; 5] =
    [Regularizer::Bmse, Regularizer::BmseUnbiased, Regularizer::Sv, Regularizer::Mis, Regularizer::Variance];

/// The loss of a method, all else by default.
fn of(method: Method) -> LossSpec {
    serde_json::from_value(serde_json::json!({ "method": method })).unwrap()
}

/// Every method with every point loss, with gradients stopped and not; φ and the regularizers take turns.
fn specs() -> Vec<LossSpec> {
    let losses = [PointLoss::CrossEntropy, PointLoss::SquaredError];
    let phis = [Phi::Constant, Phi::Product, Phi::Concat, Phi::Prediction, Phi::Learned];
    let mut specs: Vec<LossSpec> = Vec::new();
    for method in Method::ALL.iter().copied() {
        for (propensity_loss, prediction_loss) in losses.into_iter().flat_map(|a| losses.map(|b| (a, b))) {
            for (imputed_error, ctcvr_weight) in [(ImputedError::Output, 0.0), (ImputedError::PseudoLabel, 0.7)] {
                let turn = specs.len();
                let mut spec = of(method);
                spec.regularizer = REGULARIZERS[turn % REGULARIZERS.len()];
                spec.phi = phis[turn / REGULARIZERS.len() % phis.len()];
                spec.propensity_loss = propensity_loss;
                spec.prediction_loss = prediction_loss;
                spec.ctcvr_loss = losses[turn / 2 % 2];
                spec.imputed_error = imputed_error;
                spec.propensity_weight = 1.3;
                spec.ctcvr_weight = if method == Method::Esmm { 0.7 } else { ctcvr_weight };
                spec.estimator_weight = 0.9;
                spec.lambda = Lambda::Fixed(if turn % 7 == 6 { 0.0 } else { 2.1 });
                spec.imputation_weight = 0.4;
                spec.stabilization_weight = 1.6;
                spec.odds_ratio_bound = 1.7;
                spec.stop_gradient = turn.is_multiple_of(3);
                spec.stop_imputation_gradient = turn % 3 != 1;
                spec.propensity_clip = 1e-6;
                specs.push(spec);
            }
        }
    }
    specs
}

/// Hidden layers for the `turn`-th of [`specs`]: none at every third, but where φ is one of them.
fn hidden(spec: &LossSpec, turn: u64) -> &'static [usize] {
    match (turn % 3, spec.phi) {
        (0, Phi::Learned) | (1, _) => &[3],
        (0, _) => &[],
        _ => &[4, 3],
    }
}

const LAYOUTS: [Layout; 2] = [Layout::Block, Layout::Pairs];

#[test]
fn every_term_is_what_its_definition_says() {
    for (seed, spec) in specs().iter().enumerate() {
        for layout in LAYOUTS {
            for treated in [Treated::Some, Treated::All, Treated::None] {
                let case = Case::new(seed as u64, layout, treated, 0.0, hidden(spec, seed as u64));
                let (ours, _) = case.by_tensors(spec);
                let wanted = case.by_loops(spec, &case.weights, &case.weights);
                assert_eq!(ours.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
                for (name, value) in wanted {
                    assert!((ours[name] - value).abs() < 1e-10, "{name} of {spec:?}: {} is not {value}", ours[name]);
                }
            }
        }
    }
}

#[test]
fn every_gradient_is_the_slope_of_its_loss() {
    const STEP: f64 = 1e-6;
    for (seed, spec) in specs().into_iter().enumerate() {
        let stops = [(false, false), (true, false), (false, true), (true, true)];
        for (layout, (stop_gradient, stop_imputation_gradient)) in
            LAYOUTS.into_iter().flat_map(|layout| stops.map(|stops| (layout, stops)))
        {
            let mut spec = spec.clone();
            (spec.stop_gradient, spec.stop_imputation_gradient) = (stop_gradient, stop_imputation_gradient);
            let case = Case::new(seed as u64, layout, Treated::Some, 0.0, hidden(&spec, seed as u64));
            let (_, gradients) = case.by_tensors(&spec);
            for (model, gradient) in gradients.iter().enumerate() {
                for (at, slope) in gradient.iter().enumerate() {
                    let total = |step: f64| {
                        let mut moved = case.weights.clone();
                        moved[model][at] += step;
                        case.by_loops(&spec, &moved, &case.weights)["total"]
                    };
                    let wanted = (total(STEP) - total(-STEP)) / (2.0 * STEP);
                    assert!((slope - wanted).abs() < 1e-6 * (1.0 + wanted.abs()), "{spec:?}: {slope} is not {wanted}");
                }
            }
        }
    }
}

#[test]
fn fixed_propensities_are_those_of_the_estimate_and_of_l_e() {
    const STEP: f64 = 1e-6;
    for (turn, mut spec) in (0_u64..).zip(specs()).filter(|(_, spec)| spec.method != Method::StableDr) {
        (spec.lambda, spec.stop_imputation_gradient) = (Lambda::Fixed(0.0), false);
        let case = |seed| Case::new(seed, Layout::Block, Treated::Some, 0.0, hidden(&spec, turn));
        let (case, other) = (case(turn), case(1000 + turn));
        let mut fixed = case.weights.clone();
        fixed[0] = other.weights[0].clone();
        let (ours, gradients) = case.by_tensors_with(&spec, Some(&fixed[0]));
        let mut stopped = spec.clone();
        stopped.stop_gradient = true;
        for (name, value) in case.by_loops(&stopped, &case.weights, &fixed) {
            assert!((ours[name] - value).abs() < 1e-10, "{name} of {stopped:?}: {} is not {value}", ours[name]);
        }
        for (at, slope) in gradients[0].iter().enumerate() {
            let total = |step: f64| {
                let mut moved = case.weights.clone();
                moved[0][at] += step;
                case.by_loops(&stopped, &moved, &fixed)["total"]
            };
            let wanted = (total(STEP) - total(-STEP)) / (2.0 * STEP);
            assert!((slope - wanted).abs() < 1e-6 * (1.0 + wanted.abs()), "{stopped:?}: {slope} is not {wanted}");
        }
    }
}

#[test]
fn losses_and_gradients_stay_finite_at_the_ends_of_the_propensity() {
    for (turn, spec) in (0..).zip(specs()) {
        for bias in [-60.0, 60.0] {
            for treated in [Treated::Some, Treated::All, Treated::None] {
                let case = Case::new(1, Layout::Block, treated, bias, hidden(&spec, turn));
                let (values, gradients) = case.by_tensors(&spec);
                assert!(values.values().chain(gradients.iter().flatten()).all(|value| value.is_finite()), "{values:?}");
            }
        }
    }
}

#[test]
fn a_clipped_propensity_divides_by_the_clip() {
    let treated = Tensor::from_slice(&[1.0, 1.0]);
    let p = clipped(&Tensor::from_slice(&[0.0, 0.5]), 0.1);
    let error = Tensor::from_slice(&[1.0, 1.0]);
    assert!((mean(&ips(&treated, &error, &p)) - (10.0 + 2.0) / 2.0).abs() < 1e-12);
}

/// The mean over every batch of two, and over every batch of three, is that of the whole.
#[test]
fn the_unbiased_bmse_does_not_depend_on_the_size_of_batches() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let rows: Vec<[f64; 2]> = (0..6).map(|_| [rng.random_range(-2.0..3.0), rng.random_range(-2.0..3.0)]).collect();
    let of = |at: &[usize]| {
        let phis = Tensor::from_slice2(&at.iter().map(|at| rows[*at]).collect::<Vec<_>>());
        let sum = phis.sum_dim_intlist(0, false, None::<Kind>);
        let value = |of: &dyn Fn(&Tensor) -> Tensor| of(&sum).double_value(&[]);
        let squares = phis.square().sum(None::<Kind>);
        (value(&|sum| bmse_unbiased(sum, &squares, at.len())), value(&|sum| regularizers::bmse(sum, at.len())))
    };
    let (whole, whole_biased) = of(&[0, 1, 2, 3, 4, 5]);
    let places = || 0..rows.len();
    let couples: Vec<Vec<usize>> =
        places().flat_map(|a| places().filter(move |b| a < *b).map(move |b| vec![a, b])).collect();
    let triples: Vec<Vec<usize>> = couples
        .iter()
        .flat_map(|couple| places().filter(|c| couple[1] < *c).map(|c| [couple.clone(), vec![c]].concat()))
        .collect();
    for batches in [couples, triples] {
        let n = batches.len() as f64;
        let mean = batches.iter().map(|batch| of(batch).0).sum::<f64>() / n;
        assert!((mean - whole).abs() < 1e-12, "{mean} is not {whole}");
        let biased = batches.iter().map(|batch| of(batch).1).sum::<f64>() / n;
        assert!(biased > whole_biased, "plain BMSE grows as batches shrink");
    }
    assert_eq!(of(&[3]).0, 0.0);
}

/// Proposition 4.3 (Li et al., ICML 2023): true propensities make the mean balance 0, but none of SV, MIS and the
/// estimated variance.
#[test]
fn true_propensities_balance_but_have_variance_and_inverse_squares() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let propensity: Vec<f64> = (0..40_000).map(|_| rng.random_range(0.2..0.8)).collect();
    let treated: Vec<f64> = propensity.iter().map(|p| f64::from(u8::from(rng.random_bool(*p)))).collect();
    let (propensity, treated) = (Tensor::from_slice(&propensity), Tensor::from_slice(&treated));
    let weight = regularizers::balance_weight(&treated, &propensity);
    let n = treated.numel();
    let unbiased = bmse_unbiased(&weight.sum(None::<Kind>).view(1), &weight.square().sum(None::<Kind>), n);
    // The standard error of a mean of weights, whose variance is E[1/(p(1 − p))] ≈ 4.6, squared: 1.2e-4.
    assert!(unbiased.double_value(&[]).abs() < 1e-3);
    assert!((sample_variance(&propensity).double_value(&[]) - 0.36 / 12.0).abs() < 1e-3, "that of a uniform number");
    assert!((mean_inverse_square(&propensity).double_value(&[]) - 1.0 / (0.2 * 0.8)).abs() < 0.1);
    let variance = regularizers::estimator_variance(&treated, &propensity.ones_like(), &propensity);
    // E[(1 − p)/p] = ln(4)/0.6 − 1, of an error of 1.
    assert!((variance.double_value(&[]) * n as f64 - (4.0_f64.ln() / 0.6 - 1.0)).abs() < 0.05);
}

fn mean(values: &Tensor) -> f64 {
    values.mean(None::<Kind>).double_value(&[])
}

fn observed<'a>(treated: &'a Tensor, error: &'a Tensor, propensity: &'a Tensor, bound: f64) -> Observed<'a> {
    Observed { treated, error, propensity, odds_ratio_bound: bound }
}

/// A log of which everything is known.
struct World {
    propensity: Tensor,
    error: Tensor,
    treated: Tensor,
}

/// Treatment favours pairs of small errors.
fn world(seed: u64) -> World {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let propensity: Vec<f64> = (0..400).map(|_| rng.random_range(0.1..0.9)).collect();
    let error: Vec<f64> = propensity.iter().map(|p| (1.0 - p) * rng.random_range(0.5..1.0)).collect();
    let treated: Vec<f64> = propensity.iter().map(|p| f64::from(u8::from(rng.random_bool(*p)))).collect();
    World {
        propensity: Tensor::from_slice(&propensity),
        error: Tensor::from_slice(&error),
        treated: Tensor::from_slice(&treated),
    }
}

/// IPS, and DR whatever it imputes, are unbiased under true propensities, SNIPS nearly so; DR and EIB are under true
/// imputed errors. Otherwise EIB and the mean over treated pairs are not.
#[test]
fn estimates_are_unbiased_where_their_theory_says_so() {
    const WORLDS: u64 = 2000;
    let mut off: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for world in (0..WORLDS).map(world) {
        let World { propensity, error, treated } = &world;
        let ideal = mean(error);
        let (wrong, half) = (error * 0.5 + 0.3, propensity.ones_like() * 0.5);
        let observed = observed(treated, error, propensity, 1.0);
        for (name, estimate) in [
            ("ips", mean(&ips(treated, error, propensity))),
            ("dr, true p", mean(&dr(treated, error, &wrong, propensity))),
            ("dr, true ê", mean(&dr(treated, error, error, &half))),
            ("eib, true ê", mean(&eib::pair_losses(&observed, error))),
            ("snips", mean(&snips(treated, error, propensity))),
            ("naive_treated", mean(&naive::estimate(&observed))),
            ("ips, wrong p", mean(&ips(treated, error, &half))),
            ("eib, wrong ê", mean(&eib::pair_losses(&observed, &wrong))),
        ] {
            off.entry(name).or_default().push(estimate - ideal);
        }
    }
    let standard_errors = |values: &Vec<f64>| {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
        (mean, (variance / n).sqrt().max(1e-12))
    };
    for (name, values) in &off {
        let (mean, error) = standard_errors(values);
        let unbiased = !(name.contains("wrong") || *name == "naive_treated");
        // SNIPS is biased by about 1/n of its scale.
        let slack = if *name == "snips" { 2e-3 } else { 0.0 };
        if unbiased {
            assert!(mean.abs() < 4.0 * error + slack, "{name} is off by {mean} ± {error}");
        } else {
            assert!(mean.abs() > 10.0 * error, "{name} is off by {mean} ± {error} only");
        }
    }
}

/// The largest loss among many random weights within the bounds is that of the closed form, or below.
#[test]
fn no_weight_within_the_bounds_is_worse_than_the_worst() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let World { propensity, error, treated } = &world(3);
    let imputed = error * 0.3 + 0.2;
    let gamma = 1.7;
    let (lower, upper) = inverse_propensity_bounds(propensity, gamma);
    let ips_worst = mean(&rd_ips::pair_losses(&observed(treated, error, propensity, gamma)));
    let dr_worst = mean(&rd_dr::pair_losses(&observed(treated, error, propensity, gamma), &imputed));
    for _ in 0..200 {
        let share: Vec<f64> = (0..propensity.numel()).map(|_| rng.random_range(0.0..1.0)).collect();
        let weight = &lower + (&upper - &lower) * Tensor::from_slice(&share);
        let inverse = weight.reciprocal();
        assert!(mean(&ips(treated, error, &inverse)) <= ips_worst);
        assert!(mean(&dr(treated, error, &imputed, &inverse)) <= dr_worst);
    }
    let reached = mean(&ips(treated, error, &upper.reciprocal()));
    assert!((reached - ips_worst).abs() < 1e-12);
    let unconfounded = observed(treated, error, propensity, 1.0);
    for (robust, plain) in [
        (rd_ips::pair_losses(&unconfounded), ips(treated, error, propensity)),
        (rd_dr::pair_losses(&unconfounded, &imputed), dr(treated, error, &imputed, propensity)),
    ] {
        assert!((robust - plain).abs().max().double_value(&[]) < 1e-12, "no hidden confounder");
    }
}

/// Where the stabilisation is 0 the self-normalised estimate of ê is its mean, which makes SNIPS doubly robust.
#[test]
fn the_stabilisation_is_0_where_snips_is_right_about_the_imputed_error() {
    let World { propensity, error: imputed, treated } = &world(4);
    let value = |p: &Tensor| stable_dr::stabilization(&observed(treated, imputed, p, 1.0), imputed).double_value(&[]);
    let gap = |p: &Tensor| (snips(treated, imputed, p) - imputed.mean(None::<Kind>)).double_value(&[]);
    assert!(value(propensity) > 0.0 && gap(propensity).abs() > 1e-6);
    // Propensities p·exp(s·(ê − mean ê)) that bring it to 0, by bisection.
    let deviation = imputed - imputed.mean(None::<Kind>);
    let moved = |s: f64| propensity * (&deviation * s).exp();
    let (mut low, mut high) = (-20.0, 20.0);
    let drift = |s: f64| gap(&moved(s));
    assert!(drift(low) * drift(high) < 0.0);
    for _ in 0..200 {
        let middle = (low + high) / 2.0;
        if drift(middle) * drift(low) > 0.0 { low = middle } else { high = middle }
    }
    assert!(value(&moved(low)) < 1e-20, "{}", value(&moved(low)));
}
