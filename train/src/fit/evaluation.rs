//! How good a model is on rows held out.

use tch::{Device, Kind, Tensor};

use crate::data::sampler::{Batches, Row, Sample, Sampler};
use crate::fit::models::Models;
use crate::loss::clipped;
use crate::loss::regularizers::{balance_weight, bmse, weighted_phi};
use crate::model::{GATHERED, Model, Scores, logits};
use counterweight::error::Result;
use counterweight::job::{LossSpec, Phi, TrainSpec};
use counterweight::model::{Metrics, RankedUsers};

/// Treated rows to rank.
#[derive(Debug)]
pub struct EvaluationSet {
    /// By user, then item.
    rows: Vec<Row>,
    device: Device,
}

impl EvaluationSet {
    /// The set of those `rows` that are treated.
    pub fn new(mut rows: Vec<Row>, device: Device) -> Self {
        rows.retain(|row| row.treated);
        rows.sort_unstable_by(|a, b| (a.user, a.item).cmp(&(b.user, b.item)).then(a.outcome.total_cmp(&b.outcome)));
        Self { rows, device }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How many rows are positives.
    pub fn positives(&self) -> usize {
        self.rows.iter().filter(|row| row.is_positive()).count()
    }

    /// The users that Recall@K and NDCG@K are means over, with ranked lists `k` long.
    pub fn ranked(&self, k: usize) -> RankedUsers {
        let mut ranked = RankedUsers::default();
        for rows in self.rows.chunk_by(|a, b| a.user == b.user) {
            let positives = rows.iter().filter(|row| row.is_positive()).count();
            if positives > 0 {
                let (within_k, all_positive) = (rows.len() <= k, positives == rows.len());
                ranked = ranked.with(RankedUsers {
                    users: 1,
                    within_k: u64::from(within_k),
                    all_positive: u64::from(all_positive),
                });
            }
        }
        ranked
    }

    /// The metrics of a prediction model, but for those of balance; ranked lists are `k` long.
    pub fn evaluate(&self, prediction: &Model, k: usize) -> Metrics {
        let scores = logits(prediction, &self.rows, self.device);
        let mut users = Vec::new();
        let mut start = 0;
        for rows in self.rows.chunk_by(|a, b| a.user == b.user) {
            users.extend(ranking(rows, &scores[start..start + rows.len()], k));
            start += rows.len();
        }
        let mean = |value: fn(&(f64, f64)) -> f64| {
            (!users.is_empty()).then(|| users.iter().map(value).sum::<f64>() / users.len() as f64)
        };
        Metrics {
            auc: auc(&self.rows, &scores),
            recall: mean(|user| user.0),
            ndcg: mean(|user| user.1),
            log_loss: mean_of(&self.rows, &scores, log_loss),
            mse: mean_of(&self.rows, &scores, squared_error),
            ..Metrics::default()
        }
    }
}

/// The share of (positive, negative) pairs that the scores put in order, from the ranks of the positives.
fn auc(rows: &[Row], scores: &[f32]) -> Option<f64> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_unstable_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    let (mut ranks, mut positives, mut below) = (0.0, 0.0, 0.0);
    for tied in order.chunk_by(|a, b| scores[*a] == scores[*b]) {
        let hits = tied.iter().filter(|row| rows[**row].is_positive()).count() as f64;
        ranks += hits * (below + (tied.len() as f64 + 1.0) / 2.0);
        positives += hits;
        below += tied.len() as f64;
    }
    let negatives = below - positives;
    (positives > 0.0 && negatives > 0.0)
        .then(|| (ranks - positives * (positives + 1.0) / 2.0) / (positives * negatives))
}

/// Recall@K and NDCG@K of one user's rows, which are in the order of their items; ties go to the first item.
fn ranking(rows: &[Row], scores: &[f32], k: usize) -> Option<(f64, f64)> {
    let positives = rows.iter().filter(|row| row.is_positive()).count();
    if positives == 0 {
        return None;
    }
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let discount = |rank: usize| 1.0 / (rank as f64 + 2.0).log2();
    let (mut hits, mut gain) = (0, 0.0);
    for (rank, row) in order.into_iter().take(k).enumerate() {
        if rows[row].is_positive() {
            hits += 1;
            gain += discount(rank);
        }
    }
    let ideal: f64 = (0..positives.min(k)).map(discount).sum();
    Some((f64::from(hits) / positives as f64, gain / ideal))
}

