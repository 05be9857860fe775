//! The optimisers of the models, each under the name of its model.

use tch::{Kind, Tensor};

use crate::fit::adam::Adam;
use crate::fit::models::Models;
use crate::model::{Gradients, Head, Model, PerModel};
use counterweight::error::{Result, invalid};
use counterweight::job::{AdamSpec, OptimizerSpec, TrainSpec};

/// The optimisers of a model's own weights.
#[derive(Debug)]
pub(crate) struct ModelOptimizer {
    table: Adam,
    /// One for each tensor of weights of the head.
    head: Vec<Adam>,
}

impl ModelOptimizer {
    /// The optimisers of `model`, whose rate is `rate`. The weights by which a product of shared embeddings is scored have
    /// the rate of these, which is that of the prediction model.
    pub(crate) fn new(rates: &OptimizerSpec, rate: AdamSpec, model: &Model) -> Self {
        let adam = |rate, weights: &Tensor| Adam::new(rates.adam, rate, weights);
        let of_head = if matches!(model.head(), Head::Diagonal(_)) { rates.prediction } else { rate };
        let head = model.head().weights().iter().map(|weights| adam(of_head, weights)).collect();
        Self { table: adam(rate, model.table()), head }
    }

    /// Moves the weights of `model` by one step, where they have `gradients`, those of its table at `rows`.
    ///
    /// # Errors
    /// Where the gradients are not those of such a model.
    pub(crate) fn step(&mut self, model: &mut Model, rows: &Tensor, gradients: &Gradients) -> Result<()> {
        self.table.step(model.table_mut(), rows, &gradients.own)?;
        let head = model.head_mut().weights_mut().iter_mut().zip(&gradients.head);
        for (adam, (weights, gradient)) in self.head.iter_mut().zip(head) {
            let all = Tensor::arange(weights.size()[0], (Kind::Int64, rows.device()));
            adam.step(weights, &all, gradient)?;
        }
        Ok(())
    }

    fn named(&self, model: &'static str) -> impl Iterator<Item = (String, &Adam)> {
        let head = self.head.iter().enumerate().map(move |(at, adam)| (format!("{model}.head.{at}"), adam));
        [(model.to_owned(), &self.table)].into_iter().chain(head)
    }

    fn named_mut(&mut self, model: &'static str) -> impl Iterator<Item = (String, &mut Adam)> {
        let head = self.head.iter_mut().enumerate().map(move |(at, adam)| (format!("{model}.head.{at}"), adam));
        [(model.to_owned(), &mut self.table)].into_iter().chain(head)
    }
}

/// The optimisers of the models that are trained, and of the embeddings that they share.
#[derive(Debug)]
pub(crate) struct Optimizers {
    models: PerModel<ModelOptimizer>,
    shared: Option<Adam>,
}

impl Optimizers {
    /// Those of `models`, at rest. A propensity model that was fitted beforehand is left as it is; shared embeddings have
    /// the rate of the prediction model.
    pub(crate) fn new(spec: &TrainSpec, models: &Models) -> Self {
        let rates = &spec.optimizer;
        let trains_propensity = !spec.propensity.source.is_fitted_beforehand();
        let of = |rate, model| ModelOptimizer::new(rates, rate, model);
        Self {
            models: PerModel {
                propensity: trains_propensity.then(|| of(rates.propensity, &models.propensity)),
                prediction: of(rates.prediction, &models.prediction),
                imputation: models.imputation.as_ref().map(|model| of(rates.imputation, model)),
            },
            shared: models.prediction.embeddings().map(|table| Adam::new(rates.adam, rates.prediction, table)),
        }
    }

    /// Whether they train the propensity model.
    pub(crate) fn train_propensity(&self) -> bool {
        self.models.propensity.is_some()
    }

    /// Each with its name: `MODEL` of a model's table, `MODEL.head.N` of the weights of its head, `shared` of the
    /// embeddings that models share.
    pub(crate) fn named(&self) -> impl Iterator<Item = (String, &Adam)> {
        let shared = self.shared.iter().map(|adam| ("shared".to_owned(), adam));
        self.models.named().flat_map(|(name, optimizer)| optimizer.named(name)).chain(shared)
    }

    /// Each with its name, to change.
    pub(crate) fn named_mut(&mut self) -> impl Iterator<Item = (String, &mut Adam)> {
        let shared = self.shared.iter_mut().map(|adam| ("shared".to_owned(), adam));
        self.models.named_mut().flat_map(|(name, optimizer)| optimizer.named_mut(name)).chain(shared)
    }

    /// Moves all weights by one step, where the models have `gradients` at `rows`.
    ///
    /// # Errors
    /// Where a model that is trained is missing or has no gradients, or one that is not trained has some.
    pub(crate) fn step(&mut self, models: &mut Models, rows: &Tensor, gradients: &PerModel<Gradients>) -> Result<()> {
        let PerModel { propensity, prediction, imputation } = &mut self.models;
        prediction.step(&mut models.prediction, rows, &gradients.prediction)?;
        for (name, optimizer, model, gradients) in [
            ("propensity", propensity, Some(&mut models.propensity), &gradients.propensity),
            ("imputation", imputation, models.imputation.as_mut(), &gradients.imputation),
        ] {
            match (optimizer, model, gradients) {
                (Some(optimizer), Some(model), Some(gradients)) => optimizer.step(model, rows, gradients)?,
                (None, _, None) => {}
                (Some(_), None, _) => invalid!("the {name} model is trained, and there is none"),
                (Some(_), Some(_), None) => invalid!("the {name} model is trained, and has no gradients"),
                (None, _, Some(_)) => invalid!("the {name} model is not trained, and has gradients"),
            }
        }
        if let (Some(adam), Some(table)) = (&mut self.shared, models.prediction.embeddings_mut()) {
            let of_shared = gradients.named().filter_map(|(_, gradients)| gradients.shared.as_ref());
            adam.step(table, rows, &of_shared.map(Tensor::shallow_clone).sum())?;
        }
        Ok(())
    }
}
