//! From a job's queries to rows and vocabularies, and from those to batches.

pub mod population;
pub mod sampler;
pub mod vocabulary;

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, Float32Array, Float64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion::dataframe::DataFrame;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::{cast, ident, lit};
use futures::{StreamExt, TryStreamExt};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use self::sampler::{Row, RowSource};
use self::vocabulary::{Ids, Interner, Vocabulary, id_type};
use counterweight::advice::{outcome_cure, quoted};
use counterweight::context::JobContext;
use counterweight::error::{Context, Error, Result, invalid, suggestion};
use counterweight::job::{Columns, Job, PropensitySource, Role, Shape, Split};
use counterweight::model::Fingerprint;

/// Chunks of rows that a stream holds ready.
const CHUNKS_AHEAD: usize = 4;

/// A query whose columns are the roles, in the order user, item, treated, outcome, and propensity where it is used.
#[derive(Clone)]
pub struct DataSet {
    split: Split,
    user: String,
    item: String,
    outcome: String,
    treated: Option<String>,
    propensity: Option<String>,
    shape: Shape,
    frame: DataFrame,
}

/// The columns of one record batch, checked.
struct Chunk {
    users: Ids,
    items: Ids,
    treated: Float32Array,
    outcome: Float32Array,
    propensity: Option<Float64Array>,
}

impl DataSet {
    /// Plans the query `sql` that the job gives for `split`.
    ///
    /// # Errors
    /// Where it does not plan, or lacks a column that the job's roles name, or one is of no use in its role.
    pub async fn plan(context: &JobContext, split: Split, sql: &str) -> Result<Self> {
        let frame = context.query(&split.to_string(), sql).await?;
        let roles = &context.job.columns;
        let shape = context.job.population.shape;
        let required = |role: Role| match roles.get(role) {
            Some(column) => Ok(column.to_owned()),
            None => invalid!("columns.{role} is missing: name the column of {split} that plays this role"),
        };
        let (user, item) = (required(Role::User)?, required(Role::Item)?);
        let outcome = required(Role::Outcome)?;
        let treated = treated_column(&frame, roles, shape, split)?;
        let propensity = match reads_propensities(&context.job, split) {
            true => Some(required(Role::Propensity)?),
            false => None,
        };
        for name in [&user, &item] {
            id_type(&type_of(&frame, name, split)?, name).context(|| split)?;
        }
        for name in treated.iter().chain([&outcome]).chain(&propensity) {
            let data_type = type_of(&frame, name, split)?;
            if !(data_type.is_numeric() || matches!(data_type, DataType::Boolean | DataType::Null)) {
                invalid!("{split}: column {name:?} is {data_type}: it must be a boolean or a number");
            }
        }
        let treated_value = treated.as_ref().map_or_else(|| lit(1.0_f32), |name| cast(ident(name), DataType::Float32));
        let mut columns = vec![
            ident(&user).alias("user"),
            ident(&item).alias("item"),
            treated_value.alias("treated"),
            cast(ident(&outcome), DataType::Float32).alias("outcome"),
        ];
        columns.extend(propensity.iter().map(|name| cast(ident(name), DataType::Float64).alias("propensity")));
        let frame = frame.select(columns)?;
        Ok(Self { split, user, item, outcome, treated, propensity, shape, frame })
    }

    /// The rows in one stream, in the order in which one thread reads them: the same in every run.
    async fn stream(&self) -> Result<SendableRecordBatchStream> {
        let (mut state, plan) = self.frame.clone().into_parts();
        state.config_mut().options_mut().execution.target_partitions = 1;
        DataFrame::new(state, plan).execute_stream().await.context(|| self.split)
    }

    fn chunk(&self, batch: &RecordBatch) -> Result<Chunk> {
        let chunk = Chunk {
            users: Ids::of(batch.column(0), &self.user)?,
            items: Ids::of(batch.column(1), &self.item)?,
            treated: batch.column(2).as_primitive::<Float32Type>().clone(),
            outcome: batch.column(3).as_primitive::<Float32Type>().clone(),
            propensity: self.propensity.as_ref().map(|_| batch.column(4).as_primitive::<Float64Type>().clone()),
        };
        for (ids, name) in [(&chunk.users, &self.user), (&chunk.items, &self.item)] {
            if ids.null_count() > 0 {
                invalid!(
                    "column {name:?} is NULL in some rows; leave them out with WHERE {} IS NOT NULL",
                    quoted(name)
                );
            }
        }
        for row in 0..batch.num_rows() {
            self.check(&chunk, row)?;
        }
        Ok(chunk)
    }

