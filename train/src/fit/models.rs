//! The models that one loss trains together.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tch::Device;

use crate::model::{Model, initial, side_by_side};
use crate::propensity::naive_bayes::NaiveBayes;
use counterweight::job::{Embeddings, TrainSpec};

/// Where the epochs of a member start, in the order of all epochs that draw from a seed.
pub(super) fn first_epoch(member: usize) -> usize {
    member << 32
}

/// The models that are trained together.
#[derive(Debug)]
pub struct Models {
    /// p̂.
    pub propensity: Model,
    /// r̂.
    pub prediction: Model,
    /// ê, where the method has one.
    pub imputation: Option<Model>,
    /// p̂ of the estimate and of L_e, where it does not come from the propensity model.
    pub naive_bayes: Option<NaiveBayes>,
}

impl Models {
    /// Models with initial weights drawn from `seed`, for each `member` of an ensemble, from 0, others.
    pub fn new(spec: &TrainSpec, users: usize, items: usize, seed: u64, member: usize, device: Device) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(first_epoch(member) as u64);
        let about = &spec.model;
        let shared =
            (about.embeddings == Embeddings::Shared).then(|| initial(users, items, about.dim, &mut rng, device));
        let mut model = || match &shared {
            Some(embeddings) => Model::sharing(embeddings, users, about, &mut rng),
            None => Model::new(users, items, about, &mut rng, device),
        };
        let (propensity, prediction) = (model(), model());
        Self { propensity, prediction, imputation: spec.loss.method.imputes().then(model), naive_bayes: None }
    }

    /// Models with the same weights, which no longer change together.
    pub fn copy(&self) -> Self {
        let embeddings = self.prediction.embeddings().map(|embeddings| tch::no_grad(|| embeddings.copy()));
        let copy = |model: &Model| model.copy(embeddings.as_ref());
        Self {
            propensity: copy(&self.propensity),
            prediction: copy(&self.prediction),
            imputation: self.imputation.as_ref().map(copy),
            naive_bayes: self.naive_bayes,
        }
    }

    /// The models whose scores are the means of those of `members`, which score by dot products where there are several.
    pub fn mean(mut members: Vec<Self>) -> Self {
        if members.len() == 1 {
            return members.remove(0);
        }
        tch::no_grad(|| {
            let shared = members[0].prediction.embeddings();
            let shared =
                shared.map(|_| side_by_side(members.iter().filter_map(|models| models.prediction.embeddings())));
            let mean = |models: Vec<&Model>| Model::mean(&models, shared.as_ref());
            let imputation: Option<Vec<&Model>> = members.iter().map(|models| models.imputation.as_ref()).collect();
            Self {
                propensity: mean(members.iter().map(|models| &models.propensity).collect()),
                prediction: mean(members.iter().map(|models| &models.prediction).collect()),
                imputation: imputation.map(mean),
                naive_bayes: members[0].naive_bayes,
            }
        })
    }

    /// Each model with its name.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &Model)> {
        [("propensity", &self.propensity), ("prediction", &self.prediction)]
            .into_iter()
            .chain(self.imputation.as_ref().map(|model| ("imputation", model)))
    }
}
