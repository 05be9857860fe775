//! What the aggregates remember of the rows they have seen.

mod arms;
mod binned;
mod clusters;
mod comoments;
mod days;
mod effects;
mod imbalances;
mod lists;
mod moments;
pub(crate) mod packed;
mod pivoted;
mod products;
mod profile;
mod projections;
mod samples;
mod sum;
mod sums;
mod trimmed;
mod weighted;

use std::fmt::Debug;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion_common::Result;
use datafusion_expr::EmitTo;

pub(crate) use arms::{Arms, Covariates};
pub(crate) use binned::{Bin, Binned, BinnedTerms};
use clusters::Clusters;
pub(crate) use clusters::{ClusterSums, Clustered};
pub(crate) use comoments::{Comoment, Comoments};
pub(crate) use days::{DAY_SUMS, DaySums, Days};
pub(crate) use effects::{Effect, EffectTerms, Effects, GroupEffects};
pub(crate) use imbalances::{Imbalance, ImbalanceTerms, Imbalances};
pub(crate) use moments::Moments;
pub(crate) use pivoted::{Centred, MeanMoments};
pub(crate) use products::{Products, Totals};
pub(crate) use profile::{Bounds, Profile, Profiles};
pub(crate) use projections::{GroupProjection, Projection, ProjectionTerms, Projections};
pub(crate) use samples::{Sample, Samples, arms, ties};
pub(crate) use sums::{Sums, Terms};
pub(crate) use trimmed::Trimmed;
pub(crate) use weighted::Weighted;

use crate::args::{Clustering, Rows, Spec};

/// How rows are taken out of a state again.
pub(crate) type Retract<S> = fn(&mut S, &Rows<'_>, &<S as State>::Terms) -> Result<()>;

/// The state of all groups; an ungrouped aggregate has one group.
///
/// A state is finite at all times: terms that would make it NaN or infinite are an error, so
/// that every row can be retracted.
pub(crate) trait State: Default + Clone + Debug + Send + Sync + 'static {
    /// What one batch of rows adds.
    type Terms;

    /// Takes rows that were added before out of the first group; without it, a sliding window is computed anew for each
    /// row.
    const RETRACT: Option<Retract<Self>> = None;

    /// An empty state of rows that belong together in this way.
    fn new(_clustering: Clustering) -> Self {
        Self::default()
    }

    /// Names and types of [`State::arrays`]; none is ever NULL.
    fn fields() -> Vec<(&'static str, DataType)>;

    /// Those that follow where rows belong together.
    fn cluster_fields(_clustering: Clustering) -> Vec<(&'static str, DataType)> {
        Vec::new()
    }

    /// Makes room for `groups` groups in all.
    fn resize(&mut self, groups: usize);

    fn groups(&self) -> usize;

    /// Adds all rows to the first group.
    fn add(&mut self, rows: &Rows<'_>, terms: &Self::Terms) -> Result<()>;

    /// Adds each row to the group named at its place in `groups`.
    fn add_grouped(&mut self, rows: &Rows<'_>, terms: &Self::Terms, groups: &[usize]) -> Result<()>;

    /// Adds states that [`State::arrays`] gave, the `i`-th to group `group(i)`.
    fn merge(&mut self, spec: &Spec, states: &[ArrayRef], group: impl Fn(usize) -> usize) -> Result<()>;

    /// Splits off the groups to emit; the others move down.
    fn take(&mut self, emit_to: EmitTo) -> Self;

    fn arrays(self) -> Vec<ArrayRef>;

    /// Bytes on the heap.
    fn size(&self) -> usize;
}
