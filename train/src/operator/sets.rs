//! From the queries of a job to its data sets.

use std::collections::BTreeMap;

use super::SHUFFLE_ROWS;
use crate::data::population::{Covariates, Listing};
use crate::data::{DataSet, Evaluation, Training, read, scan};
use counterweight::context::JobContext;
use counterweight::error::Result;
use counterweight::job::{PropensitySource, Shape, Split, TrainSpec};
use counterweight::model::DataRecord;

/// The queries of a job's data sets, planned.
pub(super) struct Sets {
    train: DataSet,
    /// The others.
    evaluations: BTreeMap<Split, DataSet>,
    users: Option<Listing>,
    items: Option<Listing>,
}

/// The data sets of a job, read.
pub(super) struct Data {
    pub(super) training: Training,
    /// The others.
    pub(super) evaluations: BTreeMap<Split, Evaluation>,
    /// Of users and of items, where the job lists them.
    pub(super) covariates: [Option<Covariates>; 2],
}

impl Data {
    /// What the sets held.
    pub(super) fn record(&self) -> DataRecord {
        let evaluations = self.evaluations.iter().map(|(split, set)| (*split, set.fingerprint.clone()));
        DataRecord {
            sets: evaluations.chain([(Split::Train, self.training.fingerprint.clone())]).collect(),
            covariates: Covariates::hash(self.covariates.each_ref().map(Option::as_ref)),
        }
    }

    /// How many rows of a split have a user or an item that training does not know.
    pub(super) fn unknown(&self, split: Split) -> usize {
        self.evaluations.get(&split).map_or(0, |set| set.unknown)
    }
}

impl Sets {
    /// Plans the queries.
    ///
    /// # Errors
    /// Where one does not plan, or lacks a column that the job's roles name.
    pub(super) async fn plan(context: &JobContext, spec: &TrainSpec) -> Result<Self> {
        let listing = async |key, sql: Option<&String>| match sql {
            Some(sql) => Listing::plan(context, key, sql).await.map(Some),
            None => Ok(None),
        };
        let population = &context.job.population;
        let (users, items) = (
            listing("population.users", population.users.as_ref()).await?,
            listing("population.items", population.items.as_ref()).await?,
        );
        let train = DataSet::plan(context, Split::Train, &spec.data.train).await?;
        let is_used = |split: &Split| match split {
            Split::Train => false,
            Split::Validation | Split::Test => true,
            Split::Uniform => spec.propensity.source == PropensitySource::NaiveBayes,
        };
        let mut evaluations = BTreeMap::new();
        for split in Split::ALL.into_iter().filter(is_used) {
            if let Some(sql) = spec.data.query(split) {
                evaluations.insert(split, DataSet::plan(context, split, sql).await?);
            }
        }
        Ok(Self { train, evaluations, users, items })
    }

    /// Reads the data sets: the training set once, to learn what it holds, and the others whole. Gives the training set
    /// back, to be read again.
    pub(super) async fn read(self, shape: Shape) -> Result<(DataSet, Data)> {
        let Self { train, evaluations: planned, users, items } = self;
        let listed = async |listing: Option<Listing>| match listing {
            Some(listing) => listing.read().await.map(|(vocabulary, covariates)| (Some(vocabulary), covariates)),
            None => Ok((None, None)),
        };
        let ((users, of_users), (items, of_items)) = (listed(users).await?, listed(items).await?);
        let keep = match shape {
            Shape::Matrix => usize::MAX,
            Shape::Log => SHUFFLE_ROWS,
        };
        let training = scan(&train, users, items, keep).await?;
        let mut evaluations = BTreeMap::new();
        for (split, set) in planned {
            let set = read(&set, &training.users, &training.items).await?;
            if set.unknown > 0 && split != Split::Uniform {
                tracing::warn!(
                    "{split}: {} of {} rows have a user or item unknown in training, and are left out",
                    set.unknown,
                    set.fingerprint.rows
                );
            }
            evaluations.insert(split, set);
        }
        Ok((train, Data { training, evaluations, covariates: [of_users, of_items] }))
    }
}
