//! From the text of a job file to a job: assignments of `--set`, variables, the preset, what the method entails.

mod assign;
mod preset;
mod variables;

use std::path::Path;

use toml::Table as Toml;

pub(super) use preset::{PRESETS, preset};

use super::read::{parse_toml, read};
use super::{HeadKind, Job, JobSource, ModelSpec, TrainSpec};
use crate::error::{Context, Error, Result, invalid};

impl Job {
    /// Reads a job file, after `--set` assignments such as `vars.dir=/data` or `train.loss.phi=concat`.
    ///
    /// # Errors
    /// Where the text is no TOML (with line and column), a key is unknown (with the nearest known one), a value is of
    /// the wrong kind or out of range, or `${name}` refers to nothing. The message names the key.
    pub fn parse(text: &str, assignments: &[String]) -> Result<Self> {
        let mut table = parse_toml(text)?;
        for assignment in assignments {
            assign::assign(&mut table, assignment)?;
        }
        variables::substitute(&mut table)?;
        preset::merge_preset(&mut table)?;
        preset::merge_method(&mut table);
        let hidden_is_given = gives_hidden(&table);
        let source = JobSource { text: text.to_owned(), assignments: assignments.to_vec() };
        let job = Self::new(read("the job file", table)?, source)?;
        if let Some(TrainSpec { model: ModelSpec { head: HeadKind::Dot, hidden, .. }, .. }) = &job.train
            && hidden_is_given
            && !hidden.is_empty()
        {
            invalid!(
                "train.model.hidden = {hidden:?}: train.model.head = \"dot\" has no hidden layer; set \
                 train.model.head = \"mlp\", or leave train.model.hidden out"
            );
        }
        Ok(job)
    }

    /// Reads the job file at a local path.
    ///
    /// # Errors
    /// As [`Job::parse`], and where the file cannot be read.
    pub fn load(path: &Path, assignments: &[String]) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let path = path.display();
            Error::Invalid(format!("cannot read the job file {path}: {error}; give the path of a TOML file"))
        })?;
        Self::parse(&text, assignments).context(|| path.display().to_string())
    }
}

fn gives_hidden(job: &Toml) -> bool {
    job.get("train").and_then(|train| train.get("model")?.get("hidden")).is_some()
}
