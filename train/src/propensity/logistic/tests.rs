use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::Deserialize;

use super::*;
use crate::data::sampler::{Row, RowSampler};

fn row(user: u32, item: u32, treated: bool) -> Row {
    Row { user, item, treated, outcome: 0.0, propensity: None }
}

fn by_log(rows: Vec<Row>, [users, items]: [usize; 2], l2: f64) -> Result<Tensor> {
    let counts = [rows.len() as u64, rows.iter().filter(|row| row.treated).count() as u64];
    let sampler = RowSampler::new(Box::new(rows), users, 64, 1000, 0, Device::Cpu);
    fit_log(&sampler, counts, [users, items], l2, Device::Cpu, &CancellationToken::new())
}

fn by_matrix(treated: &[Row], sides: [Side<'_>; 2], l2: f64) -> Result<Tensor> {
    fit_matrix(treated, sides, l2, Device::Cpu, &CancellationToken::new())
}

/// The logit of every pair, user by user.
fn logits(table: &Tensor, users: usize) -> Vec<f64> {
    let (user, item) =
        (table.narrow(0, 0, users as i64), table.narrow(0, users as i64, table.size()[0] - users as i64));
    Vec::try_from((user.unsqueeze(1) + item.unsqueeze(0)).flatten(0, -1)).unwrap()
}

fn apart(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// What `tests/reference/logistic.py` wrote.
#[derive(Deserialize)]
struct Reference {
    source: String,
    users: Vec<Vec<f64>>,
    items: Vec<Vec<f64>>,
    matrix: Vec<(u32, u32, bool)>,
    log: Vec<(u32, u32, bool)>,
    fits: Vec<ReferenceFit>,
}

#[derive(Deserialize)]
struct ReferenceFit {
    shape: String,
    covariates: bool,
    l2: f64,
    logits: Vec<f64>,
}

#[test]
fn fits_are_those_of_another_library() {
    let reference: Reference = serde_json::from_str(include_str!("../../../tests/reference/logistic.json")).unwrap();
    let covariates = |rows: &[Vec<f64>]| Covariates {
        names: (0..rows[0].len()).map(|at| at.to_string()).collect(),
        values: rows.concat(),
    };
    let (of_users, of_items) = (covariates(&reference.users), covariates(&reference.items));
    let (users, items) = (reference.users.len(), reference.items.len());
    let rows = |pairs: &[(u32, u32, bool)]| -> Vec<Row> { pairs.iter().map(|(u, i, o)| row(*u, *i, *o)).collect() };
    assert_eq!(reference.fits.len(), 9);
    for fit in &reference.fits {
        let sides = match fit.covariates {
            true => [(users, Some(&of_users)), (items, Some(&of_items))],
            false => [(users, None), (items, None)],
        };
        let pairs = rows(&reference.matrix);
        let treated: Vec<Row> = pairs.iter().filter(|row| row.treated).copied().collect();
        let tables = match (fit.shape.as_str(), fit.covariates) {
            ("log", _) => vec![by_log(rows(&reference.log), [users, items], fit.l2)],
            (_, true) => vec![by_matrix(&treated, sides, fit.l2)],
            (_, false) => vec![by_matrix(&treated, sides, fit.l2), by_log(pairs, [users, items], fit.l2)],
        };
        for table in tables {
            let off = apart(&logits(&table.unwrap(), users), &fit.logits);
            assert!(off < 1e-7, "{off} off {}: {} with l2 = {}", reference.source, fit.shape, fit.l2);
        }
    }
}

/// Sums of the residuals of each user and item are what the penalty leaves.
#[test]
fn a_sparse_population_is_fitted_by_its_counts() {
    const USERS: usize = 3000;
    const ITEMS: usize = 2000;
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    // Popularities that span three orders of magnitude; most users have a few pairs, some none.
    let mut treated: Vec<(u32, u32)> = (0..9000)
        .map(|_| {
            let at = |count: usize, draw: f64| (count as f64 * draw.powi(3)) as u32;
            (at(USERS, rng.random_range(0.0..1.0)), at(ITEMS, rng.random_range(0.0..1.0)))
        })
        .collect();
    treated.sort_unstable();
    treated.dedup();
    let rows: Vec<Row> = treated.iter().map(|(user, item)| row(*user, *item, true)).collect();
    for l2 in [0.01, 1.0] {
        let table = by_matrix(&rows, [(USERS, None), (ITEMS, None)], l2).unwrap();
        let logits = logits(&table, USERS);
        let mut residuals = vec![0.0; USERS + ITEMS];
        for (at, logit) in logits.iter().enumerate() {
            let p = 1.0 / (1.0 + (-logit).exp());
            residuals[at / ITEMS] += p;
            residuals[USERS + at % ITEMS] += p;
        }
        treated.iter().for_each(|(user, item)| {
            residuals[*user as usize] -= 1.0;
            residuals[USERS + *item as usize] -= 1.0;
        });
        // At the best fit l2·effect = −residual, and the effects of all users add up to 0, as those of all items do.
        let values = Vec::<f64>::try_from(&table).unwrap();
        let (user, item) = values.split_at(USERS);
        let intercept = user.iter().sum::<f64>() / USERS as f64;
        for (value, residual) in user.iter().zip(&residuals) {
            assert!((l2 * (value - intercept) + residual).abs() < 1e-6, "{l2}: {value}, {residual}");
        }
        for (value, residual) in item.iter().zip(&residuals[USERS..]) {
            assert!((l2 * value + residual).abs() < 1e-6, "{l2}: {value}, {residual}");
        }
    }
}

/// Propensities that follow the model are found, to what chance leaves open.
#[test]
fn planted_propensities_are_found() {
    let mut rng = ChaCha8Rng::seed_from_u64(10);
    let (users, items) = (300, 200);
    let planted: Vec<f64> =
        (0..users + items).map(|at| if at < users { -2.0 } else { 0.0 } + rng.random_range(-1.0..1.0)).collect();
    let truth = logits(&Tensor::from_slice(&planted), users);
    let chance = |logit: &f64| 1.0 / (1.0 + (-logit).exp());
    let pairs = truth.iter().enumerate().map(|(at, logit)| (at, rng.random_bool(chance(logit)))).collect::<Vec<_>>();
    let rows: Vec<Row> = pairs.iter().map(|(at, o)| row((at / items) as u32, (at % items) as u32, *o)).collect();
    let treated: Vec<Row> = rows.iter().filter(|row| row.treated).copied().collect();
    let table = by_matrix(&treated, [(users, None), (items, None)], 0.1).unwrap();
    let ours = logits(&table, users);
    let error = ours.iter().zip(&truth).map(|(ours, truth)| (chance(ours) - chance(truth)).abs()).sum::<f64>();
    // The standard error of an effect is 1/√(n·p(1 − p)), here 0.21 of a user's and 0.17 of an item's; that of p is p(1 − p)
    // times both together, 0.03, and its mean size 0.8 of that.
    assert!(error / (truth.len() as f64) < 0.03, "{error}");
    let off = apart(&ours, &logits(&by_log(rows, [users, items], 0.1).unwrap(), users));
    assert!(off < 1e-7, "a log of all pairs is fitted as the matrix is: {off}");
}

/// Covariates that are another for every user, and one that makes classes.
#[test]
fn classes_do_not_change_the_fit() {
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    let (users, items) = (400, 150);
    let age: Vec<f64> = (0..users).map(|_| rng.random_range(20.0..60.0)).collect();
    let decades: Vec<f64> = age.iter().map(|age| (age / 10.0).floor()).collect();
    let chance = |user: usize, item: usize| 0.02 + 0.3 * (age[user] - 20.0) / 40.0 / (1.0 + item as f64 / 10.0);
    let pairs = (0..users).flat_map(|user| (0..items).map(move |item| (user, item))).collect::<Vec<_>>();
    let pairs: Vec<Row> = pairs
        .into_iter()
        .filter(|(user, item)| rng.random_bool(chance(*user, *item)))
        .map(|(user, item)| row(user as u32, item as u32, true))
        .collect();
    let covariates = |values: Vec<f64>| Covariates { names: vec!["x".into()], values };
    // Hardly another number, but another for every user.
    let apart_by = |step: f64| -> Vec<f64> { decades.iter().enumerate().map(|(at, x)| x + step * at as f64).collect() };
    let fit = |of_users: &Covariates| {
        logits(&by_matrix(&pairs, [(users, Some(of_users)), (items, None)], 1.0).unwrap(), users)
    };
    let (by_class, by_user) = (fit(&covariates(apart_by(0.0))), fit(&covariates(apart_by(1e-12))));
    assert!(apart(&by_class, &by_user) < 1e-7);
    let of_age = fit(&covariates(age.clone()));
    let error = |logits: &[f64]| {
        let off = |(at, logit): (usize, &f64)| (1.0 / (1.0 + (-logit).exp()) - chance(at / items, at % items)).abs();
        logits.iter().enumerate().map(off).sum::<f64>()
    };
    let bare = logits(&by_matrix(&pairs, [(users, None), (items, None)], 1.0).unwrap(), users);
    assert!(error(&of_age) < error(&bare), "what a propensity depends on helps");
}

/// Ten million users and a million items.
#[test]
fn a_large_matrix_is_fitted_without_a_value_a_pair() {
    let (users, items) = (10_000_000_u32, 1_000_000_u32);
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    // One in three users has one pair, most of them of the first items.
    let pair = |user: u32| row(user, (f64::from(items) * rng.random_range(0.0..1.0_f64).powi(4)) as u32, true);
    let rows: Vec<Row> = (0..users).step_by(3).map(pair).collect();
    let table = by_matrix(&rows, [(users as usize, None), (items as usize, None)], 1.0).unwrap();
    assert_eq!(table.size(), [11_000_000]);
    let mean = |start: i64| table.narrow(0, i64::from(users) + start, 100).mean(Kind::Double).double_value(&[]);
    assert!(mean(0) > mean(500_000) + 2.0);
    let of_users = Vec::<f64>::try_from(table.narrow(0, 0, 300)).unwrap();
    assert!(of_users.iter().enumerate().all(|(user, value)| *value == of_users[usize::from(user % 3 > 0)]));
}

#[test]
fn what_leaves_nothing_to_fit_is_refused() {
    let all = [row(0, 0, true), row(0, 1, true), row(1, 0, true), row(1, 1, true)];
    let sides = [(2, None), (2, None)];
    for error in [by_matrix(&all, sides, 1.0).unwrap_err(), by_log(all.to_vec(), [2, 2], 1.0).unwrap_err()] {
        assert!(error.to_string().contains("every element of the population is treated"), "{error}");
    }
    let interrupt = CancellationToken::new();
    interrupt.cancel();
    let interrupted = fit_matrix(&all[..2], sides, 1.0, Device::Cpu, &interrupt);
    assert!(matches!(interrupted.unwrap_err(), Error::Interrupted));
}

#[test]
fn the_model_scores_as_the_table_says() {
    use crate::model::logits;

    let table = Tensor::from_slice(&[-1.5, 0.25, 2.0, 0.5, -0.75]);
    let pairs = [row(0, 0, false), row(1, 1, false), row(2, 0, false), row(0, 1, false)];
    let scores = logits(&model(&table, 3), &pairs, Device::Cpu);
    assert_eq!(scores, [-1.0, -0.5, 2.5, -2.25]);
}
