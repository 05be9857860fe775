//! The users and items that a job lists.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::dataframe::DataFrame;
use futures::TryStreamExt;

use crate::data::vocabulary::{Ids, Interner, Vocabulary, id_type};
use counterweight::context::JobContext;
use counterweight::error::{Context, Result, invalid};
use counterweight::job::PropensitySource;

/// A query that lists every user or every item: the ids first, then columns of covariates.
pub struct Listing {
    /// The key of the query in the job file.
    key: &'static str,
    id: String,
    covariates: Vec<String>,
    frame: DataFrame,
}

/// Numbers that describe each user or each item, in the order of the vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub struct Covariates {
    /// Their names.
    pub names: Vec<String>,
    /// As many for the first user, for the second, and so on; all of them finite.
    pub values: Vec<f64>,
}

impl Listing {
    /// Plans the query that the job gives under `key`.
    ///
    /// # Errors
    /// Where it does not plan, has columns of types that are of no use, or has covariates that the job does not use.
    pub async fn plan(context: &JobContext, key: &'static str, sql: &str) -> Result<Self> {
        let frame = context.query(key, sql).await?;
        let fields = frame.schema().fields();
        let source = context.job.train.as_ref().map(|train| train.propensity.source);
        if fields.len() > 1 && source != Some(PropensitySource::Logistic) {
            invalid!(
                "{key} has {} columns: its one column lists the ids; further ones are covariates, which \
                 train.propensity.source = \"logistic\" uses",
                fields.len()
            );
        }
        let (id, covariates) = fields.split_first().expect("a query has a column");
        id_type(id.data_type(), id.name()).context(|| key)?;
        for field in covariates {
            if !(field.data_type().is_numeric() || field.data_type() == &DataType::Boolean) {
                invalid!(
                    "{key}: column {:?} is {}: a covariate is a number or a boolean; make one of each value with \
                     CASE WHEN {0} = … THEN 1 ELSE 0 END",
                    field.name(),
                    field.data_type()
                );
            }
        }
        let (id, covariates) = (id.name().clone(), covariates.iter().map(|field| field.name().clone()).collect());
        Ok(Self { key, id, covariates, frame })
    }

    /// The ids, and their covariates where there are any.
    ///
    /// # Errors
    /// Where there is no row, a value is NULL or not finite, or an id is listed twice with different covariates.
    pub async fn read(self) -> Result<(Vocabulary, Option<Covariates>)> {
        let Self { key, id, covariates: names, frame } = self;
        let schema = frame.schema();
        let mut interner = Interner::new(&id, schema.field(0).data_type()).context(|| key)?;
        let mut rows: Vec<f64> = Vec::new();
        let mut stream = frame.execute_stream().await.context(|| key)?;
        while let Some(batch) = stream.try_next().await.context(|| key)? {
            let ids = Ids::of(batch.column(0), &id).context(|| key)?;
            let indices = interner.intern(&ids).context(|| key)?;
            let columns = batch.columns()[1..].iter().map(as_numbers).collect::<Result<Vec<_>>>()?;
            for (row, index) in indices.into_iter().enumerate() {
                let start = index as usize * names.len();
                for (at, (name, column)) in names.iter().zip(&columns).enumerate() {
                    let value = column.value(row);
                    if column.is_null(row) || !value.is_finite() {
                        let value = if column.is_null(row) { "NULL".to_owned() } else { value.to_string() };
                        invalid!(
                            "{key}: column {name:?} is {value} for {}: a covariate is a finite number; \
                             give it one with coalesce, or leave the row out",
                            ids.display(row)
                        );
                    }
                    match rows.get(start + at) {
                        None => rows.push(value),
                        Some(known) if *known == value => {}
                        Some(known) => invalid!(
                            "{key} lists {} twice, with {name} = {known} and {value}; keep one row of each id",
                            ids.display(row)
                        ),
                    }
                }
            }
        }
        let (vocabulary, moved) = interner.finish()?;
        if vocabulary.is_empty() {
            invalid!("{key} gives no row");
        }
        if names.is_empty() {
            return Ok((vocabulary, None));
        }
        let mut values = vec![0.0; rows.len()];
        for (row, to) in rows.chunks(names.len()).zip(moved) {
            values[to as usize * names.len()..][..names.len()].copy_from_slice(row);
        }
        Ok((vocabulary, Some(Covariates { names, values })))
    }
}

fn as_numbers(column: &ArrayRef) -> Result<Float64Array> {
    Ok(cast(column, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
}

impl Covariates {
    /// The hash of those of users and of items, in hexadecimal; none where there are none.
    pub fn hash(sides: [Option<&Self>; 2]) -> Option<String> {
        let mut hasher = blake3::Hasher::new();
        for side in sides {
            hasher.update(&side.map_or(0, |side| side.names.len() as u64).to_le_bytes());
            for name in side.iter().flat_map(|side| &side.names) {
                hasher.update(&(name.len() as u64).to_le_bytes());
                hasher.update(name.as_bytes());
            }
            for value in side.iter().flat_map(|side| &side.values) {
                hasher.update(&value.to_le_bytes());
            }
        }
        sides.iter().any(Option::is_some).then(|| hasher.finalize().to_hex()[..32].to_owned())
    }
}