    fn check(&self, chunk: &Chunk, row: usize) -> Result<()> {
        let (treated, outcome) = (chunk.treated.value(row), chunk.outcome.value(row));
        let name = self.treated.as_deref().unwrap_or("treated");
        let pair = || format!("(user {}, item {})", chunk.users.display(row), chunk.items.display(row));
        if chunk.treated.is_null(row) || !(treated == 0.0 || treated == 1.0) {
            let value = if chunk.treated.is_null(row) { "NULL".to_owned() } else { treated.to_string() };
            invalid!("column {name:?} is {value} for {}: it must be 0 or 1, or a boolean", pair());
        }
        if let (Some(name), Some(propensities)) = (&self.propensity, &chunk.propensity) {
            let value = propensities.is_valid(row).then(|| propensities.value(row));
            if value.is_none_or(|value| !(value > 0.0 && value < 1.0)) {
                let value = value.map_or("NULL".to_owned(), |value| value.to_string());
                invalid!(
                    "column {name:?} is {value} for {}: a propensity is above 0 and below 1; \
                     clip it with clip_propensity({quoted}, 0.01, 0.99) AS {quoted}, or leave the row out",
                    pair(),
                    quoted = quoted(name)
                );
            }
        }
        if treated == 0.0 {
            if self.shape == Shape::Matrix && self.split == Split::Train {
                invalid!(
                    "column {name:?} is 0 for {}: in the matrix shape the rows are the treated pairs; \
                     leave the others out with WHERE CAST({} AS INT) = 1, or use shape = \"log\"",
                    pair(),
                    quoted(name)
                );
            }
            return Ok(());
        }
        if chunk.outcome.is_null(row) {
            invalid!(
                "column {:?} is NULL for {}, which is treated: give it a value, or leave the row out",
                self.outcome,
                pair()
            );
        }
        if !(0.0..=1.0).contains(&outcome) {
            invalid!(
                "column {:?} is {outcome} for {}: an outcome is 0 to 1; {}",
                self.outcome,
                pair(),
                outcome_cure(&self.outcome, self.treated.as_deref(), outcome.into())
            );
        }
        Ok(())
    }
}

impl Chunk {
    fn row(&self, at: usize, user: u32, item: u32) -> Row {
        let treated = self.treated.value(at) == 1.0;
        let outcome = if treated { self.outcome.value(at) } else { 0.0 };
        Row { user, item, treated, outcome, propensity: self.propensity.as_ref().map(|values| values.value(at) as f32) }
    }
}

/// Whether the set of that split gives the propensities.
fn reads_propensities(job: &Job, split: Split) -> bool {
    split == Split::Train && job.train.as_ref().is_some_and(|train| train.propensity.source == PropensitySource::Column)
}

/// The treated column, where there is one: a log must have it, an evaluation set may.
fn treated_column(frame: &DataFrame, roles: &Columns, shape: Shape, split: Split) -> Result<Option<String>> {
    let Some(name) = roles.get(Role::Treated) else {
        if shape == Shape::Log && split == Split::Train {
            invalid!("columns.treated is missing: in a log it tells the rows whose outcome is known");
        }
        return Ok(None);
    };
    let present = frame.schema().has_column_with_unqualified_name(name);
    if !present && (shape == Shape::Matrix || split != Split::Train) {
        return Ok(None);
    }
    Ok(Some(name.to_owned()))
}

fn type_of(frame: &DataFrame, name: &str, split: Split) -> Result<DataType> {
    match frame.schema().field_with_unqualified_name(name) {
        Ok(field) => Ok(field.data_type().clone()),
        Err(_) => {
            let known = frame.schema().fields().iter().map(|field| field.name().as_str());
            invalid!("{split} has no column {name:?}{}", suggestion(name, known))
        }
    }
}

/// Adds up the hashes of rows.
#[derive(Default)]
struct Hasher {
    rows: u64,
    treated: u64,
    sum: u128,
    bytes: Vec<u8>,
}