/// The mean over rows of a loss that compares a score with an outcome; none without a row.
fn mean_of(rows: &[Row], scores: &[f32], loss: fn(f64, f64) -> f64) -> Option<f64> {
    let sum: f64 = rows.iter().zip(scores).map(|(row, score)| loss((*score).into(), row.outcome.into())).sum();
    (!rows.is_empty()).then(|| sum / rows.len() as f64)
}

fn log_loss(score: f64, outcome: f64) -> f64 {
    score.max(0.0) + (-score.abs()).exp().ln_1p() - score * outcome
}

fn squared_error(score: f64, outcome: f64) -> f64 {
    (1.0 / (1.0 + (-score).exp()) - outcome).powi(2)
}

/// Every metric: of predictions on the rows of `validation`, of balance over the population of `sampler`.
pub fn evaluate(
    spec: &TrainSpec,
    models: &Models,
    sampler: &dyn Sampler,
    validation: &EvaluationSet,
) -> Result<Metrics> {
    let balance = population_bmse(&spec.loss, &models.propensity, &models.prediction, sampler)?;
    Ok(Metrics {
        bmse: balance.map(|of| of.own),
        bmse_constant: balance.map(|of| of.constant),
        bmse_prediction: balance.map(|of| of.prediction),
        ..validation.evaluate(&models.prediction, spec.evaluation.k)
    })
}

/// BMSE of the same propensities over the same population, by φ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PopulationBmse {
    /// For the φ of the loss.
    pub own: f64,
    /// For φ = 1.
    pub constant: f64,
    /// For φ = r̂.
    pub prediction: f64,
}

