use tch::{Kind, Tensor};
use tokio_util::sync::CancellationToken;

use super::{Moments, Pairs, variance};
use crate::data::sampler::{Batch, Sampler};
use counterweight::error::{Error, Result};

/// The rows of a log, each a pair: every sum is a pass over them.
pub(super) struct Log<'a> {
    /// Gives the rows.
    pub(super) sampler: &'a dyn Sampler,
    /// How many there are.
    pub(super) rows: u64,
    /// How many of them are treated.
    pub(super) treated: u64,
    /// Ends a pass early.
    pub(super) interrupt: &'a CancellationToken,
}

impl Log<'_> {
    fn for_each(&self, mut work: impl FnMut(&Batch)) -> Result<()> {
        for batch in self.sampler.population() {
            if self.interrupt.is_cancelled() {
                return Err(Error::Interrupted);
            }
            work(&batch?);
        }
        Ok(())
    }
}

/// The entries of a batch's users and of its items, `[2, pairs]`.
fn ends(table: &Tensor, batch: &Batch) -> Tensor {
    table.index_select(0, &batch.rows).view([2, batch.users])
}

fn probability(table: &Tensor, batch: &Batch) -> Tensor {
    ends(table, batch).sum_dim_intlist(0, false, None::<Kind>).sigmoid()
}

impl Pairs for Log<'_> {
    fn counts(&self) -> (f64, f64) {
        (self.rows as f64, self.treated as f64)
    }

    fn moments(&self, table: &Tensor) -> Result<Moments> {
        let (mut residual, mut weight) = (table.zeros_like(), table.zeros_like());
        self.for_each(|batch| {
            let p = probability(table, batch);
            let curvature = variance(&p);
            let slope = p - &batch.treated;
            let _ = residual.index_add_(0, &batch.rows, &slope.repeat([2]));
            let _ = weight.index_add_(0, &batch.rows, &curvature.repeat([2]));
        })?;
        Ok(Moments { residual, weight })
    }

    fn cross(&self, table: &Tensor, direction: &Tensor) -> Result<Tensor> {
        let mut sums = table.zeros_like();
        self.for_each(|batch| {
            let curvature = variance(&probability(table, batch));
            let opposite = ends(direction, batch).flip([0]);
            let _ = sums.index_add_(0, &batch.rows, &(opposite * curvature).flatten(0, -1));
        })?;
        Ok(sums)
    }
}