impl Hasher {
    fn add(&mut self, chunk: &Chunk, at: usize) {
        self.bytes.clear();
        chunk.users.write(at, &mut self.bytes);
        chunk.items.write(at, &mut self.bytes);
        let row = chunk.row(at, 0, 0);
        self.bytes.push(u8::from(row.treated));
        self.bytes.extend_from_slice(&row.outcome.to_le_bytes());
        self.bytes.extend(row.propensity.iter().flat_map(|propensity| propensity.to_le_bytes()));
        let mut word = [0; 16];
        word.copy_from_slice(&blake3::hash(&self.bytes).as_bytes()[..16]);
        self.sum = self.sum.wrapping_add(u128::from_le_bytes(word));
        self.rows += 1;
        self.treated += u64::from(row.treated);
    }

    fn finish(self) -> Fingerprint {
        Fingerprint { rows: self.rows, treated: self.treated, hash: format!("{:032x}", self.sum) }
    }
}

/// The training set after one pass over it.
#[derive(Debug)]
pub struct Training {
    /// Every user.
    pub users: Arc<Vocabulary>,
    /// Every item.
    pub items: Arc<Vocabulary>,
    /// The rows, unless there were more than were to be kept.
    pub rows: Option<Vec<Row>>,
    /// What the set held.
    pub fingerprint: Fingerprint,
    /// Treated rows whose outcome is above one half.
    pub positives: u64,
}

/// Where the index of an id comes from.
enum Side {
    Fixed(Arc<Vocabulary>),
    Growing(Interner),
}

impl Side {
    fn new(fixed: Option<Vocabulary>, name: &str, data_type: &DataType) -> Result<Self> {
        Ok(match fixed {
            Some(vocabulary) => Self::Fixed(Arc::new(vocabulary)),
            None => Self::Growing(Interner::new(name, data_type)?),
        })
    }

    fn indices(&mut self, ids: &Ids, name: &str) -> Result<Vec<u32>> {
        match self {
            Self::Growing(interner) => interner.intern(ids),
            Self::Fixed(vocabulary) => known(&vocabulary.look_up(ids, name)?, ids, name),
        }
    }

    fn finish(self) -> Result<(Arc<Vocabulary>, Option<Vec<u32>>)> {
        Ok(match self {
            Self::Fixed(vocabulary) => (vocabulary, None),
            Self::Growing(interner) => {
                let (vocabulary, moved) = interner.finish()?;
                (Arc::new(vocabulary), Some(moved))
            }
        })
    }
}

fn known(found: &[Option<u32>], ids: &Ids, name: &str) -> Result<Vec<u32>> {
    let mut known = Vec::with_capacity(found.len());
    for (row, index) in found.iter().enumerate() {
        let Some(index) = index else {
            invalid!(
                "column {name:?} holds {}, which the population does not list; \
                 add it to population.users or population.items",
                ids.display(row)
            )
        };
        known.push(*index);
    }
    Ok(known)
}

/// Reads the training set once: checks every row, collects the ids that `users` and `items` do not fix, and keeps the
/// rows if there are at most `keep`.
pub async fn scan(
    set: &DataSet,
    users: Option<Vocabulary>,
    items: Option<Vocabulary>,
    keep: usize,
) -> Result<Training> {
    let schema = set.frame.schema();
    let mut users = Side::new(users, &set.user, schema.field(0).data_type())?;
    let mut items = Side::new(items, &set.item, schema.field(1).data_type())?;
    let mut rows = Some(Vec::new());
    let (mut hasher, mut positives) = (Hasher::default(), 0);
    let mut stream = set.stream().await?;
    while let Some(batch) = stream.try_next().await.context(|| set.split)? {
        let chunk = set.chunk(&batch).context(|| set.split)?;
        let user = users.indices(&chunk.users, &set.user).context(|| set.split)?;
        let item = items.indices(&chunk.items, &set.item).context(|| set.split)?;
        for (at, (user, item)) in user.into_iter().zip(item).enumerate() {
            hasher.add(&chunk, at);
            let row = chunk.row(at, user, item);
            positives += u64::from(row.treated && row.is_positive());
            if let Some(rows) = &mut rows {
                rows.push(row);
            }
        }
        rows = rows.filter(|rows| rows.len() <= keep);
    }
    let fingerprint = hasher.finish();
    if fingerprint.rows == 0 {
        invalid!("{} gives no row: check its WHERE, and the tables it reads", set.split);
    }
    if fingerprint.treated == 0 {
        invalid!("{} has no treated row: there is no outcome to learn from", set.split);
    }
    let (users, moved_users) = users.finish()?;
    let (items, moved_items) = items.finish()?;
    for row in rows.iter_mut().flatten() {
        row.user = moved_users.as_ref().map_or(row.user, |moved| moved[row.user as usize]);
        row.item = moved_items.as_ref().map_or(row.item, |moved| moved[row.item as usize]);
    }
    Ok(Training { users, items, rows, fingerprint, positives })
}