/// BMSE of the propensities over the population of `sampler`, summed in double precision; none of an empty population.
///
/// Of a sampled population the part o·(1/p̂ + 1/(1 − p̂)) of the weights, which varies most, is summed over all treated
/// elements, and the part −1/(1 − p̂) over those drawn. The mean of w·φ is unbiased by that; its squared length, BMSE, is
/// larger by the variance of the second part over the number of elements drawn.
pub fn population_bmse(
    spec: &LossSpec,
    propensity: &Model,
    prediction: &Model,
    sampler: &dyn Sampler,
) -> Result<Option<PopulationBmse>> {
    let _guard = tch::no_grad_guard();
    let most = GATHERED / (1 + propensity.head().activations());
    // Σ w·φ of every φ, one after the other, those of a single element last.
    let sum = |batches: Batches, weight: fn(&Tensor, &Tensor) -> Tensor| -> Result<Option<(Tensor, usize)>> {
        let mut sum: Option<(Tensor, usize)> = None;
        for batch in batches {
            for batch in batch?.split(most) {
                let scores = Scores::of(propensity.rows(&batch), batch.layout);
                let weight = weight(&batch.treated, &clipped(&scores.probability(), spec.propensity_clip));
                let predicted = Scores::of(prediction.rows(&batch), batch.layout).probability();
                let of = |phi| weighted_phi(phi, batch.layout, &weight, &scores, || predicted.shallow_clone());
                let part = Tensor::cat(&[spec.phi, Phi::Constant, Phi::Prediction].map(of), 0).to_kind(Kind::Double);
                sum = Some(match sum {
                    Some((sum, pairs)) => (sum + part, pairs + batch.pairs()),
                    None => (part, batch.pairs()),
                });
            }
        }
        Ok(sum)
    };
    let by_phi = |sum: &Tensor, pairs: usize| {
        let own = sum.numel() as i64 - 2;
        let of = |from, length| bmse(&sum.narrow(0, from, length), pairs).double_value(&[]);
        PopulationBmse { own: of(0, own), constant: of(own, 1), prediction: of(own + 1, 1) }
    };
    let Some(Sample { treated, drawn, population }) = sampler.sample() else {
        return Ok(sum(sampler.population(), balance_weight)?.map(|(sum, pairs)| by_phi(&sum, pairs)));
    };
    let of_treated = sum(treated, |_, p| p.reciprocal() - (p - 1.0).reciprocal())?;
    let of_all = sum(drawn, |_, p| (p - 1.0).reciprocal())?;
    Ok(of_treated.zip(of_all).map(|((of_treated, _), (of_all, pairs))| {
        by_phi(&(of_treated + of_all * (population as f64 / pairs as f64)), population)
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;
    use crate::data::sampler::BlockSampler;
    use crate::model::{Head, initial};
    use counterweight::job::Phi;

    fn row(user: u32, item: u32, outcome: f32) -> Row {
        Row { user, item, treated: true, outcome, propensity: None }
    }

    fn by_definition(rows: &[Row], scores: &[f32]) -> Option<f64> {
        let (mut ordered, mut all) = (0.0, 0.0);
        for (positive, high) in rows.iter().zip(scores).filter(|(row, _)| row.outcome > 0.5) {
            for (_, low) in rows.iter().zip(scores).filter(|(row, _)| row.outcome <= 0.5) {
                assert!(positive.treated);
                all += 1.0;
                ordered += if high > low {
                    1.0
                } else if high == low {
                    0.5
                } else {
                    0.0
                };
            }
        }
        (all > 0.0).then(|| ordered / all)
    }

    proptest! {
        #[test]
        fn auc_is_the_share_of_ordered_pairs(cases in prop::collection::vec((0_u8..5, any::<bool>()), 0..40)) {
            let rows: Vec<Row> = cases.iter().map(|(_, good)| row(0, 0, f32::from(u8::from(*good)))).collect();
            let scores: Vec<f32> = cases.iter().map(|(score, _)| f32::from(*score)).collect();
            match (auc(&rows, &scores), by_definition(&rows, &scores)) {
                (Some(ours), Some(wanted)) => prop_assert!((ours - wanted).abs() < 1e-12),
                (ours, wanted) => prop_assert_eq!(ours, wanted),
            }
        }
    }

    #[test]
    fn ranked_lists() {
        let rows = [row(0, 0, 1.0), row(0, 1, 0.0), row(0, 2, 1.0), row(0, 3, 1.0), row(0, 4, 0.0)];
        // Ranked: item 4, then items 0 and 1 (tied), 2, 3.
        let scores = [0.5, 0.5, 0.2, 0.1, 0.9];
        let discount = |rank: f64| 1.0 / (rank + 1.0).log2();
        let (recall, ndcg) = ranking(&rows, &scores, 2).unwrap();
        assert!((recall - 1.0 / 3.0).abs() < 1e-12);
        assert!((ndcg - discount(2.0) / (discount(1.0) + discount(2.0))).abs() < 1e-12);
        let (recall, ndcg) = ranking(&rows, &scores, 10).unwrap();
        let ideal = discount(1.0) + discount(2.0) + discount(3.0);
        assert_eq!(recall, 1.0);
        assert!((ndcg - (discount(2.0) + discount(4.0) + discount(5.0)) / ideal).abs() < 1e-12);
        assert_eq!(ranking(&rows[1..2], &[1.0], 5), None);
    }

    #[test]
    fn losses_compare_a_probability_with_the_outcome() {
        let (rows, scores) = ([row(0, 0, 1.0), row(1, 0, 0.0), row(2, 0, 0.25)], [2.0, -1.0, 80.0]);
        let p = |score: f64| 1.0 / (1.0 + (-score).exp());
        let wanted = (-p(2.0).ln() - (1.0 - p(-1.0)).ln() + 0.75 * 80.0) / 3.0;
        assert!((mean_of(&rows, &scores, log_loss).unwrap() - wanted).abs() < 1e-9);
        let wanted = ((1.0 - p(2.0)).powi(2) + p(-1.0).powi(2) + 0.75 * 0.75) / 3.0;
        assert!((mean_of(&rows, &scores, squared_error).unwrap() - wanted).abs() < 1e-9);
        assert_eq!(mean_of(&[], &[], log_loss), None);
    }

    /// The mean over many samples is that over the population, and each of them comes near.
    #[test]
    fn bmse_of_a_sample_is_that_of_the_population() {
        const USERS: usize = 60;
        const ITEMS: usize = 50;
        let mut rng = ChaCha8Rng::seed_from_u64(12);
        let pairs = (0..USERS as u32).flat_map(|user| (0..ITEMS as u32).map(move |item| (user, item)));
        let rows: Vec<Row> = pairs.filter(|_| rng.random_bool(0.05)).map(|(user, item)| row(user, item, 1.0)).collect();
        let mut model = |level: f64| {
            let table = initial(USERS, ITEMS, 5, &mut rng, Device::Cpu);
            let _ = table.narrow(0, 0, USERS as i64).narrow(1, 4, 1).fill_(level);
            Model::from_table(table, USERS, Head::Dot)
        };
        let (propensity, prediction) = (model(-2.0), model(0.5));
        let sampler = |seed| {
            BlockSampler::new(rows.clone(), (USERS, ITEMS), (8, 8), seed, Device::Cpu, |_, _| String::new()).unwrap()
        };
        for phi in [Phi::Constant, Phi::Prediction] {
            let mut spec = ips();
            spec.phi = phi;
            let all =
                |sampler: &BlockSampler| population_bmse(&spec, &propensity, &prediction, sampler).unwrap().unwrap();
            let of = |sampler: &BlockSampler| all(sampler).own;
            let whole = of(&sampler(0));
            let PopulationBmse { constant, prediction, .. } = all(&sampler(0));
            assert_eq!(whole, if phi == Phi::Constant { constant } else { prediction });
            assert!(whole.sqrt() > 0.1, "the sign of the imbalance is that of every sample: {whole}");
            let of_samples: Vec<f64> = (0..300).map(|seed| of(&sampler(seed).sampling(Some(6))).sqrt()).collect();
            let n = of_samples.len() as f64;
            let mean = of_samples.iter().sum::<f64>() / n;
            let variance = of_samples.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
            assert!((mean - whole.sqrt()).abs() < 4.0 * (variance / n).sqrt(), "{mean} is not {}", whole.sqrt());
            assert!(variance > 0.0 && variance.sqrt() < 0.05 * mean, "{variance}");
        }
    }

    /// Of a φ of embeddings, too, the two common ones are what they are with any loss.
    #[test]
    fn bmse_of_common_phi_does_not_depend_on_that_of_the_loss() {
        let mut rng = ChaCha8Rng::seed_from_u64(13);
        let rows: Vec<Row> = (0..7)
            .flat_map(|user| (0..5).map(move |item| (user, item)))
            .map(|(user, item)| row(user, item, 1.0))
            .collect();
        let rows: Vec<Row> = rows.into_iter().filter(|_| rng.random_bool(0.4)).collect();
        let mut model = || Model::from_table(initial(7, 5, 3, &mut rng, Device::Cpu), 7, Head::Dot);
        let (propensity, prediction) = (model(), model());
        let sampler = BlockSampler::new(rows, (7, 5), (4, 4), 0, Device::Cpu, |_, _| String::new()).unwrap();
        let of = |phi| {
            let mut spec = ips();
            spec.phi = phi;
            population_bmse(&spec, &propensity, &prediction, &sampler).unwrap().unwrap()
        };
        let (constant, prediction) = (of(Phi::Constant).own, of(Phi::Prediction).own);
        assert_ne!(constant, prediction);
        for phi in [Phi::Constant, Phi::Prediction, Phi::Product, Phi::Concat] {
            let of = of(phi);
            assert_eq!((of.constant, of.prediction), (constant, prediction), "{phi:?}");
        }
        assert!(![constant, prediction].contains(&of(Phi::Concat).own));
    }

    #[test]
    fn users_whose_ranking_no_model_changes_are_counted() {
        // One row; two rows, one positive; three rows, all positive; two rows, none positive, who count nowhere.
        let of = |user, outcomes: &[f32]| {
            (0..).zip(outcomes).map(move |(item, outcome)| row(user, item, *outcome)).collect::<Vec<_>>()
        };
        let rows = [of(0, &[1.0]), of(1, &[1.0, 0.0]), of(2, &[1.0, 1.0, 1.0]), of(3, &[0.0, 0.0])].concat();
        let set = EvaluationSet::new(rows, Device::Cpu);
        assert_eq!(set.ranked(2), RankedUsers { users: 3, within_k: 2, all_positive: 2 });
        assert_eq!(set.ranked(3).within_k, 3);
    }

    fn ips() -> LossSpec {
        serde_json::from_value(serde_json::json!({ "method": "ips" })).unwrap()
    }
}
