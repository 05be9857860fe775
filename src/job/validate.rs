//! What must hold across the sections of a job, and the ranges that keys share.

use super::{HeadKind, JobFile, Precision, Shape, TrainSpec};
use crate::error::{Result, invalid, suggestion};

impl JobFile {
    pub(super) fn validate(&self) -> Result<()> {
        positive("session.threads", self.session.threads.unwrap_or(1))?;
        positive("session.batch_size", self.session.batch_size.unwrap_or(1))?;
        self.storage.validate()?;
        if let Some(train) = &self.train {
            train.validate()?;
        }
        let in_log = |train: &&TrainSpec| self.population.shape == Shape::Log && train.model.head == HeadKind::Dot;
        if self.train.as_ref().filter(in_log).is_some_and(|train| train.precision == Precision::Bfloat16) {
            invalid!(
                "train.precision = \"bfloat16\" is of matrix products, and train.model.head = \"dot\" takes none in a \
                 log; leave it \"float32\", or set train.model.head = \"mlp\""
            );
        }
        let blocks = self.train.as_ref().and_then(|train| train.optimizer.blocks_per_epoch);
        let matrix_only = [
            ("population.users", self.population.users.is_some()),
            ("population.items", self.population.items.is_some()),
            ("train.optimizer.blocks_per_epoch", blocks.is_some()),
        ];
        for (key, given) in matrix_only {
            if given && self.population.shape == Shape::Log {
                invalid!("{key} belongs to shape = \"matrix\": in a log the rows are the population");
            }
        }
        if let Some(score) = &self.score {
            match (&score.table, &score.query) {
                (Some(table), None) if !self.tables.contains_key(table) => {
                    let known = self.tables.keys().map(String::as_str);
                    invalid!("score.table = {table:?} is not one of [tables]{}", suggestion(table, known));
                }
                (Some(_), None) if !score.partition_by.is_empty() => {
                    invalid!("score.partition_by belongs to score.query: the files of a table keep their folders");
                }
                (Some(_), None) | (None, Some(_)) => {}
                (None, None) => invalid!("score.table is missing: name one of [tables], or give a score.query"),
                (Some(_), Some(_)) => invalid!("score.table and score.query are both given: give one of them"),
            }
            if score.model.is_none() && self.train.is_none() {
                invalid!(
                    "score.model is missing: give the URL of a model folder, or a [train] section that writes one"
                );
            }
        }
        self.audit.iter().try_for_each(|(name, audit)| audit.validate(name))
    }
}

pub(super) fn positive(key: &str, value: usize) -> Result<()> {
    if value == 0 {
        invalid!("{key} = 0: give at least 1");
    }
    Ok(())
}

pub(super) fn above_zero(key: &str, value: f64) -> Result<()> {
    if !(value > 0.0 && value.is_finite()) {
        invalid!("{key} = {value}: give a positive number");
    }
    Ok(())
}

pub(super) fn non_negative(key: &str, value: f64) -> Result<()> {
    if !(value >= 0.0 && value.is_finite()) {
        invalid!("{key} = {value}: give a number that is not negative");
    }
    Ok(())
}