/// An evaluation set.
#[derive(Debug)]
pub struct Evaluation {
    /// The rows whose user and item are known.
    pub rows: Vec<Row>,
    /// How many rows have an unknown user or item, and were left out.
    pub unknown: usize,
    /// What the set held, unknown ids included.
    pub fingerprint: Fingerprint,
}

/// Reads an evaluation set. Rows whose user or item is unknown are counted and left out.
///
/// # Errors
/// Where no row is left.
pub async fn read(set: &DataSet, users: &Vocabulary, items: &Vocabulary) -> Result<Evaluation> {
    let (mut rows, mut unknown, mut hasher) = (Vec::new(), 0, Hasher::default());
    let mut stream = set.stream().await?;
    while let Some(batch) = stream.try_next().await.context(|| set.split)? {
        let chunk = set.chunk(&batch).context(|| set.split)?;
        let user = users.look_up(&chunk.users, &set.user).context(|| set.split)?;
        let item = items.look_up(&chunk.items, &set.item).context(|| set.split)?;
        for (at, pair) in user.into_iter().zip(item).enumerate() {
            hasher.add(&chunk, at);
            match pair {
                (Some(user), Some(item)) => rows.push(chunk.row(at, user, item)),
                _ => unknown += 1,
            }
        }
    }
    if !rows.iter().any(|row| row.treated) {
        let why = if unknown > 0 {
            format!(": {unknown} rows have a user or item unknown in training")
        } else {
            String::new()
        };
        invalid!("{} gives no treated row to evaluate{why}", set.split);
    }
    Ok(Evaluation { rows, unknown, fingerprint: hasher.finish() })
}

/// A training set too large to keep: every pass runs its query again.
pub struct RowStream {
    set: DataSet,
    users: Arc<Vocabulary>,
    items: Arc<Vocabulary>,
    runtime: Handle,
}

impl RowStream {
    /// The rows of `set`, read by tasks on `runtime`.
    pub fn new(set: DataSet, users: Arc<Vocabulary>, items: Arc<Vocabulary>, runtime: Handle) -> Self {
        Self { set, users, items, runtime }
    }
}

impl RowSource for RowStream {
    fn read(&self) -> Box<dyn Iterator<Item = Result<Vec<Row>>> + '_> {
        let (sender, mut receiver) = mpsc::channel(CHUNKS_AHEAD);
        let (set, users, items) = (self.set.clone(), Arc::clone(&self.users), Arc::clone(&self.items));
        self.runtime.spawn(async move {
            let mut stream = match set.stream().await {
                Ok(stream) => stream,
                Err(error) => return drop(sender.send(Err(error)).await),
            };
            // A receiver that is gone has seen enough.
            while let Some(batch) = stream.next().await {
                let rows = batch.map_err(Error::from).and_then(|batch| rows(&set, &batch, &users, &items));
                if sender.send(rows.context(|| set.split)).await.is_err() {
                    return;
                }
            }
        });
        Box::new(std::iter::from_fn(move || receiver.blocking_recv()))
    }
}

fn rows(set: &DataSet, batch: &RecordBatch, users: &Vocabulary, items: &Vocabulary) -> Result<Vec<Row>> {
    let chunk = set.chunk(batch)?;
    let user = known(&users.look_up(&chunk.users, &set.user)?, &chunk.users, &set.user)?;
    let item = known(&items.look_up(&chunk.items, &set.item)?, &chunk.items, &set.item)?;
    Ok(user.into_iter().zip(item).enumerate().map(|(at, (user, item))| chunk.row(at, user, item)).collect())
}
