use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::super::estimators::{dr, ips};
use super::super::regularizers::{balance_weight, bmse};
use super::*;
use crate::data::sampler::Batch;
use crate::model::{Head, Model};

const USERS: usize = 3;
const ITEMS: usize = 4;
const DIM: usize = 2;

fn random(rng: &mut ChaCha8Rng, size: &[usize]) -> Tensor {
    let values: Vec<f64> = (0..size.iter().product()).map(|_| rng.random_range(-1.0..2.0)).collect();
    Tensor::from_slice(&values).view(&size.iter().map(|length| *length as i64).collect::<Vec<_>>()[..])
}

/// What a model with those embeddings says.
fn scores(user: &Tensor, item: &Tensor, layout: Layout) -> Scores {
    let (users, items) = (user.size()[0], item.size()[0]);
    let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Double, Device::Cpu));
    let model = Model::from_parts((user, &zeros(&[users])), (item, &zeros(&[items])), Head::Dot);
    let shape = if layout == Layout::Block { vec![users, items] } else { vec![users] };
    let batch = Batch {
        layout,
        rows: Tensor::arange(users + items, (Kind::Int64, Device::Cpu)),
        users,
        treated: zeros(&shape),
        outcome: zeros(&shape),
        propensity: None,
    };
    Scores::of(model.rows(&batch), layout)
}

fn values(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.flatten(0, -1).to_kind(Kind::Double)).unwrap()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn covariance(a: &[f64], b: &[f64]) -> f64 {
    let (mean_a, mean_b) = (mean(a), mean(b));
    a.iter().zip(b).map(|(a, b)| (a - mean_a) * (b - mean_b)).sum::<f64>() / (a.len() as f64 - 1.0)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// With the vectors z written out, and tr(Σ²) by the next pair: of a block, the next user's with the next item.
#[test]
fn moments_are_made_of_the_vectors_of_pairs() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for phi in [Phi::Constant, Phi::Product, Phi::Concat, Phi::Prediction, Phi::Learned] {
        for layout in [Layout::Block, Layout::Pairs] {
            let (shape, items) = match layout {
                Layout::Block => (vec![USERS, ITEMS], ITEMS),
                Layout::Pairs => (vec![USERS], USERS),
            };
            let (user, item) = (random(&mut rng, &[USERS, DIM]), random(&mut rng, &[items, DIM]));
            let learned = random(&mut rng, &[shape.iter().product(), 3]);
            let scores = Scores { representation: Some(learned.shallow_clone()), ..scores(&user, &item, layout) };
            let [losses, weight, prediction] = [(); 3].map(|()| random(&mut rng, &shape));
            let pairs: Vec<(usize, usize)> = match layout {
                Layout::Block => (0..USERS).flat_map(|user| (0..ITEMS).map(move |item| (user, item))).collect(),
                Layout::Pairs => (0..USERS).map(|at| (at, at)).collect(),
            };
            let next = |at: usize| match layout {
                Layout::Block => (at / ITEMS + 1) % USERS * ITEMS + (at % ITEMS + 1) % ITEMS,
                Layout::Pairs => (at + 1) % USERS,
            };
            let row = |table: &Tensor, at: usize| values(&table.get(at as i64));
            let (l, w, r) = (values(&losses), values(&weight), values(&prediction));
            let phi_of = |at: usize| {
                let (u, v) = (row(&user, pairs[at].0), row(&item, pairs[at].1));
                match phi {
                    Phi::Constant => vec![1.0],
                    Phi::Prediction => vec![r[at]],
                    Phi::Product => u.iter().zip(&v).map(|(u, v)| u * v).collect(),
                    Phi::Concat => [u, v].concat(),
                    Phi::Learned => row(&learned, at),
                }
            };
            let z: Vec<Vec<f64>> =
                (0..pairs.len()).map(|at| phi_of(at).iter().map(|value| w[at] * value).collect()).collect();
            let n = z.len() as f64;
            let mu: Vec<f64> = (0..z[0].len()).map(|k| z.iter().map(|z| z[k]).sum::<f64>() / n).collect();
            let centred: Vec<Vec<f64>> = z.iter().map(|z| z.iter().zip(&mu).map(|(z, mu)| z - mu).collect()).collect();
            let s: Vec<f64> = z.iter().map(|z| dot(z, &mu)).collect();
            let d: Vec<f64> = centred.iter().map(|z| dot(z, z)).collect();
            let t = (0..z.len()).map(|at| dot(&centred[at], &centred[next(at)]).powi(2)).sum::<f64>() / n;
            let balanced = 2.0 * t / (n * n);
            let wanted = [
                2.0 * covariance(&l, &s) / n - covariance(&l, &d) / (n * n),
                4.0 * covariance(&s, &s) / n - 4.0 * covariance(&s, &d) / (n * n) - balanced,
                balanced,
                covariance(&l, &l) / n,
            ];
            let ours = values(&moments(phi, layout, &losses, &weight, &scores, &prediction));
            for (ours, wanted) in ours.iter().zip(wanted) {
                assert!((ours - wanted).abs() < 1e-12 * (1.0 + wanted.abs()), "{phi:?}, {layout:?}: {ours}, {wanted}");
            }
        }
    }
}

/// Samples of a population: rows of φ, o, e and ê, and a propensity whose log odds are off by `wrong`.
struct Sample {
    phi: Scores,
    treated: Tensor,
    propensity: Tensor,
    error: Tensor,
    imputed: Tensor,
}

impl Sample {
    fn draw(size: usize, wrong: f64, rng: &mut ChaCha8Rng) -> Self {
        let x: Vec<[f64; 2]> = (0..size).map(|_| [(); 2].map(|()| rng.random_range(-1.5..1.5))).collect();
        let propensity = |x: &[f64; 2], wrong: f64| 1.0 / (1.0 + (1.0 - 0.7 * x[0] - wrong).exp());
        let each = |value: &dyn Fn(&[f64; 2]) -> f64| Tensor::from_slice(&x.iter().map(value).collect::<Vec<_>>());
        let treated: Vec<f64> = x.iter().map(|x| f64::from(u8::from(rng.random_bool(propensity(x, 0.0))))).collect();
        let noise: Vec<f64> = (0..size).map(|_| rng.random_range(0.0..0.4)).collect();
        let phi = Tensor::from_slice2(&x.iter().map(|x| [1.0, x[0], x[1]]).collect::<Vec<_>>());
        Self {
            treated: Tensor::from_slice(&treated),
            propensity: each(&|x| propensity(x, wrong)),
            error: each(&|x| 0.5 + 0.2 * x[0]) + Tensor::from_slice(&noise),
            imputed: each(&|x| 0.6 - 0.1 * x[1]),
            phi: scores(&phi.ones_like(), &phi, Layout::Pairs),
        }
    }

    /// L of IPS or DR, BMSE, and the moments.
    fn figures(&self, doubly_robust: bool) -> (f64, f64, Tensor) {
        let Self { phi, treated, propensity, error, imputed } = self;
        let losses = match doubly_robust {
            true => dr(treated, error, imputed, propensity),
            false => ips(treated, error, propensity),
        };
        let weight = balance_weight(treated, propensity);
        let sum = weighted_phi(Phi::Product, Layout::Pairs, &weight, phi, || unreachable!("φ is no prediction"));
        let moments = moments(Phi::Product, Layout::Pairs, &losses, &weight, phi, treated);
        (mean(&values(&losses)), bmse(&sum, treated.numel()).double_value(&[]), moments)
    }
}

/// Theorem 4.2 over samples, where propensities are true, too high and too low.
#[test]
fn the_optimum_is_that_of_many_batches() {
    const SAMPLES: usize = 4000;
    for (wrong, doubly_robust) in [(0.0, false), (0.4, false), (-0.4, false), (0.4, true), (-0.4, true)] {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let (mut losses, mut imbalances, mut of_samples) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..SAMPLES {
            let (loss, imbalance, moments) = Sample::draw(400, wrong, &mut rng).figures(doubly_robust);
            losses.push(loss);
            imbalances.push(imbalance);
            of_samples.push(moments);
        }
        let case = format!("wrong by {wrong}, {}", if doubly_robust { "dr" } else { "ips" });
        let seen =
            [covariance(&losses, &imbalances), covariance(&imbalances, &imbalances), covariance(&losses, &losses)];
        let stated = values(&Tensor::stack(&of_samples, 0).mean_dim(0, false, None::<Kind>));
        // A product of two correlated deviations varies by at most √2 of what its mean is at ρ = 1.
        let slack = 4.0 * (2.0 * seen[1] * seen[2] / SAMPLES as f64).sqrt();
        assert!((stated[0] - seen[0]).abs() < slack + 0.1 * seen[0].abs(), "{case}: covariance {stated:?}, {seen:?}");
        assert!((stated[1].max(stated[2]) / seen[1] - 1.0).abs() < 0.25, "{case}: of BMSE {stated:?}, {seen:?}");
        assert!((stated[3] / seen[2] - 1.0).abs() < 0.12, "{case}: of the loss {stated:?}, {seen:?}");

        let Optimum { lambda, correlation } = optimum(&of_samples).unwrap();
        let together: Vec<f64> = losses.iter().zip(&imbalances).map(|(loss, b)| loss + lambda * b).collect();
        let left = covariance(&together, &together) / seen[2];
        assert!((left - (1.0 - correlation.powi(2))).abs() < 0.06, "{case}: {left} is left at ρ = {correlation}");
        if wrong == 0.0 {
            assert!(correlation.abs() < 0.15, "{case}: {correlation}");
        } else if !doubly_robust {
            assert_eq!(lambda > 0.0, wrong > 0.0, "{case}: λ = {lambda} is positive where propensities are too high");
            assert!(left < 0.85, "{case}: {left}");
        }
    }
}

/// Theorem 4.2 over every treatment of eight pairs under true propensities. There Cov(L, BMSE) is
/// Σ (1 − p)·e·(1/p² − 1/(1 − p)²)·‖φ‖² / n³, with e − ê for e in DR: the treatments' third moments.
#[test]
fn the_theorem_holds_over_all_treatments() {
    const PAIRS: usize = 8;
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for rare in [true, false] {
        let p: Vec<f64> = (0..PAIRS).map(|_| rng.random_range(if rare { 0.1..0.45 } else { 0.55..0.9 })).collect();
        let e: Vec<f64> = (0..PAIRS).map(|_| rng.random_range(0.2..1.0)).collect();
        let imputed: Vec<f64> = (0..PAIRS).map(|_| rng.random_range(0.0..0.2)).collect();
        let phi = random(&mut rng, &[PAIRS, 3]);
        let norms = values(&phi.square().sum_dim_intlist(1, false, None::<Kind>));
        let phi = || scores(&phi.ones_like(), &phi, Layout::Pairs);
        for doubly_robust in [false, true] {
            let cases: Vec<(f64, f64, f64)> = (0_u32..1 << PAIRS)
                .map(|bits| {
                    let o: Vec<f64> = (0..PAIRS).map(|at| f64::from((bits >> at) & 1)).collect();
                    let chance = o.iter().zip(&p).map(|(o, p)| o * p + (1.0 - o) * (1.0 - p)).product();
                    let [treated, propensity, error, imputed] = [&o, &p, &e, &imputed].map(|v| Tensor::from_slice(v));
                    let sample = Sample { phi: phi(), treated, propensity, error, imputed };
                    let (loss, imbalance, _) = sample.figures(doubly_robust);
                    (chance, loss, imbalance)
                })
                .collect();
            let expect = |value: &dyn Fn(f64, f64) -> f64| {
                cases.iter().map(|(chance, loss, imbalance)| chance * value(*loss, *imbalance)).sum::<f64>()
            };
            let (loss, imbalance) = (expect(&|l, _| l), expect(&|_, b| b));
            assert!((loss - mean(&e)).abs() < 1e-12, "unbiased: {loss}");
            let covariance = expect(&|l, b| (l - loss) * (b - imbalance));
            let (of_loss, of_bmse) = (expect(&|l, _| (l - loss).powi(2)), expect(&|_, b| (b - imbalance).powi(2)));
            let third = |at: usize| {
                let residual = if doubly_robust { e[at] - imputed[at] } else { e[at] };
                (1.0 - p[at]) * residual * (p[at].powi(-2) - (1.0 - p[at]).powi(-2)) * norms[at]
            };
            let wanted = (0..PAIRS).map(third).sum::<f64>() / (PAIRS as f64).powi(3);
            assert!((covariance - wanted).abs() < 1e-10 * wanted.abs(), "{covariance} is not {wanted}");

            let lambda = -covariance / of_bmse;
            assert_eq!(lambda < 0.0, rare, "where few are treated, loss and imbalance rise together");
            let variance = |lambda: f64| expect(&|l, b| (l - loss + lambda * (b - imbalance)).powi(2));
            let left = 1.0 - covariance.powi(2) / (of_loss * of_bmse);
            assert!((variance(lambda) - left * of_loss).abs() < 1e-10 * of_loss);
            assert!([0.9, 1.1].iter().all(|factor| variance(factor * lambda) > variance(lambda)));
        }
    }
}

#[test]
fn without_variation_there_is_no_optimum() {
    let ones = Tensor::ones([5], (Kind::Double, Device::Cpu));
    let of_ones = |ones: &Tensor| scores(&ones.unsqueeze(1), &ones.unsqueeze(1), Layout::Pairs);
    assert_eq!(optimum(&[]), None);
    let constant = moments(Phi::Constant, Layout::Pairs, &ones, &ones, &of_ones(&ones), &ones);
    assert_eq!(optimum(&[constant]), None);
    let two = ones.narrow(0, 0, 2);
    assert_eq!(values(&moments(Phi::Constant, Layout::Pairs, &two, &two, &of_ones(&two), &two)), [0.0; 4]);
}

/// λ·BMSE does not vary more than L, whatever the moments claim.
#[test]
fn a_correlation_stays_within_one() {
    let claimed = Tensor::from_slice(&[-3.0, 1.0, 0.25, 4.0]);
    assert_eq!(optimum(&[claimed]), Some(Optimum { lambda: 2.0, correlation: -1.0 }));
    let balanced = Tensor::from_slice(&[1.0, -1.0, 0.25, 16.0]);
    assert_eq!(optimum(&[balanced]), Some(Optimum { lambda: -4.0, correlation: 0.5 }));
}
